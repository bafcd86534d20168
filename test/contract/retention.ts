/**
 * The contract of retention and of a restore, as tests that every EventLog passes.
 *
 * A store may drop fewer events than requested (whole partitions), but never more. `pieces` of the harness is the
 * number of events in a partition.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decodeEvents, type Epoch, genesis, type Link, type Position, sessionStream } from "../../src/events/index.ts";
import {
  createLogVerifier,
  type EventLog,
  LogRefusedError,
  MalformedBatchError,
  verifyLog,
} from "../../src/replication/log/index.ts";
import { anIncarnation, aSession, aUserId, LogWriter } from "../support/log-writer.ts";
import type { LogHarness } from "./event-log.ts";

export type RetentionHarness = LogHarness & Readonly<{ pieces: number }>;

export function describeRetention(name: string, make: () => Promise<RetentionHarness>): void {
  describe(`${name} log, retention and restore`, () => {
    const withLog = (promise: string, body: (log: EventLog, harness: RetentionHarness) => Promise<void>): void => {
      test(promise, async () => {
        const harness = await make();
        try {
          await body(harness.log, harness);
        } finally {
          await harness.close();
        }
      });
    };

    withLog("a log starts at genesis until events are dropped", async (log) => {
      assert.deepEqual(await log.base(), genesis);
      const writer = await LogWriter.open(log);
      await writer.appendEach(aSession(), aSession());
      const outcome = await log.retain({ ...writerOf(writer), first: 1 as Position });
      assert.deepEqual(outcome, { type: "retained", base: genesis, more: false });
      assert.deepEqual(await log.base(), genesis);
    });

    withLog(
      "events below a position are dropped, and the remaining ones still link",
      async (log, { pieces, reopen, peer }) => {
        const writer = await LogWriter.open(log);
        const links = await fillLog(writer, 30);
        const first = 18 as Position;
        const base = await retainAll(log, writer, first);
        assert.ok(
          base.position < first && base.position + pieces >= first - 1,
          `the log begins after ${base.position}`,
        );
        assert.deepEqual(base, links[base.position]);
        const again = async () => (reopen === undefined ? log : reopen());
        for (const through of [async () => log, peer, again]) {
          const opened = await through();
          assert.deepEqual(await opened.base(), base);
          assert.deepEqual(await opened.linkAt(base.position), base);
          assert.equal(await opened.linkAt((base.position - 1) as Position), undefined);
          assert.deepEqual(await opened.linkAt((base.position + 1) as Position), links[base.position + 1]);
          assert.deepEqual(await opened.epochs(), [{ epoch: 1, incarnation: writer.incarnation, start: 1 }]);
          const verdict = await verifyLog(opened);
          assert.ok(verdict.type === "intact");
          assert.deepEqual([verdict.start, verdict.last], [base, writer.head]);
          assert.equal(verdict.events, writer.head.position - base.position);
        }
      },
    );

    withLog(
      "nothing is dropped unless the log contains the link of the snapshot that holds the dropped events",
      async (log, { pieces }) => {
        const writer = await LogWriter.open(log);
        const links = await fillLog(writer, 30);
        const holding = links[24] as Link;
        const first = 18 as Position;
        const wrongLinks = [
          { ...holding, hash: (links[23] as Link).hash },
          { ...holding, epoch: (holding.epoch + 1) as Epoch },
          { ...holding, position: 1_000 as Position },
        ];
        for (const wrong of wrongLinks)
          assert.deepEqual(await log.retain({ ...writerOf(writer), first, holding: wrong }), { type: "not-held" });
        assert.deepEqual(await log.base(), genesis);
        for (let more = true; more; ) {
          const outcome = await log.retain({ ...writerOf(writer), first, holding });
          assert.ok(outcome.type === "retained", outcome.type);
          more = outcome.more;
        }
        const base = await log.base();
        assert.ok(
          base.position < first && base.position + pieces >= first - 1,
          `the log begins after ${base.position}`,
        );
        assert.equal(
          (await log.retain({ ...writerOf(writer), first, holding: base })).type,
          "retained",
          "the link after which the log begins",
        );
        const deposed = { ...writerOf(writer), epoch: (writerOf(writer).epoch + 1) as Epoch };
        assert.equal((await log.retain({ ...deposed, first, holding })).type, "fenced");
      },
    );

    withLog("a reader behind retention is answered as truncated, and one right at its start continues", async (log) => {
      const writer = await LogWriter.open(log);
      const links = await fillLog(writer, 30);
      const base = await retainAll(log, writer, 20 as Position);
      const truncated = { type: "truncated", first: base.position + 1 };
      assert.deepEqual(await log.read(genesis, 100), truncated);
      assert.deepEqual(await log.read(links[2] as Link, 100), truncated);
      assert.deepEqual(await log.read(links[base.position - 1] as Link, 100), truncated);
      const page = await log.read(base, 100);
      assert.ok(page.type === "page");
      assert.deepEqual(page.page.last, writer.head);
      const wrongLink: Link = { ...base, hash: (links[3] as Link).hash };
      assert.equal((await log.read(wrongLink, 100)).type, "forked");
    });

    withLog("appends, versions and new epochs continue after retention", async (log) => {
      const writer = await LogWriter.open(log);
      const session = aSession();
      await writer.appendEach(session);
      await fillLog(writer, 30);
      await retainAll(log, writer, 25 as Position);
      const { sessionId, userId } = session;
      const revoked = { type: "SessionRevoked", sessionId, userId, reason: "operator" } as const;
      assert.equal((await writer.appendEach(revoked)).type, "appended");
      assert.equal((await log.streamVersions([sessionStream(sessionId)])).get(sessionStream(sessionId)), 2);
      const next = await LogWriter.open(log);
      assert.equal(next.epoch, 2);
      assert.equal((await next.appendEach(aSession())).type, "appended");
      assert.equal((await verifyLog(log)).type, "intact");
    });

    withLog("nothing above the head is dropped, and the head's link stays known", async (log) => {
      const writer = await LogWriter.open(log);
      await fillLog(writer, 30);
      const base = await retainAll(log, writer, 1_000_000 as Position);
      assert.ok(base.position <= writer.head.position);
      assert.deepEqual((await log.observe()).head, writer.head);
      assert.deepEqual(await log.linkAt(writer.head.position), writer.head);
      assert.equal((await writer.appendEach(aSession())).type, "appended");
      const page = await log.read(base, 100);
      assert.ok(page.type === "page");
      assert.deepEqual(page.page.last, writer.head);
    });

    withLog("only the writer of the epoch may drop events", async (log, { peer }) => {
      const old = await LogWriter.open(log);
      await fillLog(old, 30);
      await LogWriter.open(await peer());
      const request = { ...writerOf(old), first: 20 as Position };
      assert.deepEqual(await log.retain(request), { type: "fenced", epoch: 2 });
      const rival = { epoch: 2 as Epoch, incarnation: anIncarnation(), first: 20 as Position };
      assert.deepEqual(await log.retain(rival), { type: "fenced", epoch: 2 });
      assert.deepEqual(await log.base(), genesis);
      await log.close();
      assert.equal((await log.retain(request)).type, "unavailable");
    });

    withLog("keys are read in pages in the order of user ids, without erased ones", async (log) => {
      const writer = await LogWriter.open(log);
      const keys = Array.from({ length: 7 }, (_, n) => ({
        userId: aUserId(),
        keyId: Buffer.alloc(8, n),
        wrapped: Buffer.alloc(60, n),
      }));
      await writer.append([{ events: [aSession()] }], { newKeys: keys });
      const erased = keys[3]?.userId ?? aUserId();
      await writer.append([{ events: [aSession()] }], { erasedKeys: [erased] });
      const wanted = keys.map((k) => k.userId as string).filter((id) => id !== erased);
      const ids: string[] = [];
      for (let after: (typeof keys)[0]["userId"] | null = null; ; ) {
        const page = await log.keysAfter(after, 2);
        ids.push(...page.map((k) => k.userId));
        after = page.at(-1)?.userId ?? null;
        if (page.length < 2) break;
      }
      assert.deepEqual(ids, wanted.sort());
    });

    withLog("keys are rewrapped in place, except erased keys and those with another key id", async (log) => {
      const writer = await LogWriter.open(log);
      const keys = Array.from({ length: 3 }, (_, n) => ({
        userId: aUserId(),
        keyId: Buffer.alloc(8, n + 1),
        wrapped: Buffer.alloc(60, n),
      }));
      await writer.append([{ events: [aSession()] }], { newKeys: keys });
      const [rewrapped, other, erased] = keys;
      assert.ok(rewrapped !== undefined && other !== undefined && erased !== undefined);
      await writer.append([{ events: [aSession()] }], { erasedKeys: [erased.userId] });
      const again = (key: (typeof keys)[0]) => ({ ...key, wrapped: Buffer.alloc(60, 9) });
      const otherKeyId = { ...again(other), keyId: Buffer.alloc(8, 77) };
      const unknown = { userId: aUserId(), keyId: Buffer.alloc(8, 1), wrapped: Buffer.alloc(60, 9) };
      assert.equal(await log.rewrapKeys([again(rewrapped), otherKeyId, again(erased), unknown]), 1);
      const found = await log.keys([...keys.map(({ userId }) => userId), unknown.userId]);
      const bytes = new Map(found.map(({ userId, keyId, wrapped }) => [userId, [keyId[0], wrapped[0]]]));
      assert.deepEqual(
        bytes,
        new Map(
          [
            [rewrapped.userId, [1, 9]],
            [other.userId, [2, 1]],
          ].map(([id, of]) => [id, of] as never),
        ),
      );
      assert.equal(await log.rewrapKeys([]), 0);
    });

    test("an empty log is restored from a link on, and the next epoch opens after everything restored", async () => {
      const [from, into] = [await make(), await make()];
      try {
        const writer = await LogWriter.open(from.log);
        const links = await fillLog(writer, 20);
        const second = await LogWriter.open(from.log);
        const erased = aUserId();
        await second.append([{ events: [aSession(), { type: "UserErased", userId: erased }] }]);
        const base = links[9] as Link;
        const [first] = await from.log.epochs();
        assert.ok(first !== undefined);
        assert.deepEqual(await into.log.restore({ type: "begin", base, epochs: [first] }), base);
        const page = await from.log.read(base, 100);
        assert.ok(page.type === "page");
        const keys = [
          { userId: aUserId(), keyId: Buffer.alloc(8, 1), wrapped: Buffer.alloc(60) },
          { userId: erased, keyId: Buffer.alloc(8, 2), wrapped: Buffer.alloc(60) },
        ];
        assert.deepEqual(await into.log.restore({ type: "keys", keys }), base);
        const entries = decodeEvents(page.page.entries, base).map((recorded, at) => ({
          recorded,
          bytes: page.page.entries[at] ?? Buffer.of(),
        }));
        const [some, rest] = [entries.slice(0, 5), entries.slice(5)];
        await into.log.restore({ type: "events", entries: some });
        const early = await into.log.append(second.batch([{ events: [aSession()] }]));
        assert.equal(early.type, "fenced");
        await assert.rejects(into.log.restore({ type: "events", entries: rest.slice(1) }), MalformedBatchError);
        const end = await into.log.restore({ type: "events", entries: rest });
        assert.deepEqual(end, second.head);
        assert.deepEqual((await into.log.observe()).head, second.head);
        assert.deepEqual(await into.log.epochs(), await from.log.epochs());
        assert.deepEqual((await into.log.keys(keys.map((k) => k.userId))).length, 1);
        const again = await LogWriter.open(into.log);
        assert.equal(again.epoch, 3);
        assert.deepEqual(again.opening.recorded.position, second.head.position + 1);
        assert.equal((await again.appendEach(aSession())).type, "appended");
        assert.deepEqual((await into.log.observe()).head, again.head);
        const verdict = await verifyLog(into.log);
        assert.ok(verdict.type === "intact");
        assert.deepEqual(verdict.start, base);
        await assert.rejects(into.log.restore({ type: "events", entries: rest }), LogRefusedError);
        await assert.rejects(into.log.restore({ type: "begin", base, epochs: [] }), LogRefusedError);
        await assert.rejects(from.log.restore({ type: "begin", base: genesis, epochs: [] }), LogRefusedError);
        const pages = createLogVerifier({ start: base, epochs: await into.log.epochs() });
        assert.equal(pages.take(page.page), undefined);
      } finally {
        await from.close();
        await into.close();
      }
    });
  });
}

const writerOf = ({ epoch, incarnation }: LogWriter) => ({ epoch, incarnation });

/** @returns the link at each position */
async function fillLog(writer: LogWriter, upTo: number): Promise<Link[]> {
  while (writer.head.position < upTo) await writer.appendEach(aSession());
  await writer.beat(); // so that the durable horizon is at the head
  await writer.beat();
  const links: Link[] = [];
  for (let n = 0; n <= upTo; n++) links.push((await writer.log.linkAt(n as Position)) ?? genesis);
  return links;
}

async function retainAll(log: EventLog, writer: LogWriter, first: Position): Promise<Link> {
  for (;;) {
    const outcome = await log.retain({ ...writerOf(writer), first });
    assert.ok(outcome.type === "retained", outcome.type);
    if (!outcome.more) return outcome.base;
  }
}
