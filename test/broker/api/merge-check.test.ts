/**
 * What a home broker answers to a submitted revocation of a region: `done` only if the log denies all that it denies,
 * and a refusal only as long as the reason for it.
 */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createMergeCheck } from "../../../src/broker/api/merge-check.ts";
import { newCounters } from "../../../src/broker/core/counters.ts";
import type { Broker } from "../../../src/broker/index.ts";
import {
  type BootId,
  type CommandId,
  type CommandRequest,
  type CommandResult,
  commandIdOfEnvelope,
  genesis,
  type Link,
  type Position,
  Projection,
  type UnixMs,
} from "../../../src/events/index.ts";
import { createMemoryLog, type EventLog } from "../../../src/replication/log/index.ts";
import {
  answererOf,
  createBrokerOpener,
  encodeRevocation,
  type LocalRevocation,
  type Role,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import { created, History, userId } from "../../replication/support.ts";
import { entryAt } from "../../support/log-writer.ts";
import { waitFor } from "../../support/wait-for.ts";
import { aCommandId, brokerOn, cluster, createSession, quiet, secret, session, user } from "../support.ts";

const actor = "operator:alice#1";
const suspend = { type: "suspendUser", userId: user("u"), reason: "home" } as const;
const restore = { type: "restoreUser", userId: user("u") } as const;

/** An envelope as a regional broker makes it. */
function envelopeOf(parts: Partial<LocalRevocation>): Uint8Array {
  const boot = "b".repeat(32) as BootId;
  const revocation: LocalRevocation = {
    ...{ commandId: aCommandId(), region: "west", broker: "b1", boot, seq: 1, basis: genesis, actor },
    ...{ acceptedAt: Date.now() as UnixMs, command: "suspendUser", userId: user("u"), sessionIds: [] },
    ...{ reason: "stolen laptop", ...parts },
  };
  const signer = answererOf({ cluster, name: "b1", boot, secret, seed: new Uint8Array(32).fill(5) });
  return sealEnvelope(signer, "local-revocation", encodeRevocation(revocation));
}

/** A home broker, with a session of user u. */
async function aHome(t: TestContext) {
  const broker = brokerOn(createMemoryLog());
  t.after(() => broker.stop());
  await submit(broker, "authenticate", { actor: "system", command: createSession("s", "u") });
  return {
    broker,
    operate: (command: CommandRequest["command"], commandId = aCommandId()) =>
      submit(broker, "operator", { actor: "operator:home#1", command }, commandId),
    merge: (envelope: Uint8Array, commandId: CommandId) =>
      submit(broker, "broker", { actor, command: { type: "mergeRevocation", envelope } }, commandId),
  };
}

function submit(broker: Broker, role: Role, request: Omit<CommandRequest, "commandId">, commandId = aCommandId()) {
  return waitFor("a definite answer", async () => {
    const result = await broker.databroker(role).submit({ commandId, ...request });
    return result.type === "unavailable" ? undefined : result;
  });
}

function summaryOf(result: CommandResult) {
  return result.type === "done" ? (result.changed ? "recorded" : "nothing to record") : "code" in result && result.code;
}

test("a command that changed nothing at home is not taken for the merge of a suspension under its command id", async (t) => {
  const { operate, merge } = await aHome(t);
  const commandId = aCommandId();
  assert.equal(summaryOf(await operate(restore, commandId)), "nothing to record");
  const envelope = envelopeOf({ commandId });
  assert.equal(summaryOf(await merge(envelope, commandId)), "conflict");
  assert.equal(summaryOf(await merge(envelope, commandIdOfEnvelope(envelope))), "recorded");

  assert.equal(summaryOf(await operate({ type: "eraseUser", userId: user("u") })), "recorded");
  const late = aCommandId();
  assert.equal(summaryOf(await merge(envelopeOf({ commandId: late }), late)), "nothing to record", "erasure denies");
});

test("a merge and another command under its id that arrive together do not get each other's refusal", async (t) => {
  const { operate, merge } = await aHome(t);
  const commandId = aCommandId();
  const unknown = operate({ ...suspend, userId: user("nobody") }, commandId);
  const joined = merge(envelopeOf({ commandId }), commandId);
  assert.deepEqual([summaryOf(await unknown), summaryOf(await joined)], ["not-found", "recorded"]);

  await operate(restore);
  const old = aCommandId();
  const acceptedAt = (Date.now() - 48 * 3_600_000) as UnixMs;
  const refused = merge(envelopeOf({ commandId: old, acceptedAt }), old);
  const newer = merge(envelopeOf({ commandId: old, seq: 2 }), old);
  const change = operate({ type: "suspendUser", userId: user("u"), reason: "home" }, old);
  assert.equal(summaryOf(await change), "recorded");
  assert.ok(
    ["invalid", "recorded"].includes(String(summaryOf(await refused))),
    "in the order in which they are performed",
  );
  assert.equal(summaryOf(await newer), "recorded");
});

test("a restore at home that races the merge loses and is reported, or follows it in the log and wins", async (t) => {
  const { broker, merge } = await aHome(t);
  let overridden = 0;
  for (let round = 0; round < 12; round++) {
    const userId = user(`racer-${round}`);
    const operator = (type: "suspendUser" | "restoreUser") =>
      submit(broker, "operator", {
        actor: "operator:home#1",
        command: type === "suspendUser" ? { type, userId, reason: "home" } : { type, userId },
      });
    await submit(broker, "authenticate", {
      actor: "system",
      command: createSession(`before-${round}`, `racer-${round}`),
    });
    await operator("suspendUser");
    const commandId = aCommandId();
    const merging = () => merge(envelopeOf({ commandId, userId }), commandId);
    const both = round % 2 === 0 ? [merging(), operator("restoreUser")] : [operator("restoreUser"), merging()];
    for (const result of await Promise.all(both)) assert.equal(result.type, "done");
    const signIn = await submit(broker, "authenticate", {
      actor: "system",
      command: createSession(`after-${round}`, `racer-${round}`),
    });
    if (signIn.type === "refused") {
      assert.equal(signIn.code, "suspended");
      overridden += 1;
    }
    const count = () => (broker.metrics()["restoresOverridden"] === overridden ? true : undefined);
    await waitFor(`${overridden} restores to be reported`, async () => count());
  }
  assert.equal(broker.metrics()["restoresOverridden"], overridden);
});

test("an old suspension that was refused is recorded once the operator has suspended the person", async (t) => {
  const { operate, merge } = await aHome(t);
  await operate(suspend);
  await operate(restore);
  const commandId = aCommandId();
  const envelope = envelopeOf({ commandId, acceptedAt: (Date.now() - 48 * 3_600_000) as UnixMs });
  for (let n = 0; n < 2; n++) assert.equal(summaryOf(await merge(envelope, commandId)), "invalid");
  await operate(suspend);
  assert.equal(summaryOf(await merge(envelope, commandId)), "recorded");
});

test("two revocations of other sessions under one command id are merged one by one", async (t) => {
  const { broker, merge } = await aHome(t);
  await submit(broker, "authenticate", { actor: "system", command: createSession("s2", "u") });
  const commandId = aCommandId();
  const [one, both] = [[session("s")], [session("s"), session("s2")].sort()].map((sessionIds, seq) =>
    envelopeOf({ commandId, seq: seq + 1, command: "revokeUserSessions", sessionIds, reason: "" }),
  );
  assert.ok(one && both);
  assert.equal(summaryOf(await merge(one, commandId)), "recorded");
  assert.equal(summaryOf(await merge(both, commandId)), "conflict", "the log permits the other session");
  assert.equal(summaryOf(await merge(both, commandIdOfEnvelope(both))), "recorded");
  assert.equal(summaryOf(await merge(one, commandId)), "recorded", "the same answer again");
});

type Store = Pick<EventLog, "base" | "linkAt" | "read">;

function storeOf(
  log: History,
  { linkAt = (position) => log.linkAt(position) }: Readonly<{ linkAt?: (position: Position) => Link | undefined }> = {},
): Store {
  return {
    base: async () => genesis,
    linkAt: async (position) => linkAt(position),
    read: async (after, limit) => {
      const upTo = Math.min(log.head.position, after.position + limit);
      const { entries, previous, last } = log.batch(after.position, upTo);
      return { type: "page", page: { entries, previous, last, head: log.head } };
    },
  };
}

test("suspensions that the leader refuses are looked up one at a time, and in new events alone", async () => {
  const log = new History().open(1).add(created(1)).add(created(2));
  const read: number[] = [];
  const store = storeOf(log);
  const { confirm } = createMergeCheck({
    ...{ open: createBrokerOpener({ cluster, secrets: [secret] }), head: () => log.head, counters: newCounters() },
    ...{ projection: () => new Projection(), logger: quiet },
    log: {
      ...store,
      read: (after, limit) => {
        read.push(after.position);
        return store.read(after, limit);
      },
    },
  });
  const answerTo = async (envelope: Uint8Array) => {
    const commandId = commandIdOfEnvelope(envelope);
    const request: CommandRequest = { commandId, actor, command: { type: "mergeRevocation", envelope } };
    return (await confirm(request, { type: "refused", commandId, code: "invalid", message: "" })).type;
  };
  const [one, other] = [envelopeOf({}), envelopeOf({})];
  assert.deepEqual(await Promise.all([answerTo(one), answerTo(other)]), ["refused", "unavailable"]);
  assert.equal(await answerTo(other), "refused", "it is repeated");
  log.add(created(3));
  assert.equal(await answerTo(one), "refused");
  assert.deepEqual(read, [0, 0, 3]);
});

test("a restore that could not be looked up when the merge was recorded is reported by the next submission", async () => {
  const log = new History().open(1).add(created(1));
  const basis = log.head;
  const envelope = envelopeOf({ basis, userId: userId(1) });
  const commandId = commandIdOfEnvelope(envelope);
  log.add({ type: "UserRestored", userId: userId(1) });
  const merged = { type: "UserSuspended", userId: userId(1), reason: "" } as const;
  log.entries.push(entryAt(log.head, log.head.epoch, merged, { version: 2, cause: commandId }));
  let asked = 0;
  // The first two are for the event of the merge.
  const store = storeOf(log, { linkAt: (position) => (++asked === 3 ? undefined : log.linkAt(position)) });
  const { head } = log;
  const lines: string[] = [];
  const counters = newCounters();
  const { confirm } = createMergeCheck({
    ...{ open: createBrokerOpener({ cluster, secrets: [secret] }), log: store, head: () => head, counters },
    projection: () => new Projection(),
    logger: { ...quiet, error: (_fields: object, message: string) => void lines.push(message) },
  });
  const request: CommandRequest = { commandId, actor, command: { type: "mergeRevocation", envelope } };
  const result = { type: "done", commandId, link: head, changed: true } as const;
  assert.deepEqual(await confirm(request, result), result);
  await waitFor("the broker to say that it cannot tell", () => lines.some((line) => /cannot tell/.test(line)));
  assert.equal(counters.restoresOverridden, 0);
  assert.deepEqual(await confirm(request, result), result);
  await waitFor("the restore to be reported", () => counters.restoresOverridden === 1);
  assert.equal(counters.revocationsMerged, 1);
});
