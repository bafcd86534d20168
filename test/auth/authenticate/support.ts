/**
 * A sign-in environment: the demo identity provider, a broker on an in-memory log, and one listener that serves the
 * authenticate host and two routes, as a proxy would.
 */
import { randomBytes, randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import {
  type AuthDeps,
  type AuthSettings,
  beginSignIn,
  CallerCache,
  createAssertions,
  createAuthenticateHost,
  createHandleCodec,
  createIdleGate,
  createLocalFetch,
  createOidcClient,
  createRouteHost,
  createValueCipher,
  handleFits,
  type ProviderClient,
  readCredential,
  resolveCaller,
  SessionActivity,
  signInLoopOf,
  signInLoopPageOf,
} from "../../../src/auth/index.ts";
import { type Broker, createLeaderClient, type Duty, startBroker } from "../../../src/broker/index.ts";
import { createDemoKeys, type DemoProvider, startDemoProvider } from "../../../src/dev/index.ts";
import {
  type BrokerId,
  type Command,
  type CommandId,
  type CommandResult,
  type ConfigHash,
  type NodeId,
  type UnixMs,
  userIdOf,
} from "../../../src/events/index.ts";
import { createLocalFanout, type Fanout } from "../../../src/replication/fanout/index.ts";
import type { Databroker, Logger } from "../../../src/replication/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { type ReplicaProcess, startReplica } from "../../../src/replication/node/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { deriveKey } from "../../../src/replication/wire/index.ts";
import { freePort } from "../../support/free-port.ts";
import { renderPage } from "../../support/pages.ts";
import { Visitor, type VisitorResponse } from "../../support/visitor.ts";

export const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} };
export const secret = new Uint8Array(32).fill(3);
const clientSecret = "the secret of the test client";
/** Of every provider of a process: two of them differ by their issuers. */
const demoKeys = createDemoKeys();

export type World = {
  readonly port: number;
  readonly idpUrl: URL;
  readonly provider: DemoProvider;
  readonly broker: Broker;
  readonly operator: Databroker;
  readonly replica: ReplicaProcess;
  readonly deps: AuthDeps;
  readonly oidc: ProviderClient;
  /** Offset of the clock of the two hosts, ms. */
  clockMs: number;
  /** Messages that were logged at `warn`. */
  readonly warnings: string[];
  url(host: string, path?: string): string;
  visitor(): Visitor;
  submit(command: Command): Promise<CommandResult>;
  /** Breaks every connection of a client. */
  dropConnections(): void;
};

export type WorldOptions = Readonly<{
  settings?: Partial<AuthSettings>;
  cookie?: Partial<AuthSettings["cookie"]>;
  /** Changes the dependencies of the hosts. */
  deps?: (deps: AuthDeps, world: World) => AuthDeps;
  duties?: (oidc: ProviderClient) => readonly Duty[];
  plugins?: (world: World) => readonly ((app: FastifyInstance) => void)[];
  routeHostPlugins?: readonly ((app: FastifyInstance) => void)[];
  provider?: Partial<Parameters<typeof startDemoProvider>[0]>;
  /** `never`: the parameters of a sign-in go through the browser, where a test can read them. */
  par?: "never";
  /** Wraps the fan-out of the node. */
  fanout?: (inner: Fanout) => Fanout;
}>;

