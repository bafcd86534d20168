/** Reasserted cuts (revocations of all sessions of a user) and the sessions that the log lost together with them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { performCommand } from "../../../src/broker/commands/catalog.ts";
import { isReassertion, reassertionsIn } from "../../../src/broker/commands/cluster/reassert-tightenings.ts";
import { parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import type { Tools } from "../../../src/broker/commands/performed.ts";
import {
  type CommandRequest,
  type Epoch,
  type LostTightening,
  type Position,
  Projection,
  parseHash,
  type SessionId,
  toLostSession,
  type UnixMs,
  type UserId,
  userStream,
} from "../../../src/events/index.ts";
import { record } from "../../events/support.ts";
import { asked, createSession, random } from "../support.ts";

const now = Date.now() as UnixMs;
const alice = "alice" as UserId;
const cut: LostTightening = {
  link: { epoch: 3, position: 166, hash: parseHash("17".repeat(32)) } as LostTightening["link"],
  stream: userStream(alice),
  type: "UserSessionsRevoked",
  userId: alice,
  recordedAt: now,
};
const ended = (id: string): LostTightening => toLostSession(cut, { sessionId: id as SessionId, userId: alice });

class Broker {
  readonly ledger = new Projection();
  /** The last position of the epoch of the cut, in the surviving log. */
  endOfEpoch = 0 as Position;

  do(request: CommandRequest): string {
    const tools: Tools = {
      epoch: 1 as Epoch,
      ...{ now, random, wrappingKey: new Uint8Array(32).fill(2), vaultKey: new Uint8Array(32).fill(1) },
      personKeyOf: () => undefined,
      versionOf: () => 0,
      configOf: () => undefined,
      hasBody: () => false,
      unreadyFor: () => [],
      admittedNodes: () => [],
      lost: {
        holds: () => false,
        mayHold: () => false,
        lacks: () => true,
        endOfEpoch: () => this.endOfEpoch,
        restoredAfter: () => false,
      },
    };
    const performed = performCommand(this.ledger, request, tools);
    if (performed.type !== "changes") return performed.type === "refused" ? performed.code : performed.type;
    for (const recorded of record(performed.changes.events, this.ledger.applied)) this.ledger.apply(recorded);
    return performed.changes.events.map(({ type }) => type).join(" ");
  }

  report(...events: readonly LostTightening[]): string[] {
    const wire: unknown = JSON.parse(JSON.stringify(asked({ type: "reassertTightenings", events })));
    const { command } = parseCommandRequest(wire);
    assert.ok(command.type === "reassertTightenings");
    const commands = reassertionsIn(command);
    assert.ok(commands.every(isReassertion));
    return commands.map((one) => this.do(one));
  }
}

test("a session that was lost with its cut cannot be created again after the reasserted cut", () => {
  const broker = new Broker();
  assert.deepEqual(broker.report(cut, ended("s1")), ["UserSessionsRevoked", "SessionRevoked"]);
  assert.equal(broker.do(asked(createSession("s1", "alice"))), "conflict");
  assert.match(broker.do(asked(createSession("s2", "alice"))), /SessionCreated/, "the person may sign in again");
});

test("a session that was created again before the cut was reasserted is revoked", () => {
  const broker = new Broker();
  assert.match(broker.do(asked(createSession("s1", "alice"))), /SessionCreated/);
  assert.deepEqual(broker.report(cut, ended("s1")), ["UserSessionsRevoked", "SessionRevoked"]);
  assert.equal(broker.ledger.sessionStatus("s1" as SessionId).status, "revoked");
});

test("a session that the cut also ends in this log needs no event of its own", () => {
  const broker = new Broker();
  broker.do(asked(createSession("s1", "alice")));
  broker.endOfEpoch = broker.ledger.applied.position;
  assert.deepEqual(broker.report(cut, ended("s1")), ["UserSessionsRevoked", "nothing"]);
  assert.equal(broker.ledger.sessionStatus("s1" as SessionId).status, "revoked");
});

test("all reports of one lost session of a cut make one command, and another session makes another", () => {
  const idOf = (event: LostTightening): string | undefined =>
    reassertionsIn({ type: "reassertTightenings", events: [event] })[0]?.commandId;
  assert.equal(idOf(ended("s1")), idOf({ ...ended("s1"), recordedAt: (now + 1) as UnixMs }));
  const other = { ...cut, link: { ...cut.link, hash: parseHash("18".repeat(32)) } };
  const ids = [
    cut,
    ended("s1"),
    ended("s2"),
    other,
    toLostSession(other, { sessionId: "s1" as SessionId, userId: alice }),
  ];
  assert.equal(new Set(ids.map(idOf)).size, ids.length);
});
