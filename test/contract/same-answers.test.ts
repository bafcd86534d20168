/**
 * The three logs behave alike: memory, SQLite and Postgres give the same answers to random sequences of operations.
 *
 * fast-check finds and shrinks the sequences. SEED=… replays a run.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import {
  type BootId,
  type BrokerId,
  type CommandId,
  chainHash,
  type Epoch,
  type GroupId,
  genesis,
  groupStream,
  type Hash,
  type Link,
  type NodeId,
  type Position,
  type SessionId,
  type UserId,
} from "../../src/events/index.ts";
import {
  type AppendBatch,
  createMemoryLog,
  type EventLog,
  type Lessee,
  openPostgresLog,
  openSqliteLog,
  verifyLog,
} from "../../src/replication/log/index.ts";
import { aCommandId, aSession, type Draft, LogWriter, openEpochRequest } from "../support/log-writer.ts";
import { startPostgres } from "../support/postgres.ts";
import { fc } from "../support/property.ts";
import type { PostgresServer } from "../support/service.ts";

const seed = Number(process.env["SEED"] ?? 42);
let server: PostgresServer;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const small = fc.integer({ min: 0, max: 4 });
const flaws = ["none", "none", "none", "none", "stale head", "stale version", "repeated command", "old epoch"] as const;
const operation = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("open" as const),
      expected: fc.integer({ min: -1, max: 0 }),
      atLeast: small,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      flaw: fc.constantFrom(...flaws),
      commands: fc.array(fc.array(small, { maxLength: 3 }), { minLength: 1, maxLength: 4 }),
      secrets: fc.record({
        newKey: fc.option(small),
        erased: fc.option(small),
        vault: fc.option(fc.tuple(small, small)),
        removed: fc.option(small),
      }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("beat" as const),
      stale: fc.boolean(),
      lessees: fc.array(fc.tuple(small, small)),
      left: fc.array(small),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("read" as const),
      at: fc.nat(40),
      limit: fc.integer({ min: 0, max: 12 }),
      lie: fc.constantFrom("no", "hash", "epoch", "ahead"),
    }),
  },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

test(`memory, SQLite and Postgres give the same answers to the same operations (seed ${seed})`, {
  timeout: 590_000,
}, async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 40 }), async (operations) => {
      run += 1;
      const folder = mkdtempSync(join(tmpdir(), "cardea-log-"));
      const schema = `same_${run}`;
      const logs = await Promise.all([
        createMemoryLog(),
        openSqliteLog({ path: join(folder, "log.db"), cluster: "same" }),
        openPostgresLog({ connectionString: server.connectionString(), cluster: "same", schema }),
      ]);
      try {
        const comparison = new LogComparison(logs);
        for (const each of operations) await comparison.perform(each);
        await comparison.compareEverything();
      } finally {
        await Promise.all(logs.map((log) => log.close()));
        rmSync(folder, { recursive: true });
      }
    }),
    { seed, numRuns: 30, endOnFailure: false },
  );
});

/** Performs each operation on all logs, and compares every answer with that of the memory log. */
class LogComparison {
  readonly #logs: readonly EventLog[];
  #writer: LogWriter | undefined;
  #previous: LogWriter | undefined;
  readonly #commands: CommandId[] = [];
  #lastBatch: AppendBatch | undefined;

  constructor(logs: readonly EventLog[]) {
    this.#logs = logs;
  }

  async #onAll<T>(call: (log: EventLog) => Promise<T>): Promise<T> {
    const [answer, ...others] = await Promise.all(this.#logs.map(call));
    for (const other of others) assert.deepEqual(comparable(other), comparable(answer));
    return answer as T;
  }

  async perform(operation: Operation): Promise<void> {
    switch (operation.kind) {
      case "open":
        return this.#open(operation);
      case "append":
        return this.#append(operation);
      case "beat":
        return this.#beat(operation);
      case "read":
        return this.#read(operation);
    }
  }