export async function startWorld(t: TestContext, options: WorldOptions = {}): Promise<World> {
  const port = await freePort();
  const idpPort = await freePort();
  const url = (host: string, path = "/"): string => `http://${host}.localhost:${port}${path}`;
  const authenticateUrl = new URL(url("authenticate"));
  const idpUrl = new URL(`http://idp.localhost:${idpPort}`);
  const cleanups: (() => unknown)[] = [];
  t.after(async () => {
    for (const end of cleanups.reverse()) await end();
  });

  const provider = await startDemoProvider({
    issuer: idpUrl,
    keys: await demoKeys,
    listen: { host: "127.0.0.1", port: idpPort },
    clientId: "cardea",
    clientSecret,
    redirectUris: [new URL("/oauth2/callback", authenticateUrl).href],
    postLogoutRedirectUris: [new URL("/.pomerium/signed_out", authenticateUrl).href, "https://www.example.com/bye"],
    ...options.provider,
  });
  cleanups.push(() => provider.close());
  const local = createLocalFetch({ timeoutMs: 5_000 });
  cleanups.push(() => local.close());
  const oidc = createOidcClient(
    {
      issuer: idpUrl,
      clientId: "cardea",
      clientSecret,
      scopes: ["openid", "profile", "email", "groups", "offline_access"],
      requestParams: {},
      redirectUri: new URL("/oauth2/callback", authenticateUrl),
      par: options.par ?? "auto",
      timeoutS: 5,
    },
    local,
    () => Date.now(),
  );

  const fanout = createLocalFanout({ logger: quiet });
  const log = createMemoryLog();
  const broker = startBroker({
    log,
    cluster: "test",
    brokerId: "broker-1" as BrokerId,
    secret,
    fanout,
    clock: systemClock,
    random: randomBytes,
    lease: { deltaMs: 5_000, drift: 0.01, beatMs: 100, windowMaxMs: 60_000 },
    takeoverMs: 1_000,
    advertisedUrl: null,
    leaderClient: createLeaderClient({
      cluster: "test",
      secret,
      clock: systemClock,
      tlsCa: null,
      allowPlaintext: false,
    }),
    duties: options.duties?.(oidc) ?? [],
    logger: quiet,
  });
  cleanups.push(
    () => log.close(),
    () => fanout.close(),
    () => broker.stop(),
  );
  const nodeFanout = options.fanout === undefined ? fanout : options.fanout(fanout);
  cleanups.push(() => nodeFanout.close());
  const replica = startReplica({
    name: "node-1" as NodeId,
    role: "proxy",
    region: "here",
    version: "test",
    configHash: () => "config",
    cluster: "test",
    secret,
    databroker: broker.databroker("proxy"),
    fanout: nodeFanout,
    clock: systemClock,
    randomBytes,
    logger: quiet,
    windowMs: () => 5_000,
    dataDir: null,
  });
  cleanups.push(() => replica.stop());

  const warnings: string[] = [];
  const clock = { monotonic: systemClock.monotonic, wall: () => (Date.now() + world.clockMs) as UnixMs };
  const nowS = (): number => Math.floor(clock.wall() / 1_000);
  const assertions = await createAssertions({
    signingKey: null,
    sharedSecret: secret,
    claimsHeaders: {},
    groupsFilter: [],
    issuerFormat: "hostOnly",
    bytesMax: 16_384,
    groupsOfPolicy: () => [],
    onOversize() {},
    groupName: (id) => replica.projection.group(id)?.name,
    now: clock.wall,
    uuid: randomUUID,
  });
  const cache = new CallerCache();
  const routes = new Set(["app", "wiki"].map((host) => new URL(url(host)).origin));
  const plain: AuthDeps = {
    settings: {
      authenticateUrl,
      cookie: {
        name: "_pomerium",
        domain: null,
        httpOnly: true,
        expireMs: 14 * 3_600_000,
        sameSite: "lax",
        ...options.cookie,
      },
      defaultIdpIds: ["demo"],
      idpIds: new Set(["demo"]),
      providerNames: new Map([["demo", { name: "default", title: "Demo" }]]),
      sessionMsOf: () => null,
      signInFor: () => ({ idpIds: ["demo"], dependsOn: [] }),
      groupsFromClaim: "groups",
      maxSessionsPerUser: 100,
      signoutRedirectUrl: null,
      programmaticRedirectHosts: ["localhost"],
      configHash: "config" as ConfigHash,
      urlKeys: [deriveKey(secret, "signed urls")],
      isRouteOrigin: (origin) => routes.has(origin),
      signOutToRoutes: false,
      ...options.settings,
    },
    databroker: broker.databroker("authenticate"),
    replica,
    catchUp: (link) => replica.waitFor(link, 1_500),
    clock,
    sleep: (ms) => sleep(ms),
    handles: createHandleCodec({
      issuer: authenticateUrl.hostname,
      keys: [deriveKey(secret, "session handles")],
      nowS,
    }),
    stateCipher: createValueCipher({ keys: [deriveKey(secret, "sign-in attempts")], nowS }),
    handleCipher: createValueCipher({ keys: [deriveKey(secret, "session handover")], nowS }),
    signIns: { isOpen: () => true },
    providerOf: (idpId) => (idpId === "demo" ? oidc : undefined),
    render: renderPage,
    resolveCaller: (handle, requestedUrl) =>
      resolveCaller(replica.projection, handle, { ...requestedUrl, open: replica.open, cache }),
    idle: createIdleGate(
      null,
      new SessionActivity({ useOf: (id) => replica.projection.uses.of(id), isFresh: () => true }),
    ),
    identityClaims: (principal, hostname) => assertions.claimsOf(principal, hostname),
    assertionFor: null,
    jwks: assertions.jwks,
    routes: null,
    random: { uuid: randomUUID, token: () => randomBytes(24).toString("base64url") },
    log: { info() {}, warn: (_fields, message) => void warnings.push(message) },
  };
  const world: World = {
    port,
    idpUrl,
    provider,
    broker,
    operator: broker.databroker("operator"),
    replica,
    deps: plain,
    oidc,
    clockMs: 0,
    warnings,
    url,
    visitor() {
      const visitor = new Visitor();
      cleanups.push(() => visitor.close());
      return visitor;
    },
    dropConnections: () => undefined,
    submit: (command) =>
      broker.databroker("operator").submit({ commandId: randomUUID() as CommandId, actor: "operator:test", command }),
  };
  const deps = options.deps?.(plain, world) ?? plain;
  Object.assign(world, { deps });
  const authenticateHost = await createAuthenticateHost(deps, options.plugins?.(world) ?? []);
  const routeHost = await createRouteHost(deps, options.routeHostPlugins ?? []);
  cleanups.push(
    () => authenticateHost.close(),
    () => routeHost.close(),
  );
  const server = createServer((req, res) => {
    const host = req.headers.host ?? "";
    const hostname = host.replace(/:\d+$/, "");
    const context = { origin: `http://${host}`, hostname, requestId: "request-1", ip: "127.0.0.1" };
    if (hostname === authenticateUrl.hostname) return authenticateHost.handle(req, res, context);
    const path = (req.url ?? "/").split("?", 1)[0] ?? "/";
    const reserved = /^\/(?:\.pomerium|\.well-known\/pomerium)(?:\/|$)|^\/(?:ping|healthz)$/.test(path);
    if (reserved) return routeHost.handle(req, res, context);
    void serveRoute(deps, req, res, hostname);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  Object.assign(world, { dropConnections: () => server.closeAllConnections() });
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  if (!(await replica.whenReady(10_000))) throw new Error("the node did not become ready");
  return world;
}

/** Serves an ordinary path of a route that requires sign-in, as the proxy does. */
async function serveRoute(deps: AuthDeps, req: IncomingMessage, res: ServerResponse, hostname: string): Promise<void> {
  const headers = req.headers as Record<string, string>;
  const query = (req.url ?? "").split("?", 2)[1] ?? "";
  const credential = readCredential(headers, query, deps.settings.cookie.name);
  const handle = credential === undefined ? "invalid" : await deps.handles.verify(credential.token);
  const fits = handle !== "invalid" && handleFits(handle, hostname, deps.settings.cookie.domain);
  if (fits && handle.needs !== null && (await deps.catchUp(handle.needs)) === "behind")
    return void res.writeHead(503).end("behind");
  const caller = deps.resolveCaller(fits ? handle : undefined, {
    idpIds: new Set(deps.settings.signInFor(new URL(`http://${req.headers.host}`)).idpIds),
    credentialInHeader: credential?.source !== "cookie",
    now: deps.clock.wall(),
  });
  if (caller.type === "behind") return void res.writeHead(503).end("behind");
  if (caller.type === "principal") {
    const { profile, groups } = caller.principal;
    res.end(`hello ${profile?.subject} of ${[...groups].sort().join(",")} at ${hostname}${req.url}`);
    return;
  }
  if (credential !== undefined && credential.source !== "cookie") return void res.writeHead(401).end("no session");
  const requestedUrl = new URL(`http://${req.headers.host}${req.url ?? "/"}`);
  if (!deps.signIns.isOpen()) return void res.writeHead(503).end("no sign-in can be recorded");
  const loop = signInLoopOf(deps, req.headers.cookie, requestedUrl);
  if (loop !== undefined) {
    const page = signInLoopPageOf(loop, {
      host: hostname,
      url: requestedUrl,
      requestId: "request-1",
      at: deps.clock.wall(),
    });
    res.writeHead(page.status, { "content-type": "text/html; charset=utf-8", "set-cookie": loop.setCookie });
    return void res.end(deps.render(page, { host: requestedUrl.host, language: "" }).html);
  }
  const keepsAddress = req.headers["sec-fetch-mode"] === "navigate";
  const { location, setCookies, page } = beginSignIn(deps, requestedUrl, req.headers.cookie, { keepsAddress });
  if (page !== null) {
    const { html, headers } = deps.render(page, { host: requestedUrl.host, language: "" });
    return void res.writeHead(401, { ...headers, "set-cookie": [...setCookies] }).end(html);
  }
  res.writeHead(302, { location, "set-cookie": [...setCookies] }).end();
}

/** Signs in: from a page that requires it, to the provider's form and back. */
export async function signIn(
  world: World,
  visitor: Visitor,
  user: string,
  page = world.url("app"),
): Promise<VisitorResponse> {
  const form = await visitor.navigate(page);
  if (form.url.origin !== world.idpUrl.origin) throw new Error(`no sign-in page but ${form.url.href}: ${form.body}`);
  return visitor.navigate(form.url, { form: { user, password: "x" } });
}

/** Signs in up to the redirect back to the authenticate host, which is not followed. */
export async function signInUpToCallback(
  world: World,
  visitor: Visitor,
  user: string,
  page = world.url("app"),
): Promise<URL> {
  const form = await visitor.navigate(page);
  const back = await visitor.navigate(form.url, {
    form: { user, password: "x" },
    until: world.url("authenticate", "/oauth2/callback"),
  });
  if (back.location === null) throw new Error(`no redirect to the callback, but ${back.url.href}: ${back.body}`);
  return back.location;
}

export const subjectId = (world: World, subject: string) => userIdOf(world.idpUrl.origin, subject);
