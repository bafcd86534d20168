/**
 * Refresh exactly once: two brokers on Postgres, with a real provider that rotates refresh tokens.
 *
 * The provider revokes a token family when one of its tokens arrives twice. The leader is killed during a call, paused
 * during a call, or answered after its time-out. No token may arrive twice.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, type TestContext, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { createLocalFetch, createOidcClient, createRefresh, newRefreshMemory } from "../../../src/auth/index.ts";
import { createLeaderClient, startBroker } from "../../../src/broker/index.ts";
import { type Config, signInClientsOf } from "../../../src/config/index.ts";
import {
  type BrokerId,
  type CommandId,
  type CommandRequest,
  type CommandResult,
  parseGroupId,
  parseSessionId,
  parseUnixMs,
  type SessionId,
  userIdOf,
} from "../../../src/events/index.ts";
import { createLocalFanout } from "../../../src/replication/fanout/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient } from "../../../src/replication/wire/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { startProvider, type TestProvider } from "../../support/oidc-provider.ts";
import { startPostgres } from "../../support/postgres.ts";
import { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { loadConfigFile } from "../cluster/cluster.ts";
import { type ClusterSetup, configOf } from "../cluster/cluster-config.ts";
import { ClusterProcess } from "../cluster/cluster-process.ts";

const redirectUri = new URL("http://authenticate.localhost/oauth2/callback");
const clientSecret = "the client secret of the cluster";
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

type Installation = Readonly<{
  provider: TestProvider;
  brokers: readonly ClusterProcess[];
  client: BrokerClient;
  config: Config;
}>;
let at: Installation;
const stops: (() => unknown)[] = [];

before(
  async () => {
    const provider = await startProvider(
      { after: (stop) => stops.push(stop as () => unknown) },
      [{ id: "cluster", secret: clientSecret, redirectUris: [redirectUri.href] }],
      { refreshTokens: "rotated" },
    );
    const folder = new TemporaryFolder("refresh-once");
    stops.push(() => folder.remove());
    const postgres = await startPostgres();
    stops.push(() => postgres.stop());
    const ports = await freePorts(6);
    const places: ClusterSetup = {
      ...{ clusterName: "refresh-once", idpSecret: clientSecret, postgres: await postgres.newDatabase() },
      ...{ sharedSecret: randomBytes(32).toString("base64"), cookieSecret: randomBytes(32).toString("base64") },
      ...{ upstreamPort: 9, frontPort: 80, authenticatePort: 9, idpPort: Number(provider.issuer.port) },
    };
    const brokerPorts = [0, 1].map((n) => ({
      address: ports[n] ?? 0,
      metrics: ports[n + 2] ?? 0,
      broker: ports[n + 4] ?? 0,
    }));
    const brokerUrls = brokerPorts.map(({ broker }) => `http://127.0.0.1:${broker}`);
    const brokers = brokerPorts.map((each, n) => {
      const name = `broker-${n + 1}`;
      const dataDir = join(folder.path, name);
      mkdirSync(dataDir, { mode: 0o700 });
      const spec = { name, services: ["databroker"], region: "north", ports: each, nats: [], brokerUrls } as const;
      const { nats: _, ...config } = configOf(spec, places, { timing: "short", dataDir }) as Record<string, unknown>;
      return new ClusterProcess({ ...spec, folder: folder.path, dataDir, config });
    });
    for (const broker of brokers) stops.push(() => broker.kill());
    await Promise.all(brokers.map((broker) => broker.start()));
    const config = loadConfigFile(brokers[0]?.configFile ?? "");
    const client = createBrokerClient({
      ...{
        role: "authenticate",
        urls: config.broker.urls,
        cluster: places.clusterName,
        name: "test",
        secret: config.sharedSecret,
      },
      ...{ clock: systemClock, randomBytes, logger: quiet, submitMs: 60_000 },
    });
    stops.push(() => client.close());
    at = { provider, brokers, client, config };
  },
  { timeout: 400_000 },
);
after(async () => {
  for (const stop of stops.reverse()) await stop();
});

const local = createLocalFetch({ timeoutMs: 10_000 });
stops.push(() => local.close());

function oidcOf(provider: TestProvider, refreshMsMax: number) {
  const scopes = ["openid", "email", "profile", "groups", "offline_access"];
  const settings = {
    issuer: provider.issuer,
    clientId: "cluster",
    clientSecret,
    scopes,
    requestParams: {},
    redirectUri,
  };
  return createOidcClient({ ...settings, refreshMsMax }, local, () => Date.now());
}

/** Creates a session with real tokens, as authenticate does at a sign-in. */
async function signIn(
  provider: TestProvider,
  by: Readonly<{ idpId: string; submit: (request: CommandRequest) => Promise<CommandResult> }>,
): Promise<SessionId> {
  const oidc = oidcOf(provider, 10_000);
  let secrets = { nonce: "", verifier: "" };
  const signInUrl = await oidc.begin(
    async (made) => {
      secrets = made;
      return "state-1";
    },
    { account: "current" },
  );
  const visitor = new Visitor();
  const back = await visitor.navigate(signInUrl, { until: redirectUri.origin });
  await visitor.close();
  const { profile, tokens } = await oidc.finish(back.location?.search ?? "", { ...secrets, state: "state-1" });
  const sessionId = parseSessionId(randomUUID());
  const now = Date.now();
  const result = await by.submit({
    commandId: randomUUID() as string as CommandId,
    actor: "service:authenticate",
    command: {
      ...{ type: "createSession", sessionId, userId: userIdOf(profile.issuer, profile.subject), idpId: by.idpId },
      ...{ issuedAt: parseUnixMs(now), expiresAt: parseUnixMs(now + 3_600_000), profile, tokens },
      ...{ groupIds: [parseGroupId("eng")], maxSessionsPerUser: 100 },
    },
  });
  assert.equal(result.type, "done");
  return sessionId;
}

