/**
 * The contract of an EventLog as tests, which memory, SQLite and Postgres pass alike (event-log.test.ts).
 *
 * Tests that apply to one store only, such as a cancelled wait for a standby, are in test/integration.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type BootId,
  type BrokerId,
  clusterStream,
  decodeEvents,
  type Epoch,
  type GroupId,
  genesis,
  groupStream,
  type Hash,
  type Link,
  linkOf,
  type NodeId,
  type Position,
  parseHash,
  sessionStream,
  type UnixMs,
  type UserId,
  userStream,
  type WrappedKey,
} from "../../src/events/index.ts";
import {
  type AdmittedNode,
  createLogVerifier,
  type Durability,
  type EventLog,
  isLostHistory,
  type Lessee,
  LogUnavailableError,
  lostHistory,
  MalformedBatchError,
  pageBytesMax,
  verifyLog,
  windowMsMax,
} from "../../src/replication/log/index.ts";
import {
  aCommandId,
  anIncarnation,
  aSession,
  aSessionId,
  aUserId,
  LogWriter,
  openEpoch,
  openEpochRequest,
} from "../support/log-writer.ts";

export type LogHarness = Readonly<{
  log: EventLog;
  /** Opens the same store again as another process would; the same log if the store is exclusive. */
  peer(): Promise<EventLog>;
  /** Closes everything and opens the store again. Undefined: the store ends with its process. */
  reopen?(): Promise<EventLog>;
  /** The durability of a commit here, if it differs from that of the store alone. */
  durability?: Durability;
  /** False: the log cannot be restored from a backup. */
  isRefillable?: boolean;
  /** Makes every command id older. @returns the log to continue with */
  ageCommands(byMs: number): Promise<EventLog>;
  close(): Promise<void>;
}>;

