/** The draft of a batch: what its commands miss is known before they are performed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { accessOf } from "../../../src/broker/commands/catalog.ts";
import type { QueuedCommand } from "../../../src/broker/core/internal-messages.ts";
import { type BatchBuilder, BatchDraft } from "../../../src/broker/leader/batch.ts";
import {
  type Command,
  type Epoch,
  genesis,
  type PersonKey,
  Projection,
  streamOf,
  userStream,
} from "../../../src/events/index.ts";
import { checkBatch } from "../../../src/replication/log/log-rules.ts";
import { asked, createSession, random, user } from "../support.ts";

const projection = new Projection();

/** A draft in which performing a command fails. */
function draftOf(of: Pick<BatchBuilder, "keyOf" | "versionOf">): BatchDraft {
  const tools = new Proxy({}, { ownKeys: () => assert.fail("a command is performed") });
  const builder = { ...of, projection, epoch: 1 as Epoch, incarnation: "00", tools };
  return new BatchDraft(builder as unknown as BatchBuilder, { link: genesis, used: null });
}

function queued(session: string, person: string): QueuedCommand {
  const request = asked(createSession(session, person));
  return { order: 1, request, access: accessOf(request, projection), urgent: false, bytes: 10, onlyIn: null };
}

test("a sign-in of a person whose key is not loaded names the key and the versions without being performed", () => {
  const draft = draftOf({ keyOf: () => undefined, versionOf: () => undefined });
  assert.equal(draft.hasMissing, false);
  draft.noteMissing([queued("s1", "ann"), queued("s2", "bob")]);
  assert.equal(draft.hasMissing, true);
  const { people, streams } = draft.missing;
  assert.deepEqual(people, [user("ann"), user("bob")]);
  for (const person of people) assert.ok(streams.includes(userStream(person)), person);
  assert.equal(draft.size, 0);
});

test("a person whose key is loaded, or who has none, misses nothing", () => {
  const key = { userId: user("ann") } as PersonKey;
  const draft = draftOf({ keyOf: (id) => (id === user("ann") ? key : null), versionOf: () => undefined });
  draft.noteMissing([queued("s1", "ann"), queued("s2", "bob")]);
  assert.equal(draft.hasMissing, false);
});

test("a command that does not fit leaves nothing in the batch, and the next one follows the one before it", () => {
  const tools = { random, configOf: () => undefined, hasBody: () => false };
  const of = { keyOf: () => null, versionOf: () => 7, projection, epoch: 1 as Epoch, incarnation: "00", tools };
  const draft = new BatchDraft(of as unknown as BatchBuilder, { link: { ...genesis, epoch: 1 as Epoch }, used: null });
  const commands = [200_000, 200_000, 10].map((bytes, n) => {
    const command = { type: "activateConfiguration", nodeId: `n${n}`, configHash: "a", body: new Uint8Array(bytes) };
    const request = asked(command as unknown as Command);
    return { ...queued(`s${n}`, "ann"), request, access: accessOf(request, projection) };
  });
  draft.add(commands, 1 as never);
  const { batch, deferred } = draft.finish();
  assert.ok(batch !== null);
  assert.deepEqual(deferred, [commands[1]]);
  assert.deepEqual(
    batch.streams,
    batch.entries.map(({ recorded }) => ({ stream: recorded.stream, expected: 7, next: 8 })),
  );
  assert.deepEqual(
    batch.entries.map(
      ({ recorded: { event } }) => event.type === "ConfigurationActivated" && [event.nodeId, streamOf(event)],
    ),
    [
      ["n0", "configuration:n0"],
      ["n2", "configuration:n2"],
    ],
  );
  assert.equal(batch.configurations.length, 2);
  checkBatch(batch);
});
