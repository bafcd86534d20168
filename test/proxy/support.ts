/**
 * Test rig: a proxy on loopback, with real sockets on both sides. Its projection is real and receives real events in
 * memory; the lease is a number that a test sets.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { Registry } from "prom-client";
import {
  CallerCache,
  compilePolicies,
  createAssertions,
  createDecisionAnnotator,
  createIdleGate,
  type DecisionRecord,
  decide,
  factPositionOf,
  pageHeaders,
  readCredential,
  requirementsOf,
  resolveCaller,
  SessionActivity,
  type SessionHandle,
  type ShadowDirection,
} from "../../src/auth/index.ts";
import { type Config, type DecisionApiConfig, idleLifetimesOf, type RouteConfig } from "../../src/config/index.ts";
import {
  type BootId,
  type CardeaEvent,
  type ConfigHash,
  decode,
  encode,
  FactPositions,
  type GroupId,
  type Link,
  type NodeId,
  type Position,
  Projection,
  parseProfile,
  type Stream,
  type UnixMs,
} from "../../src/events/index.ts";
import { type AcmeServing, type ProxyDeps, type ProxyServer, startProxy } from "../../src/proxy/index.ts";
import type { ChangeListener } from "../../src/replication/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { route as bareRoute } from "../auth/authorize/support.ts";
import { record, sessionId, userId } from "../events/support.ts";

export const eng = "eng" as GroupId;

const noIdleLifetime = { sessionIdleLifetimeMs: 0, signInProviders: [], defaultSignInProviders: [] };

export function routeTo(upstreamPort: number, parts: Partial<RouteConfig> & { name?: string } = {}): RouteConfig {
  const host = parts.host ?? "app.localhost";
  return bareRoute({
    id: parts.id ?? `${host}${parts.match?.value ?? "/"}`,
    from: new URL(`http://${host.replace("*", "wild")}`),
    host,
    to: parts.redirect || parts.response ? [] : [{ url: new URL(`http://127.0.0.1:${upstreamPort}`), weight: null }],
    allowAnyAuthenticatedUser: true,
    setResponseHeaders: { "X-Frame-Options": "SAMEORIGIN", "X-XSS-Protection": "1; mode=block" },
    ...parts,
  });
}

export const engOnly: Partial<RouteConfig> = {
  allowAnyAuthenticatedUser: false,
  policy: {
    ppl: { allow: { and: [{ groups: { has: "eng" } }] } },
    location: { file: "cardea.yaml", line: 1, column: 1 },
  },
};
export const publicAccess: Partial<RouteConfig> = {
  allowAnyAuthenticatedUser: false,
  allowPublicUnauthenticatedAccess: true,
};

function configOf(routes: readonly RouteConfig[], parts: Partial<Config>): Config {
  const config = {
    hash: "test-config" as ConfigHash,
    file: "cardea.yaml",
    services: new Set(["proxy"]),
    address: { host: "127.0.0.1", port: 0 },
    insecureServer: true,
    administrators: [],
    operators: [],
    viewers: [],
    settings: [],
    stepUp: { maxAgeMs: 600_000, authTime: "required" },
    codecType: "auto",
    tlsSessionTickets: "shared",
    http2Connections: process.env["HTTP2_CONNECTIONS"] === "node" ? "node" : "cardea",
    httpRedirectAddress: null,
    useProxyProtocol: false,
    autocert: null,
    downstreamMtls: {
      ca: null,
      crl: null,
      enforcement: "policy_with_default_deny",
      matchSubjectAltNames: [],
      maxVerifyDepth: 1,
    },
    certificates: [],
    certificateAuthority: null,
    region: "here",
    authenticateServiceUrl: new URL("http://authenticate.localhost"),
    authenticateInternalServiceUrl: null,
    sharedSecret: new Uint8Array(32).fill(7),
    cookie: { name: "_pomerium", domain: null, httpOnly: true, expireMs: 50_000_000, sameSite: "lax" },
    jwtClaimsHeaders: { "x-pomerium-claim-email": "email", "x-pomerium-claim-groups": "groups", "x-nick": "nickname" },
    jwtGroupsFilter: [],
    identityHeadersBytesMax: 16_384,
    jwtIssuerFormat: "hostOnly",
    setResponseHeaders: { "X-Frame-Options": "SAMEORIGIN" },
    skipXffAppend: false,
    dnsLookupFamily: "V4_PREFERRED",
    timeouts: { readMs: 30_000, readLimit: "request", writeMs: 0, idleMs: 300_000 },
    drainDelayMs: 0,
    drainTimeoutMs: 500,
    xffNumTrustedHops: 0,
    accessLogFields: [],
    audit: { recorded: { query: [], headers: ["user-agent"], redactPath: [] } },
    routes,
    ...parts,
  };
  return config as unknown as Config; // the proxy reads no other key
}

/**
 * The `n`th session; session n belongs to user n. Profiles are not sealed here, because sealing has its own tests.
 */
