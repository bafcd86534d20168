/**
 * A node that folds an event into something else than everybody, as a bit that has flipped or a bug would make it: the
 * leader finds another digest at the same link, grants it nothing and says so; the node permits nothing on any route,
 * builds its projection anew from the log, and serves again with the right one. Real Postgres, real HTTP.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { SessionId } from "../../../src/events/index.ts";
import type { Logger } from "../../../src/replication/index.ts";
import { createSession, quiet, revoke } from "../../broker/support.ts";
import { startPostgres } from "../../support/postgres.ts";
import type { PostgresServer } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { InProcessCluster, submitCommand, waitToLead } from "./in-process.ts";

let server: PostgresServer;
let testCluster: InProcessCluster;
before(async () => {
  server = await startPostgres();
  testCluster = new InProcessCluster(await server.newDatabase(), { deltaMs: 5_000, windowMs: 65_000 });
});
after(async () => {
  await testCluster.stop();
  await server.stop();
});

test("a node whose projection is another at the same link is found out, permits nothing, and comes back with the log's", async () => {
  const member = await testCluster.broker("broker-1");
  await waitToLead(member);
  const alarms: string[] = [];
  const logger: Logger = { ...quiet, error: (_fields, message) => void alarms.push(message) };
  const [sound, bent] = [
    await testCluster.node("sound", [member]),
    await testCluster.node("bent", [member], { logger }),
  ];
  for (const id of ["victim", "bystander", "kept"]) await submitCommand(member, createSession(id, "alice"));
  for (const node of [sound, bent])
    await waitFor("it to permit", () => node.permits("kept") && node.permits("bystander"), { withinMs: 30_000 });

  // From here on this copy takes every revocation for that of the bystander.
  const { projection } = bent.replica;
  const fold = projection.apply.bind(projection);
  projection.apply = (recorded) => {
    const { event } = recorded;
    if (event.type !== "SessionRevoked") return fold(recorded);
    return fold({ ...recorded, event: { ...event, sessionId: "bystander" as SessionId } });
  };
  const { link } = await submitCommand(member, revoke("victim"));
  await waitFor("the sound node to have it", () => sound.replica.applied.position >= link.position);
  await waitFor("the bent one to be found out", () => /quarantined/.test(alarms.join()), { withinMs: 30_000 });
  await waitFor(
    "it to serve from another projection",
    () => bent.replica.ready().ready && bent.replica.projection !== projection,
    { withinMs: 60_000 },
  );
  for (const node of [sound, bent]) {
    await waitFor("it to permit whom it should", () => node.permits("kept") && node.permits("bystander"));
    assert.equal(node.permits("victim"), false);
  }
  assert.equal(bent.replica.projection.digest(), sound.replica.projection.digest());
  assert.deepEqual([bent.replica.metrics().quarantines, sound.replica.metrics().quarantines], [1, 0]);
  assert.equal(bent.replica.metrics().stickyDenials, 0, "what it denied by mistake is denied no more");
});

test("while the log cannot be read it stays quarantined, on routes that serve without a lease, too", async () => {
  const member = await testCluster.broker("broker-2");
  const node = await testCluster.node("other", [member]);
  await submitCommand(member, createSession("more", "alice"));
  await waitFor("it to permit", () => node.permits("more"), { withinMs: 60_000 });
  const { projection } = node.replica;
  const fold = projection.apply.bind(projection);
  projection.apply = (recorded) => {
    const { event } = recorded;
    return fold(
      event.type === "SessionRevoked" ? { ...recorded, event: { ...event, sessionId: "more" as SessionId } } : recorded,
    );
  };
  const asked: string[] = [];
  const { lease } = node.client;
  Object.assign(node.client, {
    lease: async (envelope: Uint8Array) => {
      const answer = await lease(envelope).catch((error: Error) => error);
      if (!(answer instanceof Error)) return answer;
      // What it was told is the last that it hears; it may be told so again until it has built another.
      if (asked.push(answer.message) === 1) node.relay.cut();
      throw answer;
    },
  });
  await submitCommand(member, createSession("gone", "alice"));
  await submitCommand(member, revoke("gone"));
  await waitFor("it to be refused", () => asked.length > 0, { withinMs: 60_000 });
  await waitFor("it to have taken that in", () => /quarantined/.test(node.replica.ready().reasons.join()));
  assert.equal(node.permits("kept"), false, "there is a minute of grace for a lost control plane, and none for this");
  node.relay.restore();
  await waitFor("it to serve again", () => node.permits("kept") && node.permits("more"), { withinMs: 60_000 });
  assert.equal(node.permits("gone"), false);
});
