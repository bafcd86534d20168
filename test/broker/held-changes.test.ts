/** Held mass changes over a broker: repeated requests, requests at the same time, another leader, and expiry. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Broker, BrokerOptions } from "../../src/broker/index.ts";
import type { Command, CommandRequest, CommandResult, GroupId, HeldChange, UserId } from "../../src/events/index.ts";
import { readsLevel } from "../../src/events/index.ts";
import { createMemoryLog, type EventLog } from "../../src/replication/log/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { asked, brokerOn, createSession, folded, user, wrapLog } from "./support.ts";

const massChange = { peopleMax: 3, shareMax: 1, peopleMin: 1, windowMs: 3_600_000, heldMs: 3_600_000 };
const eng = "eng" as GroupId;
const people: readonly UserId[] = Array.from({ length: 8 }, (_, n) => user(`u${n}`));
const actor = "operator:alice";

const removal = (removed: readonly UserId[]): Command => ({
  type: "changeGroupMembers",
  groupId: eng,
  source: "operator",
  added: [],
  removed,
});
const submit = (broker: Broker, request: CommandRequest): Promise<CommandResult> =>
  broker.databroker("operator").submit(request);
const codeOf = (result: CommandResult): string => (result.type === "refused" ? result.code : result.type);

/** A broker at the newest level, with eight members in a group. */
async function brokerWithGroup(log: EventLog, parts: Partial<BrokerOptions> = {}): Promise<Broker> {
  const broker = brokerOn(log, { massChange, ...parts });
  const done = async (command: Command, as: "authenticate" | "operator"): Promise<boolean> =>
    (await broker.databroker(as).submit(asked(command))).type === "done";
  await waitFor("the level", () => done({ type: "finalizeUpgrade", level: readsLevel }, "operator"));
  for (const [n] of people.entries()) assert.ok(await done(createSession(`s${n}`, `u${n}`), "authenticate"));
  const added = { type: "changeGroupMembers", groupId: eng, source: "operator", added: people, removed: [] } as const;
  assert.ok(await done(added, "operator"));
  return broker;
}

async function heldIn(log: EventLog): Promise<readonly HeldChange[]> {
  return [...(await folded(log)).massChanges.held()];
}
async function membersIn(log: EventLog): Promise<number> {
  const projection = await folded(log);
  return [...projection.membersOf(eng)].filter((userId) => projection.membership(userId, eng)?.excluded !== true)
    .length;
}
const release = ({ heldId, version }: Pick<HeldChange, "heldId" | "version">): Command => ({
  type: "releaseHeldChange",
  heldId,
  version,
  reason: "looked at it",
  allowUntil: null,
});

test("a repeated id gets the refusal of the held change from the same leader, and from the next one", async () => {
  const log = createMemoryLog();
  const request = asked(removal(people.slice(0, 5)), { actor });
  const first = await brokerWithGroup(log);
  const refusal = await submit(first, request);
  assert.equal(codeOf(refusal), "held");
  assert.deepEqual(await submit(first, request), refusal);
  await first.stop();
  const next = brokerOn(log, { massChange });
  await waitFor("the next broker to lead", () => next.leading());
  assert.deepEqual(await submit(next, request), refusal, "it reads in the log what became of the command");
  assert.equal((await heldIn(log)).length, 1);
  assert.equal(await membersIn(log), 8);
  await next.stop();
});

test("a held change whose answer was lost with the connection to the store is not made by the retry", async () => {
  const log = createMemoryLog();
  let isLost = false;
  const fault = wrapLog(log, {
    async append(batch) {
      const outcome = await log.append(batch);
      if (!isLost) return outcome;
      isLost = false;
      return { type: "indeterminate", cause: new Error("the connection broke after the commit") };
    },
  });
  const broker = await brokerWithGroup(fault);
  isLost = true;
  const request = asked(removal(people.slice(0, 5)), { actor });
  const result = await submit(broker, request);
  assert.equal(codeOf(result), "held", JSON.stringify(result));
  assert.equal((await heldIn(log)).length, 1);
  assert.equal(await membersIn(log), 8);
  await broker.stop();
});

test("requests of one source at the same time count together, also for different groups", async () => {
  const log = createMemoryLog();
  const broker = await brokerWithGroup(log);
  const own = (userId: UserId): GroupId => `of-${userId}` as GroupId;
  const change = (userId: UserId, kind: "added" | "removed"): Command => ({
    type: "changeGroupMembers",
    groupId: own(userId),
    source: "operator",
    added: [],
    removed: [],
    [kind]: [userId],
  });
  for (const userId of people)
    assert.equal((await submit(broker, asked(change(userId, "added"), { actor }))).type, "done");
  const removals = people.map((userId) => asked(change(userId, "removed"), { actor: "service:directory/hr" }));
  const codes = (await Promise.all(removals.map((request) => submit(broker, request)))).map(codeOf);
  assert.equal(codes.filter((code) => code === "done").length, 3, codes.join(", "));
  assert.equal(codes.filter((code) => code === "held").length, 5, codes.join(", "));
  assert.equal((await heldIn(log)).length, 5);
  await broker.stop();
});

test("of two releases at the same time one makes the change, after a takeover too", async () => {
  const log = createMemoryLog();
  const first = await brokerWithGroup(log);
  await submit(first, asked(removal(people.slice(0, 5)), { actor }));
  await first.stop();
  const broker = brokerOn(log, { massChange });
  await waitFor("the next broker to lead", () => broker.leading());
  const [held] = await heldIn(log);
  assert.ok(held !== undefined);
  const results = await Promise.all([1, 2].map(() => submit(broker, asked(release(held), { actor }))));
  assert.deepEqual(results.map(codeOf).sort(), ["done", "not-found"]);
  assert.equal(await membersIn(log), 3);
  assert.deepEqual(await heldIn(log), []);
  assert.equal(broker.metrics()["massChangesHeld"], 0, "the counter is that of this broker");
  await broker.stop();
});

test("a release whose batch was surely not written changes nothing, and is made by its retry", async () => {
  const log = createMemoryLog();
  let fails = false;
  const fault = wrapLog(log, {
    append: async (batch) =>
      fails ? { type: "unavailable", cause: new Error("the store is down") } : await log.append(batch),
  });
  const broker = await brokerWithGroup(fault);
  await submit(broker, asked(removal(people.slice(0, 5)), { actor }));
  const [held] = await heldIn(log);
  assert.ok(held !== undefined);
  fails = true;
  const request = asked(release(held), { actor });
  assert.equal((await submit(broker, request)).type, "unavailable");
  assert.equal(await membersIn(log), 8);
  assert.equal((await heldIn(log)).length, 1);
  fails = false;
  assert.equal((await submit(broker, request)).type, "done");
  assert.equal(await membersIn(log), 3);
  await broker.stop();
});

test("the leader removes held changes that have expired", async () => {
  const log = createMemoryLog();
  const broker = await brokerWithGroup(log, { massChange: { ...massChange, heldMs: 300 } });
  assert.equal(codeOf(await submit(broker, asked(removal(people.slice(0, 5)), { actor }))), "held");
  await waitFor("the held change to end", async () => (await heldIn(log)).length === 0);
  assert.equal(await membersIn(log), 8);
  await broker.stop();
});
