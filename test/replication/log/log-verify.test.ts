/** Verification of a log: an intact chain, and each way in which a chain can be broken. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type BrokerId,
  type CardeaEvent,
  clusterStream,
  type Epoch,
  genesis,
  type Incarnation,
  type Link,
  linkOf,
  type Position,
  streamOf,
} from "../../../src/events/index.ts";
import {
  createMemoryLog,
  type LogEntry,
  type LogPage,
  verifyChain,
  verifyLog,
} from "../../../src/replication/log/index.ts";
import { aSession, entryAt, LogWriter } from "../../support/log-writer.ts";

const opening = (epoch: number): CardeaEvent => ({
  type: "EpochOpened",
  epoch: epoch as Epoch,
  incarnation: `i${epoch}` as Incarnation,
  brokerId: "b" as BrokerId,
  publicKey: "",
});

/** Log entries made by hand. The version is the next of the stream unless it is given. */
function logOf(...events: readonly (readonly [epoch: number, event: CardeaEvent, version?: number])[]): LogEntry[] {
  const versions = new Map<string, number>();
  let at: Link = genesis;
  return events.map(([epoch, event, version = (versions.get(streamOf(event)) ?? 0) + 1]) => {
    versions.set(streamOf(event), version);
    const entry = entryAt(at, epoch as Epoch, event, { version });
    at = linkOf(entry.recorded);
    return entry;
  });
}

function pagesOf(entries: readonly LogEntry[], size: number): LogPage[] {
  const pages: LogPage[] = [];
  let previous: Link = genesis;
  for (let i = 0; i < entries.length; i += size) {
    const part = entries.slice(i, i + size);
    const last = linkOf(part.at(-1)?.recorded as LogEntry["recorded"]);
    pages.push({ previous, entries: part.map((entry) => entry.bytes), last, head: last });
    previous = last;
  }
  return pages;
}

const session = aSession();
const whole = () =>
  logOf(
    [1, opening(1)],
    [1, session],
    [1, aSession()],
    [2, opening(2)],
    [2, { ...session, type: "SessionRevoked", reason: "operator" }],
  );

test("an intact log verifies in pages of any size, with its epochs", async () => {
  const entries = whole();
  for (const size of [1, 2, 3, 5]) {
    const verdict = await verifyChain(pagesOf(entries, size));
    assert.ok(verdict.type === "intact");
    assert.deepEqual(verdict.epochs, [
      { epoch: 1, incarnation: "i1", start: 1 },
      { epoch: 2, incarnation: "i2", start: 4 },
    ]);
    assert.equal(verdict.events, 5);
    assert.deepEqual(verdict.last, linkOf(entries[4]?.recorded as LogEntry["recorded"]));
  }
});

test("each way to break a log is found at its first bad position", async () => {
  const broken = async (entries: readonly LogEntry[], position: number, problem: RegExp): Promise<void> => {
    const verdict = await verifyChain(pagesOf(entries, 2));
    assert.ok(verdict.type === "broken", problem.source);
    assert.equal(verdict.position, position);
    assert.equal(verdict.after.position, position - 1);
    assert.match(verdict.problem, problem);
  };
  await broken(logOf([1, session]), 1, /does not begin with EpochOpened/);
  await broken(logOf([1, opening(1)], [2, session]), 2, /epoch 2 does not begin with EpochOpened/);
  await broken(logOf([1, opening(1)], [1, opening(1)]), 2, /opened a second time/);
  await broken(logOf([1, opening(1)], [2, opening(3)]), 2, /EpochOpened of epoch 3 is written in epoch 2/);
  await broken(logOf([2, opening(2)], [1, opening(1)]), 2, /epoch is lower/);
  await broken(logOf([1, opening(1)], [1, session], [1, session, 3]), 3, /version 3 of stream .* does not follow 1/);
  await broken(logOf([1, opening(1)], [1, session, 2]), 2, /version 2 .* does not follow 0/);
  const [one, two, three] = whole() as [LogEntry, LogEntry, LogEntry];
  await broken([one, three], 2, /position 3 does not follow 1/);
  await broken([one, two, { ...three, bytes: Buffer.from("nonsense") }], 3, /malformed event/);
});

test("changed bytes are found by the hashes in the log", async () => {
  const entries = whole();
  const pages = pagesOf(entries, 2);
  const other = logOf([1, opening(1)], [1, session], [1, aSession()]);
  const forged = pages.map((page, i) =>
    i === 1 ? { ...page, entries: [other[2]?.bytes ?? Buffer.of(), ...page.entries.slice(1)] } : page,
  );
  const verdict = await verifyChain(forged);
  assert.ok(verdict.type === "broken");
  assert.equal(verdict.position, 3, "the page that starts here holds the change");
});

test("a stored log is verified down to the single event, and against its epoch table", async () => {
  const log = createMemoryLog();
  const writer = await LogWriter.open(log);
  for (let i = 0; i < 9; i++) await writer.appendEach(aSession());
  await LogWriter.open(log);
  assert.equal((await verifyLog(log)).type, "intact");
  const at = await log.linkAt(6 as Position);
  assert.equal((await verifyLog(log, at)).type, "intact", "from the middle, as after retention");

  const changed = aSession();
  const tampered = {
    epochs: () => log.epochs(),
    base: () => log.base(),
    read: async (after: Link, limit: number) => {
      const outcome = await log.read(
        after.position === 0 ? genesis : ((await log.linkAt(after.position)) ?? after),
        limit,
      );
      if (outcome.type !== "page") return outcome;
      const entries = outcome.page.entries.map((bytes, i) =>
        after.position + i + 1 === 7 ? entryAt(at as Link, writer.epoch, changed, { version: 1 }).bytes : bytes,
      );
      return { ...outcome, page: { ...outcome.page, entries } };
    },
  };
  const verdict = await verifyLog(tampered);
  assert.ok(verdict.type === "broken");
  assert.equal(verdict.position, 7);

  const epochs = await log.epochs();
  const verifyWithEpochs = (table: typeof epochs) =>
    verifyLog({ read: log.read.bind(log), base: log.base.bind(log), epochs: async () => table });
  const wrong = await verifyWithEpochs(epochs.map((e) => ({ ...e, incarnation: "other" as Incarnation })));
  assert.ok(wrong.type === "broken" && wrong.position === 1);
  const missing = await verifyWithEpochs(epochs.slice(0, 1));
  assert.ok(missing.type === "broken" && missing.position === 11);
  assert.equal((await log.streamVersions([clusterStream])).get(clusterStream), 2);
});
