/**
 * Bench: how a node grows with the number of sessions: ten per person, each person in five of the groups.
 *
 * Each size runs in its own process. It builds a projection from events, then folds a busy mix of more events,
 * reads session statuses, ends all sessions of one person, and decides requests of sessions drawn at random. At a
 * million nearly every session is decided for the first time, so its person's key is unwrapped and the profile opened.
 * Each figure is printed beside that of the smallest size. A flat cost is equal at ten thousand and ten million
 * sessions.
 *
 * Folding records the position of each fact, as a node does for explanations. Memory is (RSS − RSS of the empty
 * process) / sessions, groups and people included, after a full collection. Pauses are those of the garbage collector
 * in two seconds of this work, beside two idle seconds of the same heap, and one full collection.
 *
 *   node bench/growth.ts [--sizes 10000,100000,1000000]      10000000 takes some minutes and about 4 GB
 */
import { fork } from "node:child_process";
import { createHash, hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { PerformanceObserver } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { CallerCache, compilePolicies, decide, resolveCaller } from "../src/auth/index.ts";
import {
  type CardeaEvent,
  type Epoch,
  type EventId,
  effectOf,
  FactPositions,
  type GroupId,
  genesis,
  type PersonKey,
  type Position,
  type Profile,
  Projection,
  type Recorded,
  type SessionId,
  seal,
  streamOf,
  type UnixMs,
  type UserId,
  wrapKey,
} from "../src/events/index.ts";
import { createPersonKeys, type PersonKeys } from "../src/replication/node/index.ts";
import { personKeyWrap } from "../src/replication/wire/index.ts";
import { request, route, source } from "../test/auth/authorize/support.ts";
import { record } from "../test/events/support.ts";
import { reportBudgets, whole } from "./support/budget.ts";
import { percentile } from "./support/histogram.ts";

const { values } = parseArgs({
  options: { sizes: { type: "string", default: "10000,100000,1000000" }, only: { type: "string" } },
});
const measured = 10_000;
const rounds = 5;
const sessionsPerPerson = 10;
const groupsPerPerson = 5;
const decisions = 50_000;
const watchedMs = 2_000;
const profileBytes = 350; // twelve claims, sealed
const bytesPerSessionMax = 400;
/** Hashing this takes about as long as a first decision. */
const bareBytes = Buffer.alloc(52_000);
const now = 1_800_000_000_000 as UnixMs;
const secret = Buffer.alloc(32, 7);
const wrappingKey = personKeyWrap(secret);

type Pauses = Readonly<{ count: number; longestMs: number }>;
type Row = Readonly<
  Record<
    "size" | "fold" | "lookup" | "cut" | "bytes" | "p50" | "p99" | "bare50" | "bare99" | "fullMs" | "emptyFullMs",
    number
  >
> &
  Readonly<{ busy: Pauses; idle: Pauses }>;

async function compareAll(): Promise<void> {
  const rows: Row[] = [];
  for (const size of values.sizes.split(",")) {
    const child = fork(import.meta.filename, ["--only", size], {
      execArgv: ["--expose-gc", "--max-old-space-size=8192"],
    });
    const exited = once(child, "exit");
    const row = await Promise.race([
      once(child, "message").then(([message]) => message as Row),
      exited.then(() => null),
    ]);
    await exited;
    if (row === null) throw new Error(`nothing was measured at ${size} sessions`);
    rows.push(row);
  }
  print(rows);
}

function print(rows: readonly Row[]): void {
  const [smallest] = rows;
  if (smallest === undefined) return;
  const beside = (figure: (row: Row) => number) => (row: Row) =>
    `${whole(figure(row))} (${(figure(row) / figure(smallest)).toFixed(2)})`;
  const pauses = ({ count, longestMs }: Pauses): string => `${count}, ${longestMs.toFixed(1)} ms`;
  const columns: readonly (readonly [name: string, cell: (row: Row) => string])[] = [
    ["sessions", ({ size }) => whole(size)],
    ["B each", ({ bytes }) => whole(bytes)],
    ["fold/s (×)", beside(({ fold }) => fold)],
    ["lookup/s (×)", beside(({ lookup }) => lookup)],
    ["cut, µs", ({ cut }) => whole(cut)],
    ["decide p50, p99", ({ p50, p99 }) => `${p50.toFixed(1)}, ${p99.toFixed(1)} µs`],
    ["bare", ({ bare50, bare99 }) => `${bare50.toFixed(1)}, ${bare99.toFixed(1)} µs`],
    ["pauses: busy", ({ busy }) => pauses(busy)],
    ["idle", ({ idle }) => pauses(idle)],
    ["full, empty", ({ fullMs, emptyFullMs }) => `${fullMs.toFixed(0)}, ${emptyFullMs.toFixed(0)} ms`],
  ];
  const lines = [columns.map(([name]) => name), ...rows.map((row) => columns.map(([, cell]) => cell(row)))];
  const widths = columns.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  for (const line of lines) console.log(line.map((cell, column) => cell.padStart(widths[column] ?? 0)).join("   "));
  const largest = rows.at(-1) ?? smallest;
  reportBudgets([
    {
      what: `memory at ${whole(largest.size)} sessions, people and groups included`,
      result: `${whole(largest.bytes)} B each`,
      ...{ budget: `≤ ${bytesPerSessionMax} B`, met: largest.bytes <= bytesPerSessionMax },
    },
    {
      what: `first decision among ${whole(largest.size)} sessions, p99`,
      result: `${largest.p99.toFixed(1)} µs (bare hashing in turns: ${largest.bare99.toFixed(1)} µs)`,
      ...{ budget: "≤ 50 µs", met: largest.p99 <= 50 },
    },
    {
      what: `longest pause of the collector at ${whole(largest.size)} sessions`,
      result: `${largest.busy.longestMs.toFixed(1)} ms`,
      ...{ budget: "", met: null },
    },
  ]);
}

async function measure(size: number): Promise<Row> {
  const emptyFullMs = collectFully();
  const emptyBytes = process.memoryUsage.rss();
  const people = Math.max(1, Math.floor(size / sessionsPerPerson));
  const groups = Math.max(1, Math.floor(size / 50));
  const projection = new Projection();
  const positions = new FactPositions(0 as Position);
  const foldAll = (events: readonly CardeaEvent[]): void => {
    for (const event of events) {
      const recorded = unchained(event, projection.applied.position + 1);
      projection.apply(recorded);
      positions.record(recorded);
    }
  };
  const sealedBy = (person: number) => seal(profileOf(person), keyOf(person), nonceOf(person));
  for (let person = 0; person < people; person++) {
    const groupIds = Array.from({ length: groupsPerPerson }, (_, n) => groupOf((person * 7 + n * 13) % groups));
    const profile = sealedBy(person);
    const events: CardeaEvent[] = [{ type: "UserGroupsReplaced", userId: personOf(person), source: "idp", groupIds }];
    for (let n = person; n < size; n += people) events.push(created(n, person, profile));
    foldAll(events);
  }
  const fullMs = collectFully();
  const bytes = (process.memoryUsage.rss() - emptyBytes) / size;

  const keys = createPersonKeys([secret]);
  for (let person = 0; person < people; person++) keys.add([wrapKey(keyOf(person), wrappingKey, nonceOf(person))]);
  const node = new BusyNode(projection, { size, people, positions, keys });
  for (let round = 0; round < rounds; round++) node.round();
  const took = node.decide(decisions);
  const busy = await pausesOf(async (until) => {
    while (performance.now() < until) {
      node.round();
      node.decide(1_000);
      await sleep(0);
    }
  });
  const idle = await pausesOf((until) => sleep(until - performance.now()));
  return {
    ...{ size, bytes, fullMs, emptyFullMs, busy, idle },
    ...{ fold: percentile(node.folds, 50), lookup: percentile(node.lookups, 50), cut: percentile(node.cuts, 50) },
    ...{ p50: at(took.decisions, 0.5), p99: at(took.decisions, 0.99) },
    ...{ bare50: at(took.bare, 0.5), bare99: at(took.bare, 0.99) },
  };
}

class BusyNode {
  readonly folds: number[] = [];
  readonly lookups: number[] = [];
  readonly cuts: number[] = [];
  readonly #projection: Projection;
  readonly #positions: FactPositions;
  readonly #size: number;
  readonly #people: number;
  readonly #policies = policiesOf();
  readonly #cache = new CallerCache();
  readonly #keys: PersonKeys;
  #next: number;
  #cutAt = 0;

  constructor(
    projection: Projection,
    {
      size,
      people,
      positions,
      keys,
    }: Readonly<{ size: number; people: number; positions: FactPositions; keys: PersonKeys }>,
  ) {
    this.#projection = projection;
    this.#positions = positions;
    this.#keys = keys;
    this.#size = size;
    this.#people = people;
    this.#next = size;
  }

  /** Seven of ten sessions begin and three end, sessions are looked up, one person's sessions are cut. */
  round(): void {
    const projection = this.#projection;
    const profile = randomBytes(profileBytes);
    const events = Array.from({ length: measured }, (_, n): CardeaEvent => {
      if (n % 10 < 7) return created(this.#next++, this.#next % this.#people, profile);
      const ended = this.#next - 5;
      return {
        type: "SessionRevoked",
        sessionId: idOf(ended),
        userId: personOf(ended % this.#people),
        reason: "operator",
      };
    });
    const busy = record(events, projection.applied);
    this.folds.push(
      perSecond(measured, () => {
        for (const event of busy) {
          projection.apply(event);
          this.#positions.record(event);
        }
      }),
    );
    const ids = Array.from({ length: measured }, () => idOf(Math.floor(Math.random() * this.#size)));
    this.lookups.push(perSecond(measured, () => ids.map((id) => projection.sessionStatus(id))));
    const person = personOf(this.#cutAt++);
    const cut = record(
      [{ type: "UserSessionsRevoked", userId: person, upTo: null, reason: "operator" }],
      projection.applied,
    );
    const startedAt = performance.now();
    for (const event of cut) projection.apply(event);
    this.cuts.push((performance.now() - startedAt) * 1_000);
  }

  /**
   * @returns microseconds each, sorted: of decisions, and of bare hashing of equal length in alternation, which shows
   * the machine's share
   */
  decide(count: number): Readonly<{ decisions: Float64Array; bare: Float64Array }> {
    const decisions = new Float64Array(count);
    const bare = new Float64Array(count);
    const open = this.#keys.open;
    const options = { now, idpIds: new Set(["bench"]), credentialInHeader: false, open, cache: this.#cache };
    const what = request({ path: "/" });
    for (let n = 0; n < count; n++) {
      const drawn = Math.floor(Math.random() * this.#size);
      const handle = { sessionId: idOf(drawn), userId: personOf(drawn % this.#people), idpId: "bench" };
      const startedAt = process.hrtime.bigint();
      const caller = resolveCaller(this.#projection, handle, options);
      if (caller.type === "behind") throw new Error(caller.why);
      decide({ policies: this.#policies, routeId: "route", caller, request: what, now });
      const between = process.hrtime.bigint();
      hash("sha256", bareBytes, "latin1");
      const endedAt = process.hrtime.bigint();
      decisions[n] = Number(between - startedAt) / 1_000;
      bare[n] = Number(endedAt - between) / 1_000;
    }
    return { decisions: decisions.sort(), bare: bare.sort() };
  }
}

/** A recorded event without a true hash, which a projection stores and does not check: fills one quickly. */
function unchained(event: CardeaEvent, position: number): Recorded {
  const place = { epoch: 1 as Epoch, position: position as Position, hash: genesis.hash, version: 1, schemaVersion: 1 };
  return {
    ...place,
    ...{ eventId: "" as EventId, stream: streamOf(event), type: event.type, effect: effectOf(event.type) },
    ...{ recordedAt: now, actor: "bench", cause: null, event },
  };
}

const idBytes = Buffer.alloc(16);
/** Sixteen bytes that look random, like ids. */
function idFrom(kind: number, n: number): string {
  for (let word = 0; word < 4; word++) {
    const mixed = Math.imul(n ^ (kind + word * 0x9e37_79b1), 0x85eb_ca6b);
    idBytes.writeUInt32LE(Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35) >>> 0, word * 4);
  }
  return idBytes.toString("base64url");
}
function idOf(n: number): SessionId {
  return idFrom(1, n) as SessionId;
}
function personOf(n: number): UserId {
  return idFrom(0x1234_5678, n) as UserId;
}
function groupOf(n: number): GroupId {
  return `group-${n}` as GroupId;
}

function created(n: number, person: number, profile: Uint8Array): CardeaEvent {
  return {
    ...{ type: "SessionCreated", sessionId: idOf(n), userId: personOf(person), idpId: "bench", profile },
    ...{ issuedAt: now, expiresAt: (now + 36_000_000) as UnixMs },
  };
}

function policiesOf() {
  const policy = source({ allow: { or: Array.from({ length: 5 }, (_, n) => ({ groups: groupOf(n) })) } });
  const compiled = compilePolicies([route({ id: "route", policy })]);
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems));
  return compiled.policies;
}

/** Twelve claims. */
function profileOf(person: number): Profile {
  const [subject, email] = [`person-${person}`, `person-${person}@example.com`];
  const claims = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`claim-${n}`, [`value ${person % 100}`]]));
  return { issuer: "https://idp.example", subject, email, emailVerified: true, name: "Person", claims };
}
function keyOf(person: number): PersonKey {
  const key = createHash("sha256").update(String(person)).digest();
  return { userId: personOf(person), keyId: key.subarray(0, 8), key };
}
/** Each key seals one profile and is wrapped once. */
function nonceOf(person: number): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(person);
  return nonce;
}

function at(sorted: Float64Array, share: number): number {
  return sorted[Math.floor(sorted.length * share)] ?? Number.NaN;
}

function perSecond(count: number, run: () => void): number {
  const startedAt = performance.now();
  run();
  return (count / (performance.now() - startedAt)) * 1_000;
}

/** @returns milliseconds */
function collectFully(): number {
  if (globalThis.gc === undefined) throw new Error("started without --expose-gc");
  globalThis.gc();
  const startedAt = performance.now();
  globalThis.gc();
  return performance.now() - startedAt;
}

async function pausesOf(work: (until: number) => Promise<unknown>): Promise<Pauses> {
  const pauses: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) pauses.push(duration);
  });
  observer.observe({ entryTypes: ["gc"] });
  await work(performance.now() + watchedMs);
  await sleep(10); // the last entries are reported a turn later
  observer.disconnect();
  return { count: pauses.length, longestMs: Math.max(0, ...pauses) };
}

if (values.only === undefined) await compareAll();
else process.send?.(await measure(Number(values.only)));