  async #open({ expected, atLeast }: Extract<Operation, { kind: "open" }>): Promise<void> {
    const { epoch } = await this.#onAll((log) => log.observe());
    const request = openEpochRequest(Math.max(0, epoch + expected) as Epoch, {
      atLeast: atLeast as Epoch,
      brokerId: `b-${atLeast}` as BrokerId,
    });
    // The first event is made once, so that all logs get the same bytes.
    let made: ReturnType<typeof request.firstEvent> | undefined;
    const outcome = await this.#onAll((log) =>
      log.openEpoch({ ...request, firstEvent: (at) => (made ??= request.firstEvent(at)) }),
    );
    if (outcome.type !== "opened") return;
    this.#previous = this.#writer;
    this.#writer = LogWriter.of(this.#logs[0] as EventLog, request.incarnation, outcome);
    for (const [stream, version] of await this.#onAll((log) => log.streamVersions(streams)))
      this.#writer.versions.set(stream, version);
  }

  async #append({ flaw, commands, secrets }: Extract<Operation, { kind: "append" }>): Promise<void> {
    const writer = flaw === "old epoch" ? this.#previous : this.#writer;
    if (writer === undefined) return;
    const drafts: Draft[] = commands.map((groups, i) => ({
      commandId: flaw === "repeated command" && i === 0 ? (this.#commands.at(-1) ?? aCommandId()) : aCommandId(),
      events: groups.map((n) =>
        n === 4 ? aSession() : { type: "GroupUpserted", groupId: `g${n}` as GroupId, name: "" },
      ),
    }));
    if (drafts.every((draft) => draft.events.length === 0)) drafts.push({ events: [aSession()] });
    const built = writer.batch(drafts, {
      ...(flaw === "stale version" && {
        streams: streams.slice(0, 3).map((stream) => ({ stream, expected: 2, next: 2 })),
      }),
      ...(flaw === "stale head" && this.#lastBatch?.epoch === writer.epoch && { previous: this.#lastBatch.previous }),
      newKeys:
        secrets.newKey === null
          ? []
          : [
              {
                userId: user(secrets.newKey),
                keyId: Buffer.alloc(8, secrets.newKey),
                wrapped: Buffer.from(aCommandId()),
              },
            ],
      erasedKeys: secrets.erased === null ? [] : [user(secrets.erased)],
      vault:
        secrets.vault === null
          ? []
          : [{ sessionId: session(secrets.vault[0]), version: secrets.vault[1], sealed: Buffer.from(aCommandId()) }],
      vaultRemoved: secrets.removed === null ? [] : [session(secrets.removed)],
    });
    // A wrong version of a stream without an event would make the batch malformed.
    const named = new Set(built.entries.map((entry) => entry.recorded.stream));
    const batch = { ...built, streams: built.streams.filter(({ stream }) => named.has(stream)) };
    const outcome = await this.#onAll((log) => log.append(batch));
    if (outcome.type !== "appended") return;
    writer.follow(batch);
    this.#lastBatch = batch;
    this.#commands.push(...batch.commands.map((c) => c.commandId));
  }

  async #beat({ stale, lessees, left }: Extract<Operation, { kind: "beat" }>): Promise<void> {
    const writer = this.#writer;
    if (writer === undefined) return;
    await this.#onAll((log) =>
      log.beat({
        epoch: writer.epoch,
        incarnation: writer.incarnation,
        head: stale ? (this.#lastBatch?.previous ?? genesis) : writer.head,
        lessees: lessees.map(([n, windowMs]) => ({
          node: node(n),
          boot: boot(n),
          region: `r${windowMs}`,
          role: "proxy",
          windowMs,
        })),
        left: left.map((n) => ({ node: node(n), boot: boot(n) })),
      }),
    );
  }

  async #read({ at, limit, lie }: Extract<Operation, { kind: "read" }>): Promise<void> {
    const { head } = await this.#onAll((log) => log.observe());
    const link = (await this.#onAll((log) => log.linkAt(at as Position))) ?? head;
    const after: Link = {
      no: link,
      hash: { ...link, hash: chainHash(link.hash as Hash, Buffer.of(1)) },
      epoch: { ...link, epoch: (link.epoch + 1) as Epoch },
      ahead: { ...link, position: (head.position + 1 + at) as Position },
    }[lie];
    await this.#onAll((log) => log.read(after, limit));
  }

  async compareEverything(): Promise<void> {
    await this.#onAll((log) => log.observe());
    await this.#onAll((log) => log.epochs());
    await this.#onAll(async (log) => byNode(await log.lessees()));
    await this.#onAll(async (log) => new Map([...(await log.streamVersions(streams))].sort()));
    await this.#onAll(async (log) =>
      [...(await log.keys([0, 1, 2, 3, 4].map(user)))].sort((a, b) => (a.userId < b.userId ? -1 : 1)),
    );
    for (const n of [0, 1, 2, 3, 4]) await this.#onAll((log) => log.vault(session(n)));
    for (const commandId of this.#commands) await this.#onAll((log) => log.findCommand(commandId));
    const verdict = await this.#onAll((log) => verifyLog(log));
    assert.equal(verdict.type, "intact");
  }
}

const streams = [0, 1, 2, 3].map((n) => groupStream(`g${n}` as GroupId));
const user = (n: number): UserId => `u${n}` as UserId;
const session = (n: number): SessionId => `s${n}` as SessionId;
const node = (n: number): NodeId => `n${n}` as NodeId;
const boot = (n: number): BootId => `boot-${n % 2}` as BootId;

/** Makes answers comparable: any kind of byte array as hex, and lessees sorted. */
function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (value instanceof Map) return new Map([...value].map(([k, v]) => [k, comparable(v)]));
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, comparable(k === "lessees" ? byNode(v) : v)]));
}

function byNode(lessees: readonly Lessee[]): readonly Lessee[] {
  return [...lessees].sort((a, b) => (a.node < b.node ? -1 : 1));
}
