/**
 * Bench: what one sign-in costs every node when the provider names thousands of groups. Prints the processor time of
 * this thread for folding one `UserGroupsReplaced` event: groups that no node knew, other groups for the same
 * person, and the same groups again.
 *
 *   node bench/groups.ts [--rounds 5]
 */
import { parseArgs } from "node:util";
import { type GroupId, Projection, type UserId } from "../src/events/index.ts";
import { History } from "../test/replication/support.ts";
import { percentile } from "./support/histogram.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const rounds = Number(values.rounds);
const sizes = [100, 1_000, 5_000, 20_000];

const groupsOf = (kind: string, count: number): GroupId[] =>
  Array.from({ length: count }, (_, n) => `group ${n} of the ${kind} directory` as GroupId);

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

/** Milliseconds for: new groups, other groups instead, the same groups again. */
function measure(count: number, round: number): readonly number[] {
  const log = new History().open(1);
  const userId = `person ${round}` as UserId;
  const groupLists = [groupsOf("first", count), groupsOf("second", count), groupsOf("second", count)];
  for (const groupIds of groupLists) log.add({ type: "UserGroupsReplaced", userId, source: "idp", groupIds });
  const projection = new Projection();
  const times = log.entries.map(({ recorded }) => {
    const startedAt = cpuMs();
    projection.apply(recorded);
    return cpuMs() - startedAt;
  });
  return times.slice(1);
}

for (let round = 0; round < 3; round++) measure(1_000, round); // warm-up
for (const count of sizes) {
  const all = Array.from({ length: rounds }, (_, round) => measure(count, round));
  const [fresh, replaced, same] = [0, 1, 2].map((at) =>
    percentile(
      all.map((times) => times[at] ?? 0),
      50,
    ).toFixed(1),
  );
  console.log(`${count} groups: new ${fresh} ms, replaced ${replaced} ms, unchanged ${same} ms`);
}
