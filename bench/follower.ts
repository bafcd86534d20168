/**
 * Bench: how fast a copy follows the log. Pages of 1,000 events and batches are opened, decoded, chained, stepped and
 * folded into a projection with its digest, as in a node. Batches have 512 events, as under load, or 100, where each
 * signature weighs more. Beside them a bare loop hashes the same bytes; no follower that checks the chain can be
 * faster.
 *
 * Budget: 200,000 events per second of processor time of this thread. Wall-clock time is printed too, but on a shared
 * machine it measures the other load.
 *
 *   node bench/follower.ts [--events 200000] [--rounds 5]
 */
import { hash, randomBytes, randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { decodeEvents, type Link, linkOf, type SessionId, type UserId, userIdOf } from "../src/events/index.ts";
import { openBatch } from "../src/replication/fanout/index.ts";
import { createPersonKeys, type FollowerInput, newFollower, stepFollower } from "../src/replication/node/index.ts";
import { LocalProjection } from "../src/replication/node/local-projection.ts";
import { createBrokerOpener } from "../src/replication/wire/index.ts";
import { cluster, History, leaderOf, sealMessage, secret } from "../test/replication/support.ts";
import { aSession } from "../test/support/log-writer.ts";
import { reportBudgets, whole } from "./support/budget.ts";
import { percentile } from "./support/histogram.ts";

const { values } = parseArgs({
  options: { events: { type: "string", default: "200000" }, rounds: { type: "string", default: "5" } },
});
const pageEvents = 1_000;
const batchSizes = [100, 512];
const rateMin = 200_000;
const count = Number(values.events);
const people = 10_000;

/** The events of a busy cluster: seven sessions begin for every three that end. Ids look like those of brokers. */
function busyLog(): History {
  const log = new History().open(1);
  const userIds = Array.from({ length: people }, (_, n) => userIdOf("https://idp.example", `person ${n}`));
  const sessionIds = Array.from({ length: count + 10 }, () => randomUUID() as SessionId);
  const whose = (n: number) => ({ sessionId: sessionIds[n] as SessionId, userId: userIds[n % people] as UserId });
  for (let n = 1; log.entries.length < count; n++) {
    log.add(
      n % 10 < 7
        ? aSession({ ...whose(n), profile: randomBytes(150) })
        : { type: "SessionRevoked", ...whose(n - 5), reason: "sign-out" },
    );
  }
  return log;
}

type Piece = Readonly<{ previous: Link; entries: readonly Uint8Array[] }>;

function pieces(log: History, size: number): Piece[] {
  const all: Piece[] = [];
  for (let after = 0; after < count; after += size) {
    const entries = log.entries.slice(after, after + size).map(({ bytes }) => Uint8Array.from(bytes));
    all.push({ previous: log.linkAt(after), entries });
  }
  return all;
}

function newNode() {
  const copy = new LocalProjection(createPersonKeys([secret]));
  let follower = newFollower;
  return {
    copy,
    feed(input: FollowerInput): void {
      const [next, effects] = stepFollower(follower, input);
      follower = next;
      for (const effect of effects) if (effect.type === "apply") copy.fold(effect.events);
    },
  };
}

function followPages(pages: readonly Piece[], head: Link): void {
  const node = newNode();
  node.feed({ type: "readRequested" });
  for (const { previous, entries } of pages) {
    const events = decodeEvents(entries, previous);
    const last = events.at(-1);
    node.feed({ type: "page", page: { previous, events, last: last === undefined ? previous : linkOf(last) }, head });
  }
  if (node.copy.projection.applied.hash !== head.hash) throw new Error("the pages did not lead to the head");
}

function followBatches(envelopes: readonly Uint8Array[], head: Link): void {
  const node = newNode();
  const open = createBrokerOpener({ cluster, secrets: [secret] });
  for (const envelope of envelopes) {
    const opened = openBatch(envelope, open);
    if ("refused" in opened) throw new Error(opened.detail);
    const { epoch, previous, last } = opened.batch;
    node.feed({ type: "delivery", batch: { epoch, previous, last, events: opened.events } });
  }
  if (node.copy.projection.applied.hash !== head.hash) throw new Error("the batches did not lead to the head");
}

function hashOnly(pages: readonly Piece[]): void {
  for (const { entries } of pages) for (const bytes of entries) hash("sha256", bytes, "hex");
}

type Rate = Readonly<{ core: number; wall: number }>;

function perSecond(run: () => void): Rate {
  const startedAt = performance.now();
  const cpuAt = process.threadCpuUsage();
  run();
  const { user, system } = process.threadCpuUsage(cpuAt);
  return { core: count / ((user + system) / 1e6), wall: (count / (performance.now() - startedAt)) * 1_000 };
}

const log = busyLog();
const { head } = log;
const pages = pieces(log, pageEvents);
const speaker = leaderOf(1);

function envelopesOf(batchEvents: number): Uint8Array[] {
  const envelopes: Uint8Array[] = [];
  for (let after = 0; after < count; after += batchEvents) {
    const batch = log.batch(after, Math.min(after + batchEvents, count));
    envelopes.push(Uint8Array.from(sealMessage(speaker, "batch", batch)));
  }
  return envelopes;
}

type Subject = Readonly<{ name: string; run: () => void; rates: Rate[] }>;
const floor: Subject = { name: "sha256 of the same bytes, nothing else", run: () => hashOnly(pages), rates: [] };
const subjects: readonly Subject[] = [
  { name: `pages of ${pageEvents}`, run: () => followPages(pages, head), rates: [] },
  ...batchSizes.map((size) => {
    const envelopes = envelopesOf(size);
    return { name: `signed batches of ${size}`, run: () => followBatches(envelopes, head), rates: [] };
  }),
];
for (const { run } of subjects) run(); // warm-up
for (let round = 0; round < Number(values.rounds); round++)
  for (const { run, rates } of [floor, ...subjects]) rates.push(perSecond(run));

const median = ({ rates }: Subject, what: keyof Rate): number =>
  percentile(
    rates.map((rate) => rate[what]),
    50,
  );
console.log(`${whole(count)} events, ${values.rounds} alternating rounds, medians`);
for (const subject of [floor, ...subjects])
  console.log(
    `  ${subject.name.padEnd(40)} ${whole(median(subject, "core")).padStart(9)} a second of its core   ${whole(median(subject, "wall")).padStart(9)} on the wall   ${(median(subject, "core") / median(floor, "core")).toFixed(3)} ×`,
  );
reportBudgets(
  subjects.map((subject) => ({
    what: `follower, ${subject.name}`,
    result: `${whole(median(subject, "core"))}/s`,
    ...(subject.name.endsWith(" 100")
      ? { budget: "", met: null }
      : { budget: `≥ ${whole(rateMin)}/s`, met: median(subject, "core") >= rateMin }),
  })),
);
