/**
 * Bench: the longest piece of work of a node that decides while groups of thousands arrive, one batch for each: opening
 * the batch, and folding it in slices. Meanwhile no request is decided, so this is what the slowest decision waits.
 *
 *   node bench/group-pauses.ts [--groups 20] [--members 5000] [--per-event 250]
 *
 * Measured in processor time of the main thread between two turns of the event loop, which other processes on the
 * machine do not lengthen. `--per-event 2000` is what leaders wrote before. Budget: 10 ms.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import type { CardeaEvent, GroupId, UserId } from "../src/events/index.ts";
import { createLocalFanout } from "../src/replication/fanout/index.ts";
import { startReplica } from "../src/replication/node/index.ts";
import { systemClock } from "../src/replication/runtime/index.ts";
import { FakeBrokers } from "../test/replication/fake-brokers.ts";
import { aNode, cluster, quiet, sealMessage, secret } from "../test/replication/support.ts";
import { reportBudgets } from "./support/budget.ts";
import { percentile } from "./support/histogram.ts";

const { values } = parseArgs({
  options: {
    groups: { type: "string", default: "20" },
    members: { type: "string", default: "5000" },
    "per-event": { type: "string", default: "250" },
  },
});
const [groups, members, perEvent] = [Number(values.groups), Number(values.members), Number(values["per-event"])];
const people = 20_000;
const perBatch = 500;
const longestMsMax = 10;

const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};
const fanout = createLocalFanout({ logger: quiet });
const brokers = new FakeBrokers({ fanout });
const node = startReplica({
  ...{ name: aNode, role: "proxy", region: "test", version: "1", cluster, secret, clock: systemClock, logger: quiet },
  ...{ databroker: brokers.databroker, fanout, configHash: () => "config", windowMs: () => 65_000 },
  ...{ randomBytes: (size) => randomBytes(size), dataDir: null, renewMs: 500 },
});
if (!(await node.whenReady(10_000))) throw new Error("the node is not ready");
const userIds = Array.from({ length: people }, () => randomUUID() as string as UserId);
for (let from = 0; from < people; from += perBatch) {
  const some = userIds.slice(from, from + perBatch);
  brokers.commit(...some.map((userId): CardeaEvent => ({ type: "UserUpserted", userId, profile: randomBytes(100) })));
  await new Promise((resolve) => setTimeout(resolve, 2));
}
node.onChange(() => {});
const longest: number[] = [];
for (let group = 0; group < groups; group++) longest.push(await longestPiece(sealGroup(group)));
await node.stop();
const [p50, most] = [percentile(longest, 50), Math.max(...longest)];
console.log(
  `${groups} groups of ${members}, ${perEvent} an event: longest piece of work p50 ${p50.toFixed(1)} ms, ` +
    `max ${most.toFixed(1)} ms of processor time`,
);
reportBudgets([
  {
    what: "longest piece of work of a node while large groups arrive",
    result: `${most.toFixed(1)} ms`,
    budget: `≤ ${longestMsMax} ms`,
    met: most <= longestMsMax,
  },
]);

/** Commits a group as one batch, and returns it as the fan-out would deliver it. */
function sealGroup(group: number): Uint8Array {
  const listed = Array.from({ length: members }, (_, n) => userIds[(group * 613 + n) % people] as UserId);
  const groupId = `group ${group}` as GroupId;
  const events: CardeaEvent[] = [];
  for (let from = 0; from < members; from += perEvent)
    events.push({
      ...{ type: "GroupMembersChanged", groupId, source: "scim", removed: [] },
      added: listed.slice(from, from + perEvent),
    });
  const before = brokers.log.entries.length;
  brokers.publishing = false;
  brokers.commit(...events);
  brokers.publishing = true;
  return sealMessage(brokers.leader, "batch", brokers.log.batch(before, brokers.log.entries.length, []));
}

async function longestPiece(envelope: Uint8Array): Promise<number> {
  let [before, most] = [cpuMs(), 0];
  const turn = (): void => {
    const now = cpuMs();
    most = Math.max(most, now - before);
    before = now;
  };
  fanout.publish(envelope);
  turn();
  while (node.applied.position < brokers.log.head.position) {
    await new Promise((resolve) => setImmediate(resolve));
    turn();
  }
  return most;
}