const onCluster = (): Promise<SessionId> =>
  signIn(at.provider, { idpId: signInClientsOf(at.config).defaults.bearerIdpId, submit: at.client.submit });
const refreshTokenOf = async (sessionId: SessionId): Promise<string> =>
  (await at.client.tokens(sessionId))?.refreshToken ?? assert.fail("the session has ended");
/** Waits until the session has another refresh token than this one. */
const refreshed = (sessionId: SessionId, before: string): Promise<string> =>
  waitFor(
    "the session to be refreshed",
    async () => {
      const token = await refreshTokenOf(sessionId);
      return token === before ? undefined : token;
    },
    { withinMs: 60_000 },
  );

async function leader(): Promise<ClusterProcess> {
  return waitFor(
    "a broker to lead",
    async () => {
      for (const broker of at.brokers) {
        const leading = await broker.metric("cardea_broker_leading").catch(() => 0);
        if (leading === 1) return broker;
      }
      return undefined;
    },
    { withinMs: 60_000 },
  );
}

/** Delays the answers of the token endpoint until `release`. The provider has already acted on the requests. */
function holdAnswers(provider: TestProvider) {
  const gate = Promise.withResolvers<void>();
  const delayed = { count: 0 };
  provider.state.hold = () => {
    delayed.count++;
    return gate.promise;
  };
  return {
    delayed,
    release() {
      provider.state.hold = async () => {};
      gate.resolve();
    },
  };
}

function assertOnce(t: TestContext, { refreshTokenUses: presented, reuseDetected: reuse }: TestProvider): void {
  t.diagnostic(`${presented.size} refresh tokens presented, ${reuse.families} families revoked`);
  assert.deepEqual(
    [...presented.values()].filter((times) => times > 1),
    [],
  );
  assert.equal(reuse.families, 0);
}

test("when the leader is killed during a call, no other leader sends its token again, and the session continues", {
  timeout: 200_000,
}, async (t) => {
  const session = await onCluster();
  await refreshed(session, await refreshTokenOf(session));
  const gate = holdAnswers(at.provider);
  await waitFor("a call in flight", () => gate.delayed.count > 0, { withinMs: 30_000 });
  const killed = await leader();
  const inFlight = await refreshTokenOf(session);
  await killed.kill();
  gate.release();
  const next = await leader();
  const other = await onCluster();
  await refreshed(other, await refreshed(other, await refreshTokenOf(other)));
  assertOnce(t, at.provider);
  assert.equal(await refreshTokenOf(session), inFlight, "the session keeps its tokens");
  await waitFor("the metric", async () => (await next.metric("cardea_sessions_in_refresh_grace")) === 1, {
    withinMs: 30_000,
  });
  await killed.start();
});

test("when the leader is paused during a call and resumes deposed, the token is sent once, and its answer reaches the log", {
  timeout: 200_000,
}, async (t) => {
  const session = await onCluster();
  const before = await refreshed(session, await refreshTokenOf(session));
  const gate = holdAnswers(at.provider);
  await waitFor("a call in flight", () => gate.delayed.count > 0, { withinMs: 30_000 });
  const stopped = await leader();
  stopped.pause();
  await waitFor(
    "another leader",
    async () => {
      for (const broker of at.brokers) {
        if (broker !== stopped && (await broker.metric("cardea_broker_leading")) === 1) return true;
      }
      return false;
    },
    { withinMs: 60_000 },
  );
  gate.release();
  stopped.resume();
  const nextToken = await refreshed(session, before);
  await refreshed(session, nextToken);
  assertOnce(t, at.provider);
});

test("a provider that answers after the leader's time-out gets no token twice, and no session is signed out", async (t) => {
  const provider = await startProvider(t, [{ id: "cluster", secret: clientSecret, redirectUris: [redirectUri.href] }], {
    refreshTokens: "rotated",
  });
  const oidc = oidcOf(provider, 200);
  const memory = newRefreshMemory();
  const refresh = createRefresh({
    ...{ providerOf: () => oidc, groupsFromClaim: "groups", uuid: randomUUID, everyMs: 50, graceMs: 60_000, memory },
    pause: () => turn(),
    log: quiet,
  });
  let runs = 0;
  const broker = startBroker({
    ...{ log: createMemoryLog(), cluster: "test", brokerId: "broker-1" as BrokerId, secret: randomBytes(32) },
    ...{ fanout: createLocalFanout({ logger: quiet }), clock: systemClock, random: randomBytes, logger: quiet },
    lease: { deltaMs: 5_000, drift: 0.01, beatMs: 100, windowMaxMs: 60_000 },
    ...{ takeoverMs: 1_000, advertisedUrl: null },
    leaderClient: createLeaderClient({
      ...{ cluster: "test", secret: randomBytes(32), clock: systemClock, tlsCa: null, allowPlaintext: true },
    }),
    duties: [
      {
        ...{ name: "refresh", everyMs: 20 },
        async run(context) {
          await refresh(context);
          runs++;
        },
      },
    ],
  });
  t.after(() => broker.stop());
  const databroker = broker.databroker("authenticate");
  const gate = holdAnswers(provider);
  provider.state.hold = async () => {}; // the sign-in is not delayed
  const session = await signIn(provider, { idpId: "demo", submit: databroker.submit });
  provider.state.hold = () => new Promise((resolve) => setTimeout(resolve, 600));
  await waitFor("an unknown outcome", () => memory.inGrace.size === 1);
  gate.release();
  const before = runs;
  await waitFor("many runs", () => runs > before + 20);
  assertOnce(t, provider);
  assert.ok((await databroker.tokens(session)) !== undefined, "the session continues");
});
