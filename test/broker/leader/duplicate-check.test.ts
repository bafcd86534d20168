/**
 * Repeated commands: an executed command is answered with its own position, whatever server answers.
 *
 * The log's table of commands names a position, where another history may hold another event, or none.
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
import { createMemoryLog, type EventLog } from "../../../src/replication/log/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { aCommandId, asked, brokerOn, createSession, revoke, wrapLog } from "../support.ts";

const commandId = aCommandId();
const again = asked(revoke("s1"), { commandId });

/**
 * A log in which a session was created and revoked, the position of that, and one of another command before it.
 */
async function logWithRevoked(): Promise<Readonly<{ log: EventLog; revoked: Link; created: Link }>> {
  const log = createMemoryLog();
  const broker = brokerOn(log);
  await waitFor("the broker to lead", () => broker.leading());
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

/** Repeats an executed command to a new leader. */
async function askedOf(
  log: EventLog,
  parts: Partial<EventLog>,
): Promise<Readonly<{ result: CommandResult; head: Link }>> {
  const broker = brokerOn(wrapLog(log, parts));
  try {
    await waitFor("the broker to lead", () => broker.leading());
    const result = await submitTo(broker, again);
    return { result, head: (await log.observe()).head };
  } finally {
    await broker.stop();
  }
}

test("a command that is repeated to the next leader gets its own position", async () => {
  const { log, revoked } = await logWithRevoked();
  assert.deepEqual(linkIn((await askedOf(log, {})).result), revoked);
});

test("an answer names the incarnation of its link's epoch, whichever epoch answers", async () => {
  const log = createMemoryLog();
  const broker = brokerOn(log);
  await waitFor("the broker to lead", () => broker.leading());
  const first = await submitTo(broker, asked(createSession("s1", "ada")));
  const revoked = await submitTo(broker, again);
  await broker.stop();
  const later = (await askedOf(log, {})).result;
  const [opened, reopened] = await log.epochs();
  assert.ok(opened !== undefined && reopened !== undefined && opened.incarnation !== reopened.incarnation);
  for (const result of [first, revoked, later])
    assert.equal(result.type === "done" ? result.incarnation : undefined, opened.incarnation);
  assert.deepEqual(later, revoked);
});

test("an event of another command at the named position is not accepted as the answer", async () => {
  const { log, created } = await logWithRevoked();
  const { result } = await askedOf(log, { findCommand: async () => ({ first: created.position, count: 1 }) });
  assert.equal(result.type, "unavailable");
});

test("a position beyond the leader's applied head is not answered as done, though the log has no event there", async () => {
  const { log } = await logWithRevoked();
  const { result } = await askedOf(log, { findCommand: async () => ({ first: 1_000 as Position, count: 1 }) });
  assert.equal(result.type, "unavailable");
});

test("a command whose event retention has dropped is answered with the leader's applied head, which is later", async () => {
  const { log, revoked } = await logWithRevoked();
  const { result, head } = await askedOf(log, {
    linkAt: async (position) => (position < revoked.position ? undefined : log.linkAt(position)),
  });
  assert.ok(linkIn(result).position > revoked.position);
  assert.ok(linkIn(result).position <= head.position);
});