export function signedIn(n: number, parts: { expiresAt?: number; email?: string } = {}): CardeaEvent {
  const email = parts.email ?? `user${n}@example.com`;
  const profile = { issuer: "idp", subject: `subject-${n}`, email, emailVerified: true, name: `User ${n}`, claims: {} };
  return {
    type: "SessionCreated",
    sessionId: sessionId(n),
    userId: userId(n),
    idpId: "idp",
    issuedAt: 0 as UnixMs,
    expiresAt: (parts.expiresAt ?? Date.now() + 3_600_000) as UnixMs,
    profile: encode(profile),
  };
}
/** The profile of user n, as sign-in records it. */
export function userRecorded(n: number): CardeaEvent {
  const { profile } = signedIn(n) as Extract<CardeaEvent, { type: "SessionCreated" }>;
  return { type: "UserUpserted", userId: userId(n), profile };
}
export function sessionRevoked(n: number): CardeaEvent {
  return { type: "SessionRevoked", sessionId: sessionId(n), userId: userId(n), reason: "operator" };
}
export function groupChanged(change: { added?: number[]; removed?: number[]; until?: number }): CardeaEvent {
  const ids = (all: number[] = []) => all.map(userId);
  return {
    type: "GroupMembersChanged",
    groupId: eng,
    source: "operator",
    added: ids(change.added),
    removed: ids(change.removed),
    ...(change.until === undefined ? {} : { until: change.until as UnixMs, reason: "on call" }),
  };
}
export const cookieOf = (n: number): string => `_pomerium=s${n}`;

export type Rig = Readonly<{
  proxy: ProxyServer;
  /** The dependencies that the proxy received. */
  deps: ProxyDeps;
  port: number;
  records: readonly DecisionRecord[];
  /** Records of searches. */
  acts: readonly Parameters<NonNullable<ProxyDeps["recorder"]["recordCommand"]>>[1][];
  registry: Registry;
  /** All metrics, as a scrape returns them. */
  metrics(): Promise<string>;
  /** Applies events and waits until the exchanges that they deny are destroyed. @returns the time that took, in ms */
  apply(...events: CardeaEvent[]): Promise<number>;
  /** Time since the lease expired, in ms; negative: the lease is fresh. A test may set it. */
  lease: { overdueMs: number };
  activity: SessionActivity;
  /** The result when the proxy waits for a link that is not applied. */
  catchUp: { answer: "reached" | "behind" | "lost" };
  deniedLocally: Set<Stream>;
  /** The direction of each shadow decision, in order. */
  shadowed: readonly (readonly [routeId: string, direction: ShadowDirection])[];
  request(options: RequestOptions): Promise<ReceivedResponse>;
  sendRaw(text: string | Buffer, within?: number): Promise<string>;
  /** Activates other routes. Resolves when the exchanges that they deny are destroyed. */
  activate(routes: readonly RouteConfig[], config?: Partial<Config>): ReturnType<ProxyServer["activate"]>;
  close(): Promise<void>;
}>;

export type RequestOptions = Readonly<{
  path?: string;
  host?: string;
  method?: string;
  headers?: Readonly<Record<string, string | string[]>>;
  session?: number;
  body?: string | Buffer;
}>;
export type ReceivedResponse = Readonly<{
  status: number;
  headers: IncomingMessage["headers"];
  body: string;
  raw: string[];
}>;