export function describeEventLog(name: string, make: () => Promise<LogHarness>): void {
  describe(`${name} log`, () => {
    let harness: LogHarness;
    const withLog = (promise: string, body: (log: EventLog, harness: LogHarness) => Promise<void>): void => {
      test(promise, async () => {
        harness = await make();
        try {
          await body(harness.log, harness);
        } finally {
          await harness.close();
        }
      });
    };

    withLog("a new log is empty and has no epoch", async (log) => {
      assert.deepEqual(await log.observe(), {
        epoch: 0,
        incarnation: null,
        brokerId: null,
        brokerUrl: null,
        beat: 0,
        head: genesis,
      });
      const page = { previous: genesis, entries: [], last: genesis, head: genesis };
      assert.deepEqual(await log.read(genesis, 10), { type: "page", page });
      assert.deepEqual(await log.linkAt(0 as Position), genesis);
      assert.equal(await log.linkAt(1 as Position), undefined);
      assert.deepEqual(await log.epochs(), []);
      assert.deepEqual(await log.lessees(), []);
      assert.equal(await log.findCommand(aCommandId()), undefined);
      assert.deepEqual(await log.streamVersions([clusterStream]), new Map());
      assert.deepEqual(await log.keys([aUserId()]), []);
      assert.equal(await log.vault(aSessionId()), undefined);
      assert.deepEqual(await verifyLog(log), { type: "intact", start: genesis, events: 0, last: genesis, epochs: [] });
    });

    withLog("a commit has the durability that the store can show", async (log, { durability }) => {
      const writer = await LogWriter.open(log);
      await writer.appendEach(aSession());
      await writer.beat();
      const alone = { memory: "volatile", file: "local", postgres: "asynchronous" } as const;
      assert.equal(await log.durabilityOf(writer.head), durability ?? alone[log.kind]);
    });

    describe("epochs", () => {
      withLog("an epoch begins with EpochOpened and names its broker", async (log) => {
        const incarnation = anIncarnation();
        const writer = await LogWriter.open(log, {
          incarnation,
          brokerId: "b-7" as BrokerId,
          brokerUrl: "https://b-7",
        });
        assert.equal(writer.epoch, 1);
        const seen = await log.observe();
        assert.deepEqual(
          { ...seen, beat: 0 },
          {
            epoch: 1,
            incarnation,
            brokerId: "b-7",
            brokerUrl: "https://b-7",
            beat: 0,
            head: writer.head,
          },
        );
        const [event] = await readAll(log);
        assert.deepEqual(event, writer.opening.recorded);
        assert.equal(event?.version, 1);
        assert.deepEqual(await log.epochs(), [{ epoch: 1, incarnation, start: 1 }]);
      });

      withLog("an epoch opens only after the epoch that its request expects", async (log) => {
        await LogWriter.open(log);
        const late = await log.openEpoch(openEpochRequest(0 as Epoch));
        assert.deepEqual(late, { type: "overtaken", epoch: 1 });
        assert.equal((await log.observe()).head.position, 1);
      });

      withLog("an epoch seen elsewhere is skipped, unless the log has already passed it", async (log) => {
        assert.equal((await LogWriter.open(log, { atLeast: 8 as Epoch })).epoch, 8);
        assert.equal((await LogWriter.open(log, { atLeast: 3 as Epoch })).epoch, 9);
        assert.equal((await LogWriter.open(log, { atLeast: 10 as Epoch })).epoch, 10);
        const epochs = await log.epochs();
        assert.deepEqual(
          epochs.map(({ epoch, start }) => [epoch, start]),
          [
            [8, 1],
            [9, 2],
            [10, 3],
          ],
        );
        assert.equal((await verifyLog(log)).type, "intact");
      });

      withLog("of many concurrent openings one succeeds and the others are overtaken", async (log, { peer }) => {
        const logs = [log, await peer(), await peer()];
        const outcomes = await Promise.all(
          Array.from({ length: 9 }, (_, i) => (logs[i % 3] ?? log).openEpoch(openEpochRequest(0 as Epoch))),
        );
        assert.deepEqual(outcomes.map((o) => o.type).sort(), ["opened", ...new Array(8).fill("overtaken")]);
      });

      withLog("a deposed writer is fenced, whatever it writes", async (log, { peer }) => {
        const old = await LogWriter.open(log);
        await old.appendEach(aSession());
        const next = await LogWriter.open(await peer(), { brokerId: "broker-2" as BrokerId });
        assert.deepEqual(await old.appendEach(aSession()), { type: "fenced", epoch: 2 });
        assert.deepEqual(await old.beat(), { type: "fenced", epoch: 2 });
        assert.equal((await next.appendEach(aSession())).type, "appended");
        assert.equal(next.head.position, 4);
      });

      withLog("a write with the same epoch number but another incarnation is fenced too", async (log) => {
        const writer = await LogWriter.open(log);
        const restored = { incarnation: anIncarnation() };
        assert.deepEqual(await writer.append([{ events: [aSession()] }], restored), { type: "fenced", epoch: 1 });
        assert.deepEqual(await writer.beat(restored), { type: "fenced", epoch: 1 });
      });

      withLog("a write in an epoch that is not open is fenced", async (log, { peer }) => {
        const elsewhere = await LogWriter.open(await peer());
        const before = elsewhere.batch([{ events: [aSession()] }], {
          epoch: 7 as Epoch,
          previous: { ...elsewhere.head, epoch: 7 as Epoch },
        });
        assert.deepEqual(await log.append(before), { type: "fenced", epoch: 1 });
      });

      withLog("a first event at the wrong position is rejected, and no epoch opens", async (log) => {
        const request = openEpochRequest(0 as Epoch);
        const elsewhere: Link = { ...genesis, position: 4 as Position };
        const wrong = {
          ...request,
          firstEvent: (at: Parameters<typeof request.firstEvent>[0]) =>
            request.firstEvent({ ...at, previous: elsewhere }),
        };
        await assert.rejects(log.openEpoch(wrong), MalformedBatchError);
        assert.equal((await log.observe()).epoch, 0);
        assert.equal((await log.openEpoch(request)).type, "opened");
      });
    });

    describe("appends", () => {
      withLog("events are read back byte for byte, in order and chained", async (log) => {
        const writer = await LogWriter.open(log);
        const first = writer.batch([{ events: [aSession(), aSession()] }, { events: [aSession()] }]);
        assert.deepEqual(await writer.send(first), { type: "appended", last: first.last });
        const second = writer.batch([{ events: [aSession()] }]);
        await writer.send(second);
        const outcome = await log.read(genesis, 100);
        assert.ok(outcome.type === "page");
        const sent = [writer.opening, ...first.entries, ...second.entries];
        assert.deepEqual(
          outcome.page.entries.map(hex),
          sent.map((entry) => hex(entry.bytes)),
        );
        assert.deepEqual(outcome.page, { ...outcome.page, previous: genesis, last: second.last, head: second.last });
        assert.deepEqual(
          decodeEvents(outcome.page.entries, genesis),
          sent.map((entry) => entry.recorded),
        );
        assert.deepEqual(await log.linkAt(4 as Position), first.last);
      });

      withLog("a batch after an outdated head is refused with the current head", async (log) => {
        const writer = await LogWriter.open(log);
        const stale = writer.batch([{ events: [aSession()] }]);
        await writer.appendEach(aSession());
        assert.deepEqual(await log.append(stale), { type: "head-moved", head: writer.head });
        assert.deepEqual(await writer.beat({ head: stale.previous }), { type: "head-moved", head: writer.head });
        assert.equal((await log.observe()).head.position, 2);
      });

      withLog("a head with the same position and epoch but another hash is another head", async (log) => {
        const writer = await LogWriter.open(log);
        const previous = { ...writer.head, hash: parseHash("a".repeat(64)) };
        const foreign = writer.batch([{ events: [aSession()] }], { previous });
        assert.deepEqual(await log.append(foreign), { type: "head-moved", head: writer.head });
        assert.deepEqual(await writer.beat({ head: previous }), { type: "head-moved", head: writer.head });
        assert.equal((await log.observe()).head.position, 1);
      });

      withLog("outdated versions are answered with the current ones, and nothing is written", async (log) => {
        const writer = await LogWriter.open(log);
        const [known, fresh, other] = [aSession(), aSession(), aSession()];
        await writer.append([{ events: [known, { ...known, type: "SessionRevoked", reason: "operator" }, other] }]);
        const streams = [
          { stream: sessionStream(known.sessionId), expected: 1, next: 0 },
          { stream: sessionStream(fresh.sessionId), expected: 4, next: 0 },
          { stream: sessionStream(other.sessionId), expected: 1, next: 0 },
        ];
        const commandId = aCommandId();
        const outcome = await writer.append([{ commandId, events: [known, fresh, other] }], {
          streams,
          vault: [{ sessionId: fresh.sessionId, version: 1, sealed: Buffer.from("x") }],
        });
        assert.deepEqual(outcome, {
          type: "version-conflict",
          streams: [
            { stream: sessionStream(known.sessionId), actual: 2 },
            { stream: sessionStream(fresh.sessionId), actual: 0 },
          ],
        });
        assert.equal((await log.observe()).head.position, writer.head.position);
        assert.equal(await log.findCommand(commandId), undefined);
        assert.equal(await log.vault(fresh.sessionId), undefined);
        assert.deepEqual(
          await log.streamVersions(streams.map((s) => s.stream)),
          new Map([
            [sessionStream(known.sessionId), 2],
            [sessionStream(other.sessionId), 1],
          ]),
        );
      });

      withLog("a repeated command is answered with its first events, even by a later leader", async (log) => {
        const writer = await LogWriter.open(log);
        const [commandId, another] = [aCommandId(), aCommandId()];
        await writer.append([
          { commandId: another, events: [] },
          { commandId, events: [aSession(), aSession()] },
        ]);
        assert.deepEqual(await log.findCommand(commandId), { first: 2, count: 2 });
        assert.deepEqual(await log.findCommand(another), { first: 2, count: 0 });
        const again = [{ events: [aSession()] }, { commandId, events: [aSession()] }];
        const duplicate = { type: "duplicate-command", commandId, first: 2, count: 2 };
        assert.deepEqual(await writer.append(again), duplicate);
        const later = await LogWriter.open(log);
        assert.deepEqual(await later.append(again), duplicate);
        assert.equal((await log.observe()).head.position, 4);
      });

      withLog("refusals have one order of precedence: fenced, head moved, duplicate, conflict", async (log) => {
        const old = await LogWriter.open(log);
        const commandId = aCommandId();
        await old.append([{ commandId, events: [aSession()] }]);
        const writer = await LogWriter.open(log);
        const wrong = { streams: [{ stream: groupStream("g" as GroupId), expected: 9, next: 9 }] };
        const everything = writer.batch(
          [{ commandId, events: [aSession(), { type: "GroupUpserted", groupId: "g" as GroupId, name: "g" }] }],
          wrong,
        );
        const stale = writer.batch([{ commandId, events: [aSession()] }]);
        assert.equal((await log.append({ ...everything, incarnation: old.incarnation })).type, "fenced");
        assert.equal((await log.append(everything)).type, "duplicate-command");
        assert.equal((await log.append({ ...everything, commands: [] })).type, "version-conflict");
        await writer.appendEach(aSession());
        assert.equal((await log.append(stale)).type, "head-moved");
      });

      withLog(
        "a malformed batch is rejected with an error, because it is a bug and the log is permanent",
        async (log) => {
          const writer = await LogWriter.open(log);
          const good = writer.batch([{ events: [aSession(), aSession()] }]);
          const [one, two] = good.entries;
          assert.ok(one !== undefined && two !== undefined);
          const flawed = {
            "no entries": { entries: [] },
            "a hole": { entries: [two] },
            "another order": { entries: [two, one] },
            "changed bytes": {
              entries: [one, { ...two, bytes: two.bytes.map((byte, i) => (i === 80 ? byte ^ 1 : byte)) }],
            },
            "another last": { last: linkOf(one.recorded) },
            "a stream left out": { streams: good.streams.slice(1) },
            "a wrong next": { streams: good.streams.map((s) => ({ ...s, next: s.next + 1 })) },
            "a command outside": { commands: [{ commandId: aCommandId(), first: good.last.position, count: 2 }] },
            "another epoch": { epoch: 9 as Epoch },
          };
          for (const [flaw, parts] of Object.entries(flawed)) {
            await assert.rejects(log.append({ ...good, ...parts }), MalformedBatchError, flaw);
          }
          assert.equal((await log.observe()).head.position, 1);
          assert.equal((await log.append(good)).type, "appended");
        },
      );

      withLog("512 commands are one commit", async (log) => {
        const writer = await LogWriter.open(log);
        const shared = { type: "GroupUpserted", groupId: "everybody" as GroupId, name: "n" } as const;
        const outcome = await writer.append(
          Array.from({ length: 512 }, (_, i) => ({ events: [i % 8 === 0 ? shared : aSession()] })),
        );
        assert.equal(outcome.type, "appended");
        assert.equal((await log.streamVersions([groupStream(shared.groupId)])).get(groupStream(shared.groupId)), 64);
        assert.deepEqual((await verifyLog(log)).type, "intact");
      });
    });

    describe("reads", () => {
      withLog("pages of any size contain the same log without a gap", async (log) => {
        const writer = await LogWriter.open(log);
        for (let i = 0; i < 4; i++) await writer.appendEach(...Array.from({ length: 7 }, () => aSession()));
        const whole = await readAll(log, 1_000);
        assert.equal(whole.length, 29);
        for (const limit of [1, 3, 28, 29, 30]) assert.deepEqual(await readAll(log, limit), whole);
        assert.deepEqual(await log.read(writer.head, 5), {
          type: "page",
          page: { previous: writer.head, entries: [], last: writer.head, head: writer.head },
        });
      });

      withLog("a page has about a megabyte, and always at least one event", async (log) => {
        const writer = await LogWriter.open(log);
        const sizes = [400_000, 400_000, 400_000, 1_200_000, 10];
        for (const size of sizes) await writer.appendEach(aSession({ profile: Buffer.alloc(size, 7) }));
        const pages: number[] = [];
        for (let after: Link = genesis; ; ) {
          const outcome = await log.read(after, 100);
          assert.ok(outcome.type === "page");
          if (outcome.page.entries.length === 0) break;
          const bytes = outcome.page.entries.reduce((sum, entry) => sum + entry.length, 0);
          assert.ok(bytes <= pageBytesMax || outcome.page.entries.length === 1);
          pages.push(outcome.page.entries.length);
          after = outcome.page.last;
        }
        assert.deepEqual(pages, [3, 1, 1, 1]);
      });

      withLog("a read after a link that is not in the log is answered as forked", async (log) => {
        const writer = await LogWriter.open(log);
        await writer.appendEach(aSession(), aSession());
        const forked = { type: "forked", head: writer.head };
        const elsewhere = "ab".repeat(32) as Hash;
        assert.deepEqual(await log.read({ ...writer.head, hash: elsewhere }, 10), forked);
        assert.deepEqual(await log.read({ epoch: 1 as Epoch, position: 2 as Position, hash: elsewhere }, 10), forked);
        assert.deepEqual(await log.read({ ...writer.head, epoch: 2 as Epoch }, 10), forked);
        assert.deepEqual(await log.read({ ...genesis, hash: elsewhere }, 10), forked);
      });

      withLog(
        "a reader ahead of the log is forked once a later epoch begins before its link, and gets an empty page until then",
        async (log) => {
          const writer = await LogWriter.open(log);
          const ahead: Link = { epoch: writer.epoch, position: 9 as Position, hash: "cd".repeat(32) as Hash };
          const page = { previous: ahead, entries: [], last: ahead, head: writer.head };
          assert.deepEqual(await log.read(ahead, 10), { type: "page", page });
          const next = await LogWriter.open(log);
          assert.deepEqual(await log.read(ahead, 10), { type: "forked", head: next.head });
        },
      );

      withLog("links up to the head are known, and none beyond it", async (log) => {
        const writer = await LogWriter.open(log);
        await writer.appendEach(aSession());
        assert.deepEqual(await log.linkAt(1 as Position), linkOf(writer.opening.recorded));
        assert.deepEqual(await log.linkAt(2 as Position), writer.head);
        assert.equal(await log.linkAt(3 as Position), undefined);
      });

      withLog("concurrent readers never see a gap and end at the same link", async (log, { peer }) => {
        const writer = await LogWriter.open(log);
        let writing = true;
        const follow = async (reader: EventLog): Promise<Link> => {
          const verifier = createLogVerifier();
          for (let after: Link = genesis; ; ) {
            const outcome = await reader.read(after, 5);
            assert.ok(outcome.type === "page");
            assert.equal(verifier.take(outcome.page), undefined);
            if (!writing && outcome.page.entries.length === 0) return after;
            after = outcome.page.last;
          }
        };
        const readers = [follow(await peer()), follow(await peer()), follow(log)];
        for (let i = 0; i < 60; i++) await writer.appendEach(...Array.from({ length: 1 + (i % 7) }, () => aSession()));
        await writer.beat();
        writing = false;
        for (const reached of await Promise.all(readers)) assert.deepEqual(reached, writer.head);
      });
    });

    describe("beats and lessees", () => {
      withLog("a beat changes only the beat count", async (log) => {
        const writer = await LogWriter.open(log);
        await writer.appendEach(aSession());
        const before = await log.observe();
        assert.deepEqual(await writer.beat(), { type: "beaten", head: writer.head });
        const after = await log.observe();
        assert.ok(after.beat > before.beat);
        assert.deepEqual(after, { ...before, beat: after.beat });
        await writer.appendEach(aSession());
        assert.ok((await log.observe()).beat > after.beat);
      });

      withLog(
        "lessees stay until they are removed, their window never shrinks, and the next leader gets them",
        async (log) => {
          const writer = await LogWriter.open(log);
          const [a, b] = [lessee("a", 5_000), lessee("b", 65_000)];
          await writer.beat({ lessees: [a, b] });
          assert.deepEqual(byNode(await log.lessees()), [a, b]);
          await writer.beat({
            lessees: [
              { ...a, windowMs: 70_000, region: "eu" },
              { ...b, windowMs: 1_000 },
            ],
          });
          const remaining = [{ ...a, windowMs: 70_000, region: "eu" }, b];
          assert.deepEqual(byNode(await log.lessees()), remaining);
          const next = await LogWriter.open(log);
          assert.deepEqual(byNode(next.lessees), remaining);
          assert.equal((await writer.beat({ left: [b] })).type, "fenced");
          assert.equal((await log.lessees()).length, 2);
          await next.beat({ left: [b, lessee("never", 1)], lessees: [lessee("b", 9, "boot-2")] });
          assert.deepEqual(byNode(await log.lessees()), [remaining[0], lessee("b", 9, "boot-2")]);
        },
      );
    });

    describe("admitted nodes", () => {
      withLog("a node's row outlives its lessees, and the next leader gets it", async (log, { peer }) => {
        const writer = await LogWriter.open(log);
        const [a, b] = [admitted("a"), admitted("b")];
        await writer.beat({ lessees: [lessee("a", 5_000)], admitted: [b, a] });
        await writer.beat({ left: [lessee("a", 5_000)] });
        assert.deepEqual(await log.lessees(), []);
        assert.deepEqual(byNode(await log.admittedNodes()), [a, b]);
        const next = await openEpoch(await peer());
        assert.deepEqual(next.type === "opened" && [byNode(next.admitted), next.lessees], [[a, b], []]);
      });

      withLog("a restart of the store keeps the rows", async (log, { reopen }) => {
        if (reopen === undefined) return;
        await (await LogWriter.open(log)).beat({ admitted: [admitted("a")] });
        assert.deepEqual(await (await reopen()).admittedNodes(), [admitted("a")]);
      });

      withLog("a node that comes back under another boot or in another region has one row", async (log) => {
        const writer = await LogWriter.open(log);
        await writer.beat({ admitted: [admitted("a")] });
        const back = admitted("a", { boot: "boot-2" as BootId, region: "there", heardAt: 2_000 as UnixMs });
        await writer.beat({ admitted: [back] });
        assert.deepEqual(await log.admittedNodes(), [back]);
      });

      withLog("processes of two roles may share a name, and each leaves alone", async (log) => {
        const writer = await LogWriter.open(log);
        const [proxy, broker] = [admitted("a"), admitted("a", { role: "broker" })];
        await writer.beat({ admitted: [proxy, broker] });
        await writer.beat({ departed: [{ node: proxy.node, role: "proxy" }] });
        assert.deepEqual(await log.admittedNodes(), [broker]);
      });

      withLog("a beat removes before it writes, so a node that left and came back stays", async (log) => {
        const writer = await LogWriter.open(log);
        await writer.beat({ admitted: [admitted("a")] });
        const back = admitted("a", { boot: "boot-2" as BootId });
        await writer.beat({ departed: [admitted("a"), admitted("never")], admitted: [back] });
        assert.deepEqual(await log.admittedNodes(), [back]);
      });

      withLog("a batch removes the nodes that it retires, and a refused batch removes none", async (log) => {
        const writer = await LogWriter.open(log);
        await writer.beat({ admitted: [admitted("a"), admitted("b")] });
        const retired = [{ node: "a" as NodeId, role: "proxy" }] as const;
        const late = writer.fork();
        await writer.appendEach(aSession());
        assert.equal((await late.append([{ events: [aSession()] }], { retired })).type, "head-moved");
        assert.equal((await log.admittedNodes()).length, 2);
        assert.equal((await writer.append([{ events: [aSession()] }], { retired })).type, "appended");
        assert.deepEqual(await log.admittedNodes(), [admitted("b")]);
      });

      withLog("a fenced writer changes no row", async (log, { peer }) => {
        const writer = await LogWriter.open(log);
        await writer.beat({ admitted: [admitted("a")] });
        await LogWriter.open(await peer());
        assert.equal((await writer.beat({ departed: [admitted("a")] })).type, "fenced");
        assert.deepEqual(await log.admittedNodes(), [admitted("a")]);
      });
    });

    describe("lessees that may be lost", () => {
      const opened = async (log: EventLog, options: Parameters<typeof openEpoch>[1]) => {
        const outcome = await openEpoch(log, options);
        return outcome.type === "opened" ? outcome : assert.fail(JSON.stringify(outcome));
      };
      const lost = (epoch: number, windowMs: number): Lessee => lostHistory(epoch as Epoch, windowMs);

      withLog(
        "no lease is lost in an unchanged store, whichever broker opens the next epoch",
        async (log, { peer }) => {
          const writer = await LogWriter.open(log, { windowMaxMs: 65_000 });
          await writer.beat({ lessees: [lessee("a", 5_000)] });
          const next = await opened(await peer(), { windowMaxMs: 65_000 });
          assert.deepEqual([next.beatsLost, next.lessees], [null, [lessee("a", 5_000)]]);
        },
      );

      withLog("closing and reopening the store loses no lease", async (log, { reopen }) => {
        if (reopen === undefined) return;
        await (await LogWriter.open(log, { windowMaxMs: 65_000 })).beat({ lessees: [lessee("a", 5_000)] });
        const next = await opened(await reopen(), { windowMaxMs: 65_000 });
        assert.deepEqual([next.beatsLost, next.lessees], [null, [lessee("a", 5_000)]]);
      });

      withLog(
        "a known epoch that is missing leaves a row with the longest window of any epoch, until it is removed",
        async (log) => {
          await LogWriter.open(log, { windowMaxMs: 65_000 });
          const incarnation = anIncarnation();
          const after = await opened(log, { windowMaxMs: 5_000, atLeast: 9 as Epoch, incarnation });
          assert.match(after.beatsLost ?? "", /epoch 8/);
          assert.deepEqual(after.lessees, [lost(9, 65_000)]);
          assert.deepEqual(await log.lessees(), after.lessees);
          const next = await LogWriter.open(log, { windowMaxMs: 5_000 });
          assert.deepEqual(next.lessees, [lost(9, 65_000)], "the next epoch has the row as well");
          await next.beat({ left: [lost(9, 0)] });
          assert.deepEqual(await log.lessees(), []);
        },
      );

      withLog("no row is added if no node of another process was ever granted a lease", async (log) => {
        await LogWriter.open(log);
        const after = await opened(log, { atLeast: 9 as Epoch });
        assert.match(after.beatsLost ?? "", /epoch 8/);
        assert.deepEqual(after.lessees, []);
      });

      withLog("a restored log has a row for unknown leases", async (log, { isRefillable = true }) => {
        if (!isRefillable) return;
        const base: Link = { epoch: 7 as Epoch, position: 40 as Position, hash: parseHash("7".repeat(64)) };
        const epochs = [{ epoch: base.epoch, incarnation: anIncarnation(), start: 35 as Position }];
        await log.restore({ type: "begin", base, epochs });
        const after = await opened(log, { windowMaxMs: 65_000 });
        assert.ok(after.beatsLost !== null);
        assert.deepEqual(after.lessees, [lost(8, windowMsMax)], "the longest window of any build applies");
      });

      withLog("a surviving row with a window longer than any limit sets the window of the lost ones", async (log) => {
        const writer = await LogWriter.open(log, { windowMaxMs: 65_000 });
        await writer.beat({ lessees: [lessee("a", 300_000)] });
        const after = await opened(log, { windowMaxMs: 65_000, atLeast: 9 as Epoch });
        assert.deepEqual(after.lessees.find(isLostHistory), lost(9, 300_000));
      });
    });

    describe("data beside the log", () => {
      withLog("a person's first key stays, and an erased person never has a key again", async (log) => {
        const writer = await LogWriter.open(log);
        const [retained, erased] = [wrappedKey(), wrappedKey()];
        await writer.append([{ events: [aSession()] }], { newKeys: [retained, erased] });
        await writer.append([{ events: [aSession()] }], { newKeys: [{ ...wrappedKey(), userId: retained.userId }] });
        const users = [erased.userId, retained.userId, aUserId()];
        assert.deepEqual(byUser(await log.keys(users)), byUser([retained, erased].map(plain)));
        await writer.appendEach({ type: "UserErased", userId: erased.userId });
        await writer.append([{ events: [{ type: "UserErased", userId: erased.userId }] }], {
          erasedKeys: [erased.userId],
        });
        assert.deepEqual(byUser(await log.keys(users)), [plain(retained)]);
        await writer.append([{ events: [aSession()] }], { newKeys: [{ ...wrappedKey(), userId: erased.userId }] });
        assert.deepEqual(byUser(await log.keys(users)), [plain(retained)]);
        const both = wrappedKey();
        await writer.append([{ events: [aSession()] }], { newKeys: [both], erasedKeys: [both.userId] });
        assert.deepEqual(await log.keys([both.userId]), []);
      });

      withLog("the vault keeps the newest tokens of a session until they are removed", async (log) => {
        const writer = await LogWriter.open(log);
        const sessionId = aSessionId();
        const put = async (version: number, vaultRemoved: readonly (typeof sessionId)[] = []) =>
          writer.append([{ events: [aSession()] }], {
            vault: [{ sessionId, version, sealed: Buffer.from([version]) }],
            vaultRemoved,
          });
        await put(1);
        await put(3);
        await put(2);
        const entry = await log.vault(sessionId);
        assert.deepEqual(
          { ...entry, sealed: hex(entry?.sealed ?? Buffer.of()) },
          { sessionId, version: 3, sealed: "03" },
        );
        assert.equal(await log.vault(aSessionId()), undefined);
        await put(4, [sessionId]);
        assert.equal(await log.vault(sessionId), undefined);
      });

      withLog("command ids are kept for a day", async (log, { ageCommands }) => {
        const writer = await LogWriter.open(log);
        const [old, recent] = [aCommandId(), aCommandId()];
        await writer.append([{ commandId: old, events: [aSession()] }]);
        const dayOld = writer.fork(await ageCommands(23 * 3_600_000));
        assert.equal(await dayOld.log.sweepCommands(), 0);
        assert.equal((await dayOld.append([{ commandId: recent, events: [aSession()] }])).type, "appended");
        const older = await ageCommands(2 * 3_600_000);
        assert.equal(await older.sweepCommands(), 1);
        assert.equal(await older.findCommand(old), undefined);
        assert.deepEqual(await older.findCommand(recent), { first: 3, count: 1 });
      });

      withLog("names with any characters stay distinct", async (log) => {
        const writer = await LogWriter.open(log);
        const names = ['a"b', "a\\b", "{a,b}", "NULL", "null", "a'b", "ä€😀", " ", "a:b", "%", "\\x00"].map(
          (n) => n as GroupId,
        );
        await writer.appendEach(
          ...names.map((groupId) => ({ type: "GroupUpserted", groupId, name: groupId }) as const),
        );
        const versions = await log.streamVersions(names.map(groupStream));
        assert.deepEqual(versions, new Map(names.map((name) => [groupStream(name), 1])));
        const read = await readAll(log);
        assert.deepEqual(
          read.slice(1).map((r) => r.stream),
          names.map(groupStream),
        );
      });
    });

    withLog("a closed log answers as unavailable", async (log) => {
      const writer = await LogWriter.open(log);
      await log.close();
      await log.close();
      assert.equal((await writer.appendEach(aSession())).type, "unavailable");
      assert.equal((await writer.beat()).type, "unavailable");
      assert.equal((await log.openEpoch(openEpochRequest(1 as Epoch))).type, "unavailable");
      await assert.rejects(log.read(genesis, 1), LogUnavailableError);
      await assert.rejects(log.observe(), LogUnavailableError);
    });

    withLog("all data survives closing and reopening", async (log, { reopen }) => {
      if (reopen === undefined) return;
      const writer = await LogWriter.open(log);
      const [key, commandId, session] = [wrappedKey(), aCommandId(), aSession()];
      await writer.append([{ commandId, events: [session] }], {
        newKeys: [key],
        vault: [{ sessionId: session.sessionId, version: 1, sealed: Buffer.from("sealed") }],
      });
      await writer.beat({ lessees: [lessee("n", 5_000)] });
      const before = { seen: await log.observe(), events: await readAll(log) };
      const again = await reopen();
      assert.deepEqual({ seen: await again.observe(), events: await readAll(again) }, before);
      assert.deepEqual(await again.findCommand(commandId), { first: 2, count: 1 });
      assert.deepEqual(byUser(await again.keys([key.userId])), [plain(key)]);
      assert.equal((await again.vault(session.sessionId))?.version, 1);
      assert.deepEqual(await again.lessees(), [lessee("n", 5_000)]);
      assert.equal((await LogWriter.open(again)).epoch, 2);
    });

    test("64 callers, random refusals and a killed leader leave one dense log with every command once", {
      timeout: 240_000,
    }, async () => {
      harness = await make();
      try {
        await manyCallers(harness);
      } finally {
        await harness.close();
      }
    });
  });
}

