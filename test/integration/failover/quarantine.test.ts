/**
 * Quarantine of a node whose projection differs from the leader's, as after a flipped bit or because of a bug. Real
 * Postgres, real HTTP.
 *
 * The leader finds another digest at the same link and refuses grants. The node permits nothing on any route, rebuilds
 * its projection from the log, and serves again.
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

test("a node whose projection differs from the leader's at the same link is quarantined, permits nothing, and recovers with the projection of the log", async () => {
  const member = await testCluster.broker("broker-1");
  await waitToLead(member);
  const errors: string[] = [];
  const logger: Logger = { ...quiet, error: (_fields, message) => void errors.push(message) };
  const [sound, faulty] = [
    await testCluster.node("sound", [member]),
    await testCluster.node("bent", [member], { logger }),
  ];
  for (const id of ["victim", "bystander", "kept"]) await submitCommand(member, createSession(id, "alice"));
  for (const node of [sound, faulty])
    await waitFor("the node to permit", () => node.permits("kept") && node.permits("bystander"), { withinMs: 30_000 });

  // From here on this node folds every revocation as one of the bystander.
  const { projection } = faulty.replica;
  const fold = projection.apply.bind(projection);
  projection.apply = (recorded) => {
    const { event } = recorded;
    if (event.type !== "SessionRevoked") return fold(recorded);
    return fold({ ...recorded, event: { ...event, sessionId: "bystander" as SessionId } });
  };
  const { link } = await submitCommand(member, revoke("victim"));
  await waitFor("the sound node to apply it", () => sound.replica.applied.position >= link.position);
  await waitFor("the faulty node to be quarantined", () => /quarantined/.test(errors.join()), { withinMs: 30_000 });
  await waitFor(
    "the faulty node to serve from another projection",
    () => faulty.replica.ready().ready && faulty.replica.projection !== projection,
    { withinMs: 60_000 },
  );
  for (const node of [sound, faulty]) {
    await waitFor("the node to permit both valid sessions", () => node.permits("kept") && node.permits("bystander"));
    assert.equal(node.permits("victim"), false);
  }
  assert.equal(faulty.replica.projection.digest(), sound.replica.projection.digest());
  assert.deepEqual([faulty.replica.metrics().quarantines, sound.replica.metrics().quarantines], [1, 0]);
  assert.equal(faulty.replica.metrics().stickyDenials, 0, "the node keeps no denial that it made by mistake");
});

test("a quarantined node that cannot read the log permits nothing, even on routes that serve without a lease", async () => {
  const member = await testCluster.broker("broker-2");
  const node = await testCluster.node("other", [member]);
  await submitCommand(member, createSession("more", "alice"));
  await waitFor("the node to permit", () => node.permits("more"), { withinMs: 60_000 });
  const { projection } = node.replica;
  const fold = projection.apply.bind(projection);
  projection.apply = (recorded) => {
    const { event } = recorded;
    return fold(
      event.type === "SessionRevoked" ? { ...recorded, event: { ...event, sessionId: "more" as SessionId } } : recorded,
    );
  };
  const refusals: string[] = [];
  const { lease } = node.client;
  Object.assign(node.client, {
    lease: async (envelope: Uint8Array) => {
      const answer = await lease(envelope).catch((error: Error) => error);
      if (!(answer instanceof Error)) return answer;
      // The first refusal is the last message that reaches the node; later calls fail at the cut relay.
      if (refusals.push(answer.message) === 1) node.relay.cut();
      throw answer;
    },
  });
  await submitCommand(member, createSession("gone", "alice"));
  await submitCommand(member, revoke("gone"));
  await waitFor("the node to be refused a grant", () => refusals.length > 0, { withinMs: 60_000 });
  await waitFor("the node to be quarantined", () => /quarantined/.test(node.replica.ready().reasons.join()));
  assert.equal(node.permits("kept"), false, "permitted within the grace, which a quarantine ends");
  node.relay.restore();
  await waitFor("the node to serve again", () => node.permits("kept") && node.permits("more"), { withinMs: 60_000 });
  assert.equal(node.permits("gone"), false);
});
