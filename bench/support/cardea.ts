/** A Cardea process to measure: its configuration, and a session created by command, without a browser. */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createHandleCodec } from "../../src/auth/index.ts";
import { authKeys } from "../../src/cli/build/auth-keys.ts";
import { type Config, loadConfig, signInClientsOf } from "../../src/config/index.ts";
import {
  type CommandId,
  type CommandRequest,
  type GroupId,
  neededLink,
  type ProviderTokens,
  type SessionId,
  type UnixMs,
  userIdOf,
} from "../../src/events/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient } from "../../src/replication/wire/index.ts";
import { freePorts } from "../../test/support/free-port.ts";
import type { Pinned } from "./pinned.ts";
import { coreOfProxy, type Stand } from "./stand.ts";

type CreateSession = Extract<CommandRequest["command"], { type: "createSession" }>;
type Written = Readonly<{ path: string; config: Config }>;

export type CardeaOptions = Readonly<{
  upstreamPort: number;
  /** Files and data are in a folder of this name; default `cardea`. */
  name?: string;
  /** Lines of the one route of `app.localhost` besides `from`, `to` and `policy`. */
  route?: readonly string[];
  /** Replaces that one route. */
  routes?: (of: Readonly<{ from: string; to: string; policy: string }>) => string;
  /** Top-level lines. */
  settings?: readonly string[];
  /** The value of `audit`; default: one sink, a file. */
  audit?: string;
  /** Serves TLS with it; absent: plain HTTP. */
  certificate?: Readonly<{ certFile: string; keyFile: string }>;
  /** The program for Node; default: the command `cardea`, from the sources. */
  program?: string;
  /** How many people are signed in; default: one. */
  people?: number;
  /** URL of the identity provider; absent: none answers. */
  idp?: string;
  /** The store of the log; default: `memory`. */
  store?: "memory" | "file";
  /** Runs a proxy alone, or the given service, with that process's broker; absent: all services. */
  brokerOf?: Cardea;
  /** The one service of the process; default: all, or a proxy beside `brokerOf`. */
  service?: "databroker" | "authenticate" | "proxy";
  /** Ports that processes of one cluster must agree on; default: those of this process. */
  ports?: Readonly<{ route: number; authenticate: number }>;
  /** Default: that of the proxy. */
  core?: string;
}>;

export type Cardea = Readonly<{
  pinned: Pinned;
  port: number;
  /** Host and port of the route. */
  host: string;
  /** The authority is the route's host. */
  origin: string;
  /** `name=value` of the session cookie of each person. */
  cookies: readonly string[];
  /** `Host` and `Cookie` of a signed-in, permitted person. */
  headers: readonly string[];
  config: Config;
  /** Answers 200 when the process is ready. */
  readyUrl: string;
}>;

/**
 * Starts one process, with all services by default, on the core of the proxy. Session, policy, assertion and audit are
 * on.
 */