/** Each caller competes with all others for each position. A second leader takes over in the middle. */
async function manyCallers({ log, peer }: LogHarness): Promise<void> {
  const logs = [log, await peer(), await peer(), await peer()];
  const callers = 64;
  const commandsEach = 3;
  const shared: UserId = aUserId();
  let leader = await LogWriter.open(log);
  let takeover: Promise<void> | undefined;
  const acknowledged = new Map<string, Readonly<{ first: number; count: number }>>();
  const takeOver = async (): Promise<void> => {
    leader = await LogWriter.open(logs[1] ?? log, { brokerId: "broker-2" as BrokerId });
  };

  const call = async (caller: number): Promise<void> => {
    let writer = leader.fork(logs[caller % logs.length]);
    for (let n = 0; n < commandsEach; n++) {
      const commandId = aCommandId();
      const mistake = (caller * 7 + n * 3) % 5;
      for (;;) {
        const events =
          caller % 2 === 0 ? [aSession()] : [aSession(), { type: "UserRestored", userId: shared } as const];
        const wrong = { streams: [{ stream: userStream(aUserId()), expected: 3, next: 3 }] };
        const unknownUser = wrong.streams[0]?.stream.slice("user:".length) as UserId;
        // Now and then a batch that must be refused precedes the good one.
        if (mistake === 0) {
          const refused = await writer.append([{ events: [{ type: "UserRestored", userId: unknownUser }] }], wrong);
          assert.ok(["version-conflict", "head-moved", "fenced"].includes(refused.type), refused.type);
        }
        const batch = writer.batch([{ commandId, events }]);
        const outcome = await writer.send(batch);
        if (outcome.type === "appended") {
          acknowledged.set(commandId, { first: batch.previous.position + 1, count: events.length });
          break;
        }
        if (outcome.type === "head-moved") writer.head = outcome.head;
        else if (outcome.type === "version-conflict")
          for (const { stream, actual } of outcome.streams) writer.versions.set(stream, actual);
        else if (outcome.type === "fenced") {
          await takeover;
          writer = leader.fork(logs[(caller + 1) % logs.length]);
        } else assert.fail(`${outcome.type}: ${JSON.stringify(outcome)}`);
      }
      if (mistake === 1) {
        const repeated = await writer.append([{ commandId, events: [aSession()] }]);
        assert.ok(["duplicate-command", "head-moved", "fenced"].includes(repeated.type), repeated.type);
      }
      if (acknowledged.size > (callers * commandsEach) / 2) takeover ??= takeOver();
    }
  };
  await Promise.all(Array.from({ length: callers }, (_, caller) => call(caller)));

  // A third epoch makes everything before it durable for its writer.
  const last = await LogWriter.open(log);
  const verdict = await verifyLog(log);
  assert.ok(verdict.type === "intact", JSON.stringify(verdict));
  assert.deepEqual(verdict.last, last.head);
  assert.deepEqual(
    verdict.epochs.map((e) => e.epoch),
    [1, 2, 3],
  );
  const events = await readAll(log);
  const positionsOf = new Map<string, number[]>();
  for (const { cause, position } of events)
    if (cause !== null) positionsOf.set(cause, [...(positionsOf.get(cause) ?? []), position]);
  assert.equal(positionsOf.size, acknowledged.size);
  for (const [commandId, { first, count }] of acknowledged) {
    assert.deepEqual(
      positionsOf.get(commandId),
      Array.from({ length: count }, (_, i) => first + i),
    );
  }
  assert.equal(acknowledged.size, callers * commandsEach);
}