export async function startRig(
  routes: readonly RouteConfig[],
  parts: Readonly<{
    config?: Partial<Config>;
    deps?: Partial<ProxyDeps>;
    recordDurably?: ProxyDeps["recorder"]["recordDurably"];
    needs?: Link | null;
    acme?: AcmeServing;
  }> = {},
): Promise<Rig> {
  const projection = new Projection();
  const listeners = new Set<ChangeListener>();
  const records: DecisionRecord[] = [];
  const acts: Parameters<NonNullable<ProxyDeps["recorder"]["recordCommand"]>>[1][] = [];
  const lease = { overdueMs: -1_000 };
  const catchUp: Rig["catchUp"] = { answer: "reached" };
  const deniedLocally = new Set<Stream>();
  const positions = new FactPositions(0 as Position);
  const shadowed: [routeId: string, direction: ShadowDirection][] = [];
  const registry = new Registry();
  const config = configOf(routes, parts.config ?? {});
  const cache = new CallerCache();
  const openSealed = (sealed: Uint8Array) => parseProfile(decode(sealed));
  const handles = new Map<string, SessionHandle>();
  const policies = compilePolicies(config.routes);
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };

  const activity = new SessionActivity({
    useOf: (id) => projection.uses.of(id),
    isFresh: () => lease.overdueMs <= 0,
  });
  const common: Omit<ProxyDeps, "config" | "idle" | "decide" | "annotateDecision" | "explain"> = {
    identity: { node: "node-1" as NodeId, boot: "boot-1" as BootId, region: "here" },
    clock: systemClock,
    replica: {
      projection,
      get applied() {
        return projection.applied;
      },
      onChange(listener) {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
      isDeniedLocally: (stream) => deniedLocally.has(stream),
      isDeniedByRegion: () => false,
    },
    freshness: { overdueMs: () => lease.overdueMs },
    catchUp: async () => catchUp.answer,
    resolveCaller: (handle, options) => resolveCaller(projection, handle, { ...options, open: openSealed, cache }),
    signInOf: () => ({ idpIds: ["idp"], allows: new Set(["idp"]), bearerIdpId: "idp" }),
    bearerTokens: { identify: () => ({ type: "refused" }), accepts: () => false },
    providerTokens: { of: () => null, onChange() {} },
    credentials: {
      read: (headers, query) => readCredential(headers, query, config.cookie.name),
      verify(token) {
        // `s1` is valid on the host of every route, `s1@a,b` on the hosts it names.
        const [, n, own] = /^s(\d+)(?:@(.+))?$/.exec(token) ?? [];
        if (n === undefined) return "invalid";
        const audience = own?.split(",") ?? routes.map(({ host }) => host);
        const handle: SessionHandle = handles.get(token) ?? {
          sessionId: sessionId(Number(n)),
          userId: userId(Number(n)),
          idpId: "idp",
          needs: parts.needs ?? null,
          audience,
        };
        handles.set(token, handle);
        return handle;
      },
    },
    beginSignIn: (address, _cookies, { keepsAddress }) => ({
      page: keepsAddress
        ? { type: "keep-address", id: "id-1", address: address.href, signInUrl: "/.pomerium/sign_in" }
        : null,
      location: `http://authenticate.localhost/.pomerium/sign_in?pomerium_redirect_uri=${encodeURIComponent(address.href)}`,
      setCookies: ["_pomerium_nonce=n; Path=/; HttpOnly; Secure"],
    }),
    signIns: { isOpen: () => true },
    signInLoopOf: () => undefined,
    reserved: (req, res, context) => res.end(JSON.stringify({ reserved: req.url, ...context })),
    authenticateHost: (req, res) => res.end(`authenticate ${req.url}`),
    assertions: await createAssertions({
      signingKey: null,
      sharedSecret: config.sharedSecret,
      claimsHeaders: config.jwtClaimsHeaders,
      groupsFilter: [],
      issuerFormat: "hostOnly",
      bytesMax: config.identityHeadersBytesMax,
      groupsOfPolicy: (routeId) => (policies.ok ? (policies.policies.get(routeId)?.groupsNamed ?? []) : []),
      onOversize() {},
      groupName: (id) => projection.group(id)?.name,
      now: systemClock.wall,
      uuid: randomUUID,
    }),
    render: (page) => ({ html: `<html>${JSON.stringify(page)}</html>`, headers: pageHeaders }),
    recorder: {
      record: (event) => void records.push(event),
      recordDurably: parts.recordDurably ?? null,
      recordCommand: (_kind, act) => void acts.push(act),
    },
    logger: quiet,
    accessLog: null,
    authorizeLog: null,
    tracing: null,
    requestId: randomUUID,
  };
  function depsOf(own: Config): ProxyDeps {
    const compiled = compilePolicies(own.routes);
    if (!compiled.ok) throw new Error(JSON.stringify(compiled.problems));
    return {
      ...common,
      config: own,
      idle: createIdleGate(idleLifetimesOf({ ...noIdleLifetime, routes: own.routes }), activity),
      decide: (question) => decide({ policies: compiled.policies, ...question }),
      annotateDecision: createDecisionAnnotator({
        ...{ policies: compiled.policies, shadows: compiled.shadows, node: common.identity.node },
        traced: new Set(own.routes.flatMap(({ id, auditTrace }) => (auditTrace === "all" ? [id] : []))),
        positionOf: factPositionOf({ places: positions, projection }),
        onShadow: (routeId, direction) => void shadowed.push([routeId, direction]),
      }),
      explain: (routeId) => requirementsOf(compiled.policies, routeId),
      ...parts.deps,
    };
  }
  const deps = depsOf(config);
  const proxy = await startProxy({ deps, registry, acme: parts.acme ?? null });
  const { port } = proxy.address;

  return {
    proxy,
    deps,
    port,
    records,
    acts,
    registry,
    metrics: async () => `${await registry.metrics()}\n${[...proxy.routeMetrics()].join("")}`,
    lease,
    activity,
    catchUp,
    deniedLocally,
    shadowed,
    async apply(...events) {
      const started = performance.now();
      const touched = new Set<Stream>();
      for (const event of record(events, projection.applied)) {
        for (const stream of projection.apply(event)) touched.add(stream);
        positions.record(event);
      }
      const committedAt = (Date.now() - 40) as UnixMs; // as if the event had taken 40 ms to arrive
      await Promise.all(
        [...listeners].map((listener) => listener({ link: projection.applied, touched, rebuilt: false, committedAt })),
      );
      return performance.now() - started;
    },
    request: (options) => sendRequest(port, options),
    sendRaw: (text, within) => sendRaw(port, text, within),
    activate: (others, changed) => proxy.activate(depsOf(configOf(others, { ...parts.config, ...changed }))),
    close: () => proxy.close(),
  };
}

