/** Sessions that a signal denies and that cannot be ended now: the transmitter and the operators see it. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { SignalEnforcement } from "../../../../src/auth/authenticate/signals/signal-enforcement.ts";
import { createTransmitterClient } from "../../../../src/auth/authenticate/signals/transmitter-client.ts";
import {
  type AuthDeps,
  createLocalFetch,
  createSignalServer,
  enforcementReportsOf,
  newSignalMemory,
  peopleWaiting,
  type SignalTransmitter,
  signalRecordsFor,
  transmitterRulesOf,
} from "../../../../src/auth/index.ts";
import type { SignalTransmitterConfig } from "../../../../src/config/index.ts";
import { signalRecordId } from "../../../../src/events/index.ts";
import { startTransmitter, uris } from "../../../support/signal-transmitter.ts";
import { waitFor } from "../../../support/wait-for.ts";
import { signIn, startWorld } from "../support.ts";

const pushToken = "a-token-that-only-the-transmitter-has";

async function start(t: TestContext) {
  const peer = await startTransmitter(t);
  const local = createLocalFetch({ timeoutMs: 5_000 });
  t.after(() => local.close());
  const config: SignalTransmitterConfig = {
    ...{ name: "okta", issuer: peer.issuer, audiences: [peer.audience], delivery: "push", pushToken },
    ...{ match: ["subject", "email"], client: null, accessToken: null, pollUrl: null, streamId: null },
    ...{ subjectIssuers: [], actions: { "session-revoked": "revoke-sessions" }, metadataUrl: null, jwksUrl: null },
  };
  const rules = transmitterRulesOf(config, []);
  const recordsFor = signalRecordsFor([rules]) ?? assert.fail();
  const client = createTransmitterClient(config, { local, nowMs: Date.now, monotonic: () => performance.now() });
  const transmitter: SignalTransmitter = { config, rules, client };
  const memory = newSignalMemory();
  const state = { refuses: true };
  const world = await startWorld(t, {
    deps: (deps) => ({ ...deps, signalRecordsFor: recordsFor }),
    plugins: (at) => [
      (app) => {
        const databroker: AuthDeps["databroker"] = Object.create(at.deps.databroker, {
          submit: {
            value: (request: Parameters<AuthDeps["databroker"]["submit"]>[0]) =>
              state.refuses && request.command.type === "revokeSessions"
                ? { type: "refused", commandId: request.commandId, code: "forbidden", message: "an older leader" }
                : at.deps.databroker.submit(request),
          },
        });
        const server = createSignalServer(
          { ...at.deps, databroker },
          {
            ...{ transmitters: [transmitter], recordsFor, stateKeys: [], onReceived: () => undefined, region: "here" },
            enforcement: enforcementReportsOf(memory),
          },
        );
        t.after(() => server.close());
        server.register(app);
      },
    ],
  });
  await world.submit({ type: "finalizeUpgrade", level: 5 });
  await waitFor("the level", () => world.replica.projection.level === 5);
  return { peer, world, memory, state };
}

type Started = Awaited<ReturnType<typeof start>>;

/** Signs in, and pushes that the sessions of this e-mail are revoked. */
async function signedIn({ peer, world }: Started, name: string) {
  await signIn(world, world.visitor(), name);
  const { projection, open } = world.replica;
  const [session] = [...projection.sessions()];
  assert.ok(session?.status === "active");
  const email = open(session.profile, session.userId)?.email ?? assert.fail();
  const token = await peer.sign(peer.claims(uris.sessionRevoked, { format: "email", email }));
  const url = world.url("authenticate", "/ssf/push/okta");
  return {
    push: () => peer.push(url, token, { authorization: `Bearer ${pushToken}` }),
    status: () => world.replica.projection.sessionStatus(session.sessionId).status,
  };
}

test("a push whose sessions cannot be ended is answered 503, counted, and accepted once they have ended", async (t) => {
  const started = await start(t);
  const { memory, state } = started;
  const alice = await signedIn(started, "alice");
  const refused = await alice.push();
  assert.equal(refused.status, 503);
  assert.ok(refused.header("retry-after"));
  assert.equal(peopleWaiting(memory, "okta"), 1);
  assert.ok((memory.enforcement.get("okta")?.results.refused ?? 0) > 0);
  assert.equal(alice.status(), "active");
  state.refuses = false;
  const accepted = await alice.push();
  assert.equal(accepted.status, 202);
  assert.ok(Number(accepted.header("cardea-position")) > 0);
  await waitFor("the end", () => alice.status() === "revoked");
  await waitFor("the count", () => peopleWaiting(memory, "okta") === 0);
});

test("what could not be ended is tried again without another push", async (t) => {
  const started = await start(t);
  const bob = await signedIn(started, "bob");
  assert.equal((await bob.push()).status, 503);
  started.state.refuses = false;
  await waitFor("the end", () => bob.status() === "revoked", { withinMs: 15_000 });
  await waitFor("the count", () => peopleWaiting(started.memory, "okta") === 0);
});

test("sessions of one person that two records deny are both tried again, and count as one person", async (t) => {
  const { world, state, memory } = await start(t);
  for (let times = 0; times < 2; times++) await signIn(world, world.visitor(), "carol");
  await waitFor("the sessions", () => [...world.replica.projection.sessions()].length === 2);
  const [first, second] = [...world.replica.projection.sessions()];
  assert.ok(first?.status === "active" && second?.status === "active");
  const databroker: AuthDeps["databroker"] = Object.create(world.deps.databroker, {
    submit: {
      value: (request: Parameters<AuthDeps["databroker"]["submit"]>[0]) =>
        state.refuses
          ? { type: "refused", commandId: request.commandId, code: "forbidden", message: "an older leader" }
          : world.deps.databroker.submit(request),
    },
  });
  const enforcement = new SignalEnforcement({ ...world.deps, databroker }, enforcementReportsOf(memory));
  t.after(() => enforcement.close());
  const { userId } = first;
  const [suspended, ended] = ["a@example.com", "b@example.com"].map((email) =>
    signalRecordId("okta", { by: "email", email }),
  );
  assert.ok(suspended !== undefined && ended !== undefined);
  enforcement.add({ recordId: suspended, userId, sessionIds: [first.sessionId] });
  enforcement.add({ recordId: ended, userId, sessionIds: [second.sessionId] });
  await waitFor("both to fail", () => (memory.enforcement.get("okta")?.results.refused ?? 0) >= 2);
  assert.equal(peopleWaiting(memory, "okta"), 1);
  state.refuses = false;
  const statusOf = (session: typeof first): string => world.replica.projection.sessionStatus(session.sessionId).status;
  await waitFor("the ends", () => statusOf(first) === "revoked" && statusOf(second) === "revoked", {
    withinMs: 15_000,
  });
  await waitFor("the count", () => peopleWaiting(memory, "okta") === 0);
});
