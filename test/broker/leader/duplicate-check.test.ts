/**
 * A command that was carried out before is answered with its own place, whatever server was asked: what the log's table
 * of commands names is a position, and another history may have something else there, or nothing.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Broker } from "../../../src/broker/index.ts";
import {
  type CommandRequest,
  type CommandResult,
  genesis,
  type Link,
  type Position,
} from "../../../src/events/index.ts";
import { createMemoryLog, type EventLog } from "../../../src/replication/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { aCommandId, asked, brokerOn, createSession, revoke, wrapLog } from "../support.ts";

const commandId = aCommandId();
const again = asked(revoke("s1"), { commandId });

/**
 * A log in which the session was created and revoked, the place of that, and one that another command made before it.
 */
async function logWithRevoked(): Promise<Readonly<{ log: EventLog; revoked: Link; created: Link }>> {
  const log = createMemoryLog();
  const broker = brokerOn(log);
  await waitFor("it leads", () => broker.leading());
  const created = linkIn(await submitTo(broker, asked(createSession("s1", "ada"))));
  const revoked = linkIn(await submitTo(broker, again));
  await submitTo(broker, asked(createSession("s2", "bob")));
  await broker.stop();
  return { log, revoked, created };
}

function submitTo(broker: Broker, request: CommandRequest): Promise<CommandResult> {
  return broker.databroker("authenticate").submit(request);
}

function linkIn(result: CommandResult): Link {
  assert.equal(result.type, "done");
  return result.type === "done" ? result.link : genesis;
}

/** Who has just come to lead is asked once more for what was done. */
async function askedOf(
  log: EventLog,
  parts: Partial<EventLog>,
): Promise<Readonly<{ result: CommandResult; head: Link }>> {
  const broker = brokerOn(wrapLog(log, parts));
  try {
    await waitFor("it leads", () => broker.leading());
    const result = await submitTo(broker, again);
    return { result, head: (await log.observe()).head };
  } finally {
    await broker.stop();
  }
}

test("a command that is repeated to the next leader has its own place", async () => {
  const { log, revoked } = await logWithRevoked();
  assert.deepEqual(linkIn((await askedOf(log, {})).result), revoked);
});

test("what stands at the place that a server names must be the command's own: another one's is no answer", async () => {
  const { log, created } = await logWithRevoked();
  const { result } = await askedOf(log, { findCommand: async () => ({ first: created.position, count: 1 }) });
  assert.equal(result.type, "unavailable");
});

test("a place beyond where the leader stands is not called done there, though the log shows nothing at it", async () => {
  const { log } = await logWithRevoked();
  const { result } = await askedOf(log, { findCommand: async () => ({ first: 1_000 as Position, count: 1 }) });
  assert.equal(result.type, "unavailable");
});

test("whose event retention has let go of is done where the leader stands, which is behind it", async () => {
  const { log, revoked } = await logWithRevoked();
  const { result, head } = await askedOf(log, {
    linkAt: async (position) => (position < revoked.position ? undefined : log.linkAt(position)),
  });
  assert.ok(linkIn(result).position > revoked.position);
  assert.ok(linkIn(result).position <= head.position);
});