/** Sends one request, by default with the headers of a browser that opens a page. */
export function sendRequest(port: number, options: RequestOptions): Promise<ReceivedResponse> {
  return new Promise((resolve, reject) => {
    const req = request(
      {
        port,
        host: "127.0.0.1",
        agent: false,
        method: options.method ?? "GET",
        path: options.path ?? "/",
        headers: {
          host: options.host ?? "app.localhost",
          accept: "text/html",
          ...(options.session === undefined ? {} : { cookie: cookieOf(options.session) }),
          ...options.headers,
        },
      },
      (res) => {
        const chunks: Buffer[] = [];
        res.on("data", (chunk: Buffer) => chunks.push(chunk));
        res.on("error", reject);
        res.on("end", () =>
          resolve({
            status: res.statusCode ?? 0,
            headers: res.headers,
            body: Buffer.concat(chunks).toString("latin1"),
            raw: res.rawHeaders,
          }),
        );
      },
    );
    req.on("error", reject);
    req.end(options.body);
  });
}

/** Everything that arrives on one connection, until it closes or nothing arrives for `within` ms. */
export function sendRaw(port: number, text: string | Buffer, within = 300): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(port, "127.0.0.1");
    const done = (): void => {
      socket.destroy();
      resolve(answer);
    };
    let timer = setTimeout(done, within);
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
      clearTimeout(timer);
      timer = setTimeout(done, within);
    });
    socket.on("error", done);
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(answer);
    });
    socket.write(typeof text === "string" ? Buffer.from(text, "latin1") : text);
  });
}

export type Upstream = Readonly<{
  port: number;
  server: Server;
  /** Heads of the requests that arrived. */
  seen: readonly SeenRequest[];
  close(): Promise<void>;
}>;
export type SeenRequest = Readonly<{ method: string; url: string; rawHeaders: readonly string[]; body: () => string }>;

/** Starts an upstream. Without a handler it answers with the request that it received, as JSON. */
export async function startUpstream(handler?: (req: IncomingMessage, res: ServerResponse) => void): Promise<Upstream> {
  const seen: SeenRequest[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((req, res) => {
    let body = "";
    seen.push({ method: req.method ?? "", url: req.url ?? "", rawHeaders: req.rawHeaders, body: () => body });
    if (handler !== undefined) {
      handler(req, res);
      return;
    }
    req.on("data", (chunk: Buffer) => {
      body += chunk.toString("latin1");
    });
    req.on("end", () => {
      res.setHeader("content-type", "application/json");
      res.end(JSON.stringify({ method: req.method, url: req.url, rawHeaders: req.rawHeaders, body }));
    });
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    server,
    seen,
    close() {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** The configuration of a decision API without listeners and keys. */
export function decisionApiConfig(parts: Partial<DecisionApiConfig> = {}): DecisionApiConfig {
  return {
    ...{ address: null, grpcAddress: null, tls: null, clientCa: null, trustedProxies: [], keys: {} },
    ...{ listsPeople: [], subjectIssuer: null, resources: {}, ...parts },
  };
}

/** The values of a header, in the order sent. */
export function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() === name.toLowerCase()) values.push(rawHeaders[i + 1] ?? "");
  }
  return values;
}
