/**
 * Bench: pages of the lists of sessions and people, with 100,000 of each: processor time and the longest piece of work
 * between two turns of the event loop, beside a plain pass that reads, filters and sorts everything for one page.
 *
 *   node bench/lists.ts [--sessions 100000] [--rounds 20]
 */
import { parseArgs } from "node:util";
import { PeopleListIndex } from "../src/console/api/lists/people-index.ts";
import { listPeople } from "../src/console/api/lists/people-list.ts";
import { SessionListIndex } from "../src/console/api/lists/session-index.ts";
import { listSessions, type SessionsQuery } from "../src/console/api/lists/session-list.ts";
import { describeSession } from "../src/console/api/operator-views.ts";
import type { UserId } from "../src/events/index.ts";
import { ListedWorld, startedAt } from "../test/console/api/lists/listed-world.ts";
import { percentile } from "./support/histogram.ts";

const { values } = parseArgs({
  options: { sessions: { type: "string", default: "100000" }, rounds: { type: "string", default: "20" } },
});
const [count, rounds] = [Number(values.sessions), Number(values.rounds)];

const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};

const world = new ListedWorld();
for (let n = 0; n < count; n++) {
  const name = `Person ${(n * 7_919) % count}`;
  const userId: UserId = world.person({ subject: `p${n}`, name, email: `person-${n}@example.com` });
  world.session(userId, startedAt - ((n * 104_729) % count) * 100);
}
let [pieceFrom, longest] = [cpuMs(), 0];
const { deps: plain } = world;
const deps: typeof plain = {
  ...plain,
  now: () => Date.now() as never,
  async sleep(ms, signal) {
    longest = Math.max(longest, cpuMs() - pieceFrom);
    await plain.sleep(ms, signal);
    pieceFrom = cpuMs();
  },
};
const indexes = { people: new PeopleListIndex(deps), sessions: new SessionListIndex(deps) };

async function measure(what: string, page: () => Promise<unknown>, times = rounds): Promise<void> {
  const spent: number[] = [];
  longest = 0;
  for (let round = 0; round < times; round++) {
    const from = cpuMs();
    pieceFrom = from;
    await page();
    longest = Math.max(longest, cpuMs() - pieceFrom);
    spent.push(cpuMs() - from);
  }
  const [p50, p95] = [percentile(spent, 50).toFixed(1), percentile(spent, 95).toFixed(1)];
  console.log(`${what}: p50 ${p50} ms, p95 ${p95} ms, longest piece ${longest.toFixed(1)} ms`);
}

const query = (parts: Partial<SessionsQuery> = {}): SessionsQuery => ({
  limit: 100,
  sort: "-issued",
  status: "all",
  ...parts,
});
const heap = (): number => Math.round(process.memoryUsage().heapUsed / 1_048_576);
globalThis.gc?.();
console.log(`${count} people with a session each; heap ${heap()} MB`);
await measure("sessions, first request, which makes the index", () => listSessions(deps, indexes, query()), 1);
await measure(
  "people, first request, which opens every profile",
  () => listPeople(deps, indexes.people, { limit: 100, sort: "name", status: "all" }),
  1,
);
globalThis.gc?.();
console.log(`heap ${heap()} MB`);
await measure("sessions, newest first", () => listSessions(deps, indexes, query()));
await measure("sessions, by person", () => listSessions(deps, indexes, query({ sort: "person" })));
let after: string | undefined;
await measure("sessions, one page after the other", async () => {
  const page = await listSessions(deps, indexes, query({ after }));
  after = "next" in page ? (page.next ?? undefined) : undefined;
});
await measure("sessions, of a search that finds one", () => listSessions(deps, indexes, query({ q: "person-77777@" })));
await measure(
  "sessions, revoked ones of which there are none",
  () => listSessions(deps, indexes, query({ status: "revoked" })),
  5,
);
await measure("people, by name", () => listPeople(deps, indexes.people, { limit: 100, sort: "name", status: "all" }));
await measure("people, a search that finds one", () =>
  listPeople(deps, indexes.people, { limit: 100, sort: "name", status: "all", q: "person-77777@" }),
);
await measure(
  "yardstick: a pass that describes, sorts and cuts all sessions",
  async () => {
    const parts = { now: deps.now(), idle: deps.idle, known: deps.providers };
    const all = [...deps.replica.projection.sessions()].map((session) => describeSession(deps.replica, session, parts));
    all.sort((a, b) => ((a.issuedAt ?? "") < (b.issuedAt ?? "") ? 1 : -1));
    return all.slice(0, 100);
  },
  3,
);