export async function readAll(log: EventLog, limit = 1_000) {
  const entries: Uint8Array[] = [];
  for (let after: Link = genesis; ; ) {
    const outcome = await log.read(after, limit);
    assert.ok(outcome.type === "page", outcome.type);
    if (outcome.page.entries.length === 0) return decodeEvents(entries, genesis);
    entries.push(...outcome.page.entries);
    after = outcome.page.last;
  }
}

function lessee(node: string, windowMs: number, boot = "boot-1"): Lessee {
  return { node: node as NodeId, boot: boot as BootId, region: "here", role: "proxy", windowMs };
}

function admitted(node: string, parts: Partial<AdmittedNode> = {}): AdmittedNode {
  const { boot, region, role } = lessee(node, 0);
  return { node: node as NodeId, boot, region, role, heardAt: 1_000 as UnixMs, applied: 7 as Position, ...parts };
}

function wrappedKey(): WrappedKey {
  const userId = aUserId();
  return { userId, keyId: Buffer.from(userId).subarray(0, 8), wrapped: Buffer.from(userId) };
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const plain = ({ userId, keyId, wrapped }: WrappedKey) => ({ userId, keyId: hex(keyId), wrapped: hex(wrapped) });
const byUser = (keys: readonly (WrappedKey | ReturnType<typeof plain>)[]) =>
  keys
    .map((key) => (typeof key.keyId === "string" ? key : plain(key as WrappedKey)))
    .sort((a, b) => (a.userId < b.userId ? -1 : 1));
const byNode = <Row extends Readonly<{ node: NodeId }>>(lessees: readonly Row[]) =>
  [...lessees].sort((a, b) => (a.node < b.node ? -1 : 1));
