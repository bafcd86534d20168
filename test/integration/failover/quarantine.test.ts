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
import { leads, submitted, World } from "./in-process.ts";

let server: PostgresServer;
let world: World;
before(async () => {
  server = await startPostgres();
  world = new World(await server.newDatabase(), { deltaMs: 5_000, windowMs: 65_000 });
});
after(async () => {
  await world.end();
  await server.stop();
});

test("a node whose projection is another at the same link is found out, permits nothing, and comes back with the log's", async () => {
  const member = await world.broker("broker-1");
  await leads(member);
  const alarms: string[] = [];
  const logger: Logger = { ...quiet, error: (_fields, message) => void alarms.push(message) };
  const [sound, bent] = [await world.node("sound", [member]), await world.node("bent", [member], { logger })];
  for (const id of ["victim", "bystander", "kept"]) await submitted(member, createSession(id, "alice"));
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
  const { link } = await submitted(member, revoke("victim"));
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
  const member = await world.broker("broker-2");
  const node = await world.node("other", [member]);
  await submitted(member, createSession("more", "alice"));
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
  await submitted(member, createSession("gone", "alice"));
  await submitted(member, revoke("gone"));
  await waitFor("it to be refused", () => asked.length > 0, { withinMs: 60_000 });
  await waitFor("it to have taken that in", () => /quarantined/.test(node.replica.ready().reasons.join()));
  assert.equal(node.permits("kept"), false, "there is a minute of grace for a lost control plane, and none for this");
  node.relay.restore();
  await waitFor("it to serve again", () => node.permits("kept") && node.permits("more"), { withinMs: 60_000 });
  assert.equal(node.permits("gone"), false);
});
