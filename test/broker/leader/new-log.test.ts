/** The level at which a new log begins. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeEvents, genesis, readsLevel } from "../../../src/events/index.ts";
import type { EventLog } from "../../../src/replication/log/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { aCommandId, asked, brokerOn, createSession, folded, sharedLog } from "../support.ts";

async function typesIn(log: EventLog): Promise<readonly string[]> {
  const outcome = await log.read(genesis, 100);
  if (outcome.type !== "page") throw new Error(outcome.type);
  return [...decodeEvents(outcome.page.entries, genesis)].map(({ event }) => event.type);
}

test("a new log begins at the level that its first leader reads", async () => {
  const log = sharedLog();
  const broker = brokerOn(log, { newLogLevel: readsLevel });
  await waitFor("the level", async () => (await folded(log)).level === readsLevel);
  await broker.stop();
  assert.deepEqual((await typesIn(log)).slice(0, 2), ["EpochOpened", "UpgradeFinalized"]);
});

test("it is raised once, and no later epoch raises it", async () => {
  const log = sharedLog();
  for (const level of [2, readsLevel]) {
    const broker = brokerOn(log, { newLogLevel: level });
    await waitFor("the level", async () => (await folded(log)).level === 2);
    const command = createSession(`session-${level}`, "user-1");
    const result = await broker.databroker("authenticate").submit(asked(command));
    assert.equal(result.type, "done", JSON.stringify(result));
    await broker.stop();
  }
  assert.equal((await folded(log)).level, 2);
});

test("a log that was begun at level 1 stays there until an operator finalizes another", async () => {
  const log = sharedLog();
  await leadOnce(log, {});
  await leadOnce(log, { newLogLevel: readsLevel });
  assert.equal((await folded(log)).level, 1);
});

/** A broker leads, performs one command and stops. */
async function leadOnce(log: EventLog, parts: Parameters<typeof brokerOn>[1]): Promise<void> {
  const broker = brokerOn(log, parts);
  const command = createSession(aCommandId(), "user-1");
  const result = await broker.databroker("authenticate").submit(asked(command));
  assert.equal(result.type, "done", JSON.stringify(result));
  await broker.stop();
}