export async function startCardea(stand: Stand, options: CardeaOptions): Promise<Cardea> {
  const [freePort = 0, brokerPort = 0, metricsPort = 0] = await freePorts(3);
  const service = serviceOf(options);
  const port = (service === "authenticate" ? options.ports?.authenticate : options.ports?.route) ?? freePort;
  const folder = join(stand.folder, options.name ?? "cardea");
  mkdirSync(folder);
  const written = writeConfig(folder, { ...options, port, brokerPort, metricsPort });
  const profile = process.env["CPU_PROF"];
  const pinned = await stand.start(
    options.core ?? coreOfProxy,
    process.execPath,
    [
      ...(profile === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", profile]),
      ...(process.env["NODE_FLAGS"]?.split(" ") ?? []),
      options.program ?? new URL("../../bin/cardea.cjs", import.meta.url).pathname,
      "run",
      "-c",
      written.path,
    ],
    service === "databroker" ? brokerPort : port,
  );
  const host = `app.localhost:${options.ports?.route ?? port}`;
  const people = options.brokerOf === undefined && service === "all" ? (options.people ?? 1) : 0;
  const cookies: string[] = [];
  for (let person = 0; person < people; person++) cookies.push(await startSession(written, person));
  return {
    pinned,
    port,
    host,
    cookies,
    origin: `${options.certificate === undefined ? "http" : "https"}://${host}`,
    headers: [`Host: ${host}`, ...cookies.slice(0, 1).map((cookie) => `Cookie: ${cookie}`)],
    config: written.config,
    readyUrl: `http://127.0.0.1:${metricsPort}/readyz`,
  };
}

function serviceOf({ service, brokerOf }: CardeaOptions): "all" | "databroker" | "authenticate" | "proxy" {
  return service ?? (brokerOf === undefined ? "all" : "proxy");
}

function writeConfig(
  folder: string,
  options: CardeaOptions & Readonly<Record<"port" | "brokerPort" | "metricsPort", number>>,
): Written {
  const { port, certificate, brokerOf } = options;
  const { route: routePort, authenticate: authenticatePort } = options.ports ?? { route: port, authenticate: port };
  const brokerListen = brokerOf?.config.broker.listen;
  const scheme = certificate === undefined ? "http" : "https";
  const route = {
    from: `${scheme}://app.localhost:${routePort}`,
    to: `http://127.0.0.1:${options.upstreamPort}`,
    policy: "{allow: {and: [{groups: {has: eng}}]}}",
  };
  const transport =
    certificate === undefined
      ? ["insecure_server: true"]
      : [`certificate_file: ${certificate.certFile}`, `certificate_key_file: ${certificate.keyFile}`];
  const lines = [
    `services: ${serviceOf(options)}`,
    `address: 127.0.0.1:${port}`,
    ...transport,
    `data_dir: ${folder}/data`,
    ...(brokerOf === undefined ? [`databroker_storage_type: ${options.store ?? "memory"}`] : []),
    `authenticate_service_url: ${scheme}://authenticate.localhost:${authenticatePort}`,
    "idp_provider: oidc",
    `idp_provider_url: ${options.idp ?? `http://idp.localhost:${port}`}`,
    "idp_client_id: bench",
    "idp_client_secret: bench",
    `shared_secret: ${Buffer.from(brokerOf?.config.sharedSecret ?? randomBytes(32)).toString("base64")}`,
    `cookie_secret: ${randomBytes(32).toString("base64")}`,
    "groups_from_claim: groups",
    "pass_identity_headers: true",
    `metrics_address: 127.0.0.1:${options.metricsPort}`,
    "log_level: warn",
    brokerListen
      ? `broker: {urls: ["http://${brokerListen.host}:${brokerListen.port}"]}`
      : `broker: {listen: "127.0.0.1:${options.brokerPort}"}`,
    `audit: ${options.audit ?? `{sinks: [{file: ${folder}/audit.jsonl}]}`}`,
    ...(options.settings ?? []),
    "routes:",
    options.routes?.(route) ??
      [
        `  - from: ${route.from}`,
        ...[`to: ${route.to}`, `policy: ${route.policy}`, ...(options.route ?? [])].map((l) => `    ${l}`),
      ].join("\n"),
  ];
  const path = join(folder, "cardea.yaml");
  writeFileSync(path, `${lines.join("\n")}\n`, { mode: 0o600 });
  const loaded = loadConfig(path, { env: {} });
  if (!loaded.ok) throw new Error(loaded.problems.map((p) => `${p.line}: ${p.key}: ${p.problem}`).join("\n"));
  return { path, config: loaded.config };
}

/** A client of the process's broker. */
export function connectBroker(
  config: Config,
  role: "authenticate" | "operator" = "authenticate",
): ReturnType<typeof createBrokerClient> {
  const { listen } = config.broker;
  if (listen === null) throw new Error("the bench's broker listens nowhere");
  return createBrokerClient({
    urls: [new URL(`http://${listen.host}:${listen.port}`)],
    cluster: config.broker.clusterName,
    role,
    name: "bench",
    secret: config.sharedSecret,
    clock: systemClock,
    randomBytes,
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  });
}

/** @param tokens those of the provider; absent: none, so the session is never refreshed */
export function newSession(
  config: Config,
  { person, issuer, tokens }: Readonly<{ person: string; issuer: string; tokens?: ProviderTokens }>,
): Readonly<{ commandId: CommandId; actor: string; command: CreateSession }> {
  const now = Date.now();
  const profile = {
    issuer,
    subject: person,
    email: `${person}@example.com`,
    emailVerified: true,
    name: `Person ${person}`,
    claims: { groups: ["eng"] },
  };
  const command = {
    type: "createSession",
    sessionId: randomUUID() as string as SessionId,
    userId: userIdOf(profile.issuer, profile.subject),
    idpId: signInClientsOf(config).defaults.bearerIdpId,
    issuedAt: now as UnixMs,
    expiresAt: (now + 3_600_000) as UnixMs,
    profile,
    tokens: tokens ?? { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
    groupIds: ["eng" as GroupId],
    maxSessionsPerUser: 100,
  } as const;
  return { commandId: randomUUID() as string as CommandId, actor: "service:authenticate", command };
}

/** @returns the cookie of a new session, `name=value` */
async function startSession({ config }: Written, person: number): Promise<string> {
  const client = connectBroker(config);
  const request = newSession(config, { person: `person-${person}`, issuer: "https://idp.example" });
  let result = await client.submit(request);
  for (let attempt = 1; result.type === "unavailable" && attempt < 10; attempt++) {
    await delay(result.retryAfterMs);
    result = await client.submit(request);
  }
  await client.close();
  if (result.type !== "done") throw new Error(`no session: ${result.message}`);
  const handles = createHandleCodec({
    issuer: config.authenticateServiceUrl.hostname,
    keys: authKeys(config).handles,
    nowS: () => Math.floor(Date.now() / 1_000),
  });
  const { sessionId, userId, idpId } = request.command;
  return `${config.cookie.name}=${await handles.issue({ sessionId, userId, idpId, needs: neededLink(result), audience: ["app.localhost"] })}`;
}
