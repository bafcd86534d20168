/** Explanations of past decisions: the record must agree with the log, and the explanation shows the log's events. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { explainDecision } from "../../src/audit/index.ts";
import type { DecisionRecord, FactTrace } from "../../src/auth/index.ts";
import {
  type CardeaEvent,
  configurationStream,
  type GroupId,
  type Hash,
  type Link,
  type Position,
} from "../../src/events/index.ts";
import { createMemoryLog, type HistoryRequest, LogDamagedError, readHistory } from "../../src/replication/log/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { aSession, aUserId, LogWriter } from "../support/log-writer.ts";
import { decision, node } from "./support.ts";

const eng = "eng" as GroupId;
const userId = aUserId();
const session = aSession({ userId });
const { sessionId } = session;
const members = (change: "added" | "removed"): CardeaEvent => {
  const [added, removed] = change === "added" ? [[userId], []] : [[], [userId]];
  return { type: "GroupMembersChanged", groupId: eng, source: "operator", added, removed };
};
const config = {
  type: "ConfigurationActivated",
  nodeId: node,
  configHash: "config" as DecisionRecord["configHash"],
} as const;
const positions = { session: 2, configuration: 3, added: 4, removed: 6 };

/** A log in which a person signs in, joins a group and leaves it. Position 1 opens the epoch. */
async function createHistory(more: readonly CardeaEvent[] = []) {
  const log = createMemoryLog({ clock: systemClock });
  const writer = await LogWriter.open(log);
  for (const event of [session, config, members("added"), aSession(), members("removed"), ...more])
    await writer.append([{ events: [event] }]);
  const requests: HistoryRequest[] = [];
  return {
    log,
    writer,
    requests,
    read: (request: HistoryRequest) => {
      requests.push(request);
      return readHistory(log, request);
    },
  };
}

const fact = (name: string, position: number | null, exact = true): FactTrace => ({
  fact: name,
  criteria: [],
  position,
  exact,
});
const facts = (exact: boolean): readonly FactTrace[] => [
  fact(`session:${sessionId}`, exact ? positions.session : 6, exact),
  fact(`user:${userId}`, exact ? 0 : 6, exact),
  { ...fact(`group:${eng}`, exact ? positions.removed : 6, exact), criteria: ["groups"], member: false },
  fact(configurationStream(node), exact ? positions.configuration : 6, exact),
];
function deniedRecord(applied: Link, traces: readonly FactTrace[]): DecisionRecord {
  const rules = [{ rule: "policy.allow.or", met: false, criteriaMet: [], criteriaUnmet: ["groups"], criteriaMore: 0 }];
  const trace = { rule: null, rules, more: 0, facts: traces, factsMore: 0 };
  return decision("/", {
    result: "deny",
    status: 403,
    reasons: ["groups-unauthorized"],
    sessionId,
    userId,
    applied,
    trace,
  });
}
const always = { mayContinue: () => true };

for (const known of ["exact", "only as a bound"] as const)
  test(`each fact is shown with the event that set it; its position is known ${known}`, async () => {
    const { writer, read } = await createHistory([members("added")]); // a later event is not a cause of the decision
    const applied = (await readHistory(writer.log, { streams: [], upTo: 6 as Position, depth: 1 })).at;
    assert.ok(applied);
    const {
      facts: explained,
      broken,
      open,
    } = await explainDecision(deniedRecord(applied, facts(known === "exact")), read, always);
    assert.deepEqual([broken, open], [[], []]);
    assert.deepEqual(
      explained.map(({ position, exact, event }) => [position, exact, event?.type, event?.says]),
      [
        [positions.session, true, "SessionCreated", "signed in, by provider test"],
        [0, true, undefined, undefined],
        [positions.removed, true, "GroupMembersChanged", "removed from the group by operator"],
        [
          positions.configuration,
          true,
          "ConfigurationActivated",
          `configuration config came into force on node ${node}`,
        ],
      ],
    );
    assert.match(String(explained[2]?.event?.cause), /^[0-9a-f-]{36}$/);
    assert.doesNotMatch(JSON.stringify(explained), /profile/);
  });

test("a record with an unknown link is broken, and so is one that contradicts its events", async () => {
  const { read, writer } = await createHistory();
  const forged = { ...writer.head, hash: "0".repeat(64) as Hash };
  const lost = await explainDecision(deniedRecord(forged, facts(true)), read, always);
  assert.match(lost.broken[0] ?? "", /the decision was made at .*, but the log has .* at that position/);
  const beyond = { ...writer.head, position: 99 as Position };
  assert.match((await explainDecision(deniedRecord(beyond, []), read, always)).broken[0] ?? "", /is not in the log/);
  const wrong = [fact(`session:${sessionId}`, positions.added)];
  assert.match(
    (await explainDecision(deniedRecord(writer.head, wrong), read, always)).broken[0] ?? "",
    /does not set it/,
  );
});

test("damage in the part of the log that is read is reported", async () => {
  const { log, writer } = await createHistory();
  const damaged = {
    base: () => log.base(),
    linkAt: (position: Position) => log.linkAt(position),
    read: async (after: Link) => {
      throw new LogDamagedError("the log", after, "changed");
    },
  };
  const explained = await explainDecision(
    deniedRecord(writer.head, facts(true)),
    (r) => readHistory(damaged, r),
    always,
  );
  assert.match(explained.broken[0] ?? "", /damaged at event 2/);
});

test("events that retention has dropped are unknown, which differs from broken", async () => {
  const { log, writer, read } = await createHistory();
  const { epoch, incarnation } = writer;
  await log.retain({ epoch, incarnation, first: 5 as Position });
  const explained = await explainDecision(deniedRecord(writer.head, facts(true)), read, always);
  assert.deepEqual(explained.broken, []);
  assert.equal(explained.open.length, 2, "the events of the session's creation and of the configuration");
  assert.equal(explained.facts[2]?.event?.position, positions.removed);
  const unknown = await explainDecision(deniedRecord(writer.head, facts(false)), read, always);
  assert.deepEqual(unknown.broken, []);
  assert.match(unknown.open.join(), /set at or before event 4/);
});

test("a record without a trace is explained as far as it goes: session, user and configuration", async () => {
  const { writer, read } = await createHistory();
  const record = decision("/", { sessionId, userId, applied: writer.head });
  const { facts: explained, broken } = await explainDecision(record, read, always);
  assert.deepEqual(broken, []);
  assert.deepEqual(
    explained.map(({ event }) => event?.position ?? null),
    [positions.session, null, positions.configuration],
  );
});

test("a cancelled search ends and reports how far it got", async () => {
  const { writer, read, requests } = await createHistory(Array.from({ length: 3 }, () => aSession()));
  const shallow = (request: HistoryRequest) => read({ ...request, depth: 1 });
  const { open } = await explainDecision(deniedRecord(writer.head, facts(false)), shallow, {
    mayContinue: () => requests.length < 3,
  });
  assert.match(open.join(), /not found down to event \d+, where the search stopped/);
});
