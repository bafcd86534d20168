/** The past log after retention: explanations find the events of facts in the archive of the brokers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { explainDecision } from "../../../src/audit/index.ts";
import type { FactTrace } from "../../../src/auth/index.ts";
import { createPastLog } from "../../../src/console/api/past/past-log.ts";
import {
  type CardeaEvent,
  type GroupId,
  type Hash,
  type Link,
  sessionStream,
  userStream,
} from "../../../src/events/index.ts";
import type { Databroker } from "../../../src/replication/index.ts";
import { readHistory } from "../../../src/replication/log/index.ts";
import { createLogArchive } from "../../../src/replication/snapshot/index.ts";
import { createBrokerOpener } from "../../../src/replication/wire/index.ts";
import { decision } from "../../audit/support.ts";
import { office } from "../../broker/snapshots/support.ts";
import { cluster, secret } from "../../broker/support.ts";
import { aSession } from "../../support/log-writer.ts";

const archive = { archiveMs: 90 * 86_400_000, bytesMax: 1_000_000_000 };
const always = { mayContinue: () => true };

test("a long report does not hold an explanation back, and two of one kind do not run at once", async () => {
  const past = createPastLog({ databroker: {} as Databroker });
  const gate = Promise.withResolvers<string>();
  const report = past.alone("report", () => gate.promise);
  assert.equal(await past.alone("explanation", async () => "explained"), "explained");
  assert.equal(
    past.alone("report", async () => "second"),
    undefined,
  );
  gate.resolve("reported");
  assert.equal(await report, "reported");
  assert.equal(await past.alone("report", async () => "third"), "third");
});

test("after retention the events of facts are found, the link is proved, and a lost history is a contradiction", async (t) => {
  const world = await office(t, { archive });
  const session = aSession();
  const { userId, sessionId } = session;
  const eng = "eng" as GroupId;
  const added: CardeaEvent = {
    ...({ type: "GroupMembersChanged", groupId: eng, source: "operator", removed: [] } as const),
    added: [userId],
  };
  for (const event of [session, added]) await world.writer.append([{ events: [event] }]);
  const applied = world.writer.head;
  for (let n = 0; n < 5; n++) {
    await world.append(12);
    await world.run();
  }
  const base = await world.begins();
  assert.ok(base > applied.position);
  const databroker = { history: (request: Parameters<Databroker["history"]>[0]) => readHistory(world.log, request) };
  const open = createBrokerOpener({ cluster, secrets: [secret] });
  const supply = world.shelf.supply;
  const past = createPastLog({
    databroker: databroker as Databroker,
    archive: createLogArchive({ supply, open }),
  });
  const fact = (name: string, position: number | null): FactTrace => ({
    ...{ fact: name, criteria: [], position, exact: position !== null },
  });
  const trace = (positions: readonly (number | null)[]) => {
    const [a = null, b = null, c = null] = positions;
    const facts = [fact(sessionStream(sessionId), a), fact(userStream(userId), b), fact(`group:${eng}`, c)];
    return { rule: null, rules: [], more: 0, facts, factsMore: 0 };
  };
  const explain = (link: Link, positions: readonly (number | null)[], history = past.history) =>
    explainDecision(decision("/", { sessionId, userId, applied: link, trace: trace(positions) }), history, always);

  for (const positions of [
    [2, 0, 3],
    [null, null, null],
  ]) {
    const { facts, open: unknown, broken } = await explain(applied, positions);
    assert.deepEqual([broken, unknown], [[], []]);
    assert.deepEqual(
      facts.map(({ event }) => event?.type),
      ["SessionCreated", undefined, "GroupMembersChanged"],
    );
  }
  const lost = await explain({ ...applied, hash: "0".repeat(64) as Hash }, [2, 0, 3]);
  assert.match(lost.broken.join(), /the decision was made at .*, but the log has/);

  const without = createPastLog({ databroker: databroker as Databroker });
  const gone = await explain(applied, [2, 0, 3], without.history);
  assert.match(gone.open.join(), /retention removed/);
  const empty = createPastLog({
    databroker: databroker as Databroker,
    archive: createLogArchive({ supply: { ...supply, eventsAt: async () => null }, open }),
  });
  const hole = await explain(applied, [null, null, null], empty.history);
  assert.match(hole.open.join(), /retention removed/);
});
