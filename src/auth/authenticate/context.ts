/** Dependencies of the handlers of both hosts, and the small replies that they share. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { CommandId, ConfigHash, NeededLink, SessionId, UnixMs } from "../../events/index.ts";
import type { Clock, Databroker, Freshness, Replica } from "../../replication/index.ts";
import type { RequestableRoutes } from "../access-requests.ts";
import type { Principal, ResolvedCaller } from "../authorize/decision.ts";
import type { RouteRequirements } from "../authorize/requirements.ts";
import type { IdleGate } from "../idle/idle-gate.ts";
import { handlerErrorJson, type Page, type PageReader, type RenderPage, type SignInErrorPage } from "../reply/page.ts";
import type { PageCondition } from "../reply/page-condition.ts";
import type { RouteCatalog } from "../route-catalog.ts";
import { type CookieOptions, setCookie } from "./credentials/credentials.ts";
import type { HandleCodec, SessionHandle } from "./credentials/handle.ts";
import type { ProviderClient } from "./provider/provider-client.ts";
import type { TraceText } from "./provider/trace-text.ts";
import type { ProvisionedFor } from "./scim/correlation.ts";
import type { SignInGate } from "./sign-in/sign-in-gate.ts";
import type { ValueCipher } from "./sign-in/value-cipher.ts";
import type { SignalRecordsFor } from "./signals/signal-plan.ts";

export type AuthSettings = Readonly<{
  authenticateUrl: URL;
  cookie: Readonly<{
    name: string;
    domain: string | null;
    httpOnly: boolean;
    expireMs: number;
    sameSite: "strict" | "lax" | "none";
  }>;
  /** The clients at identity providers of addresses whose route names none; the first is the administrators'. */
  defaultIdpIds: readonly string[];
  /** Every client that is configured; a session of any other does not count. */
  idpIds: ReadonlySet<string>;
  /** The names of these clients: the configured one, and the one that people read. */
  providerNames: ReadonlyMap<string, Readonly<{ name: string; title: string }>>;
  /** The lifetime of a session of a client, if it is shorter than that of the cookie; null: it is not. */
  sessionMsOf: (idpId: string) => number | null;
  /** How people sign in for an address. */
  signInFor: (url: URL) => SignInFor;
  groupsFromClaim: string | null;
  maxSessionsPerUser: number;
  signoutRedirectUrl: URL | null;
  programmaticRedirectHosts: readonly string[];
  configHash: ConfigHash;
  /** Keys of signed URLs, the current one first. */
  urlKeys: readonly Uint8Array[];
  /** Whether an origin is that of a configured route: no sign-in starts for, or returns to, any other. */
  isRouteOrigin: (origin: string) => boolean;
  /** A sign-out may redirect to the address that it names, if that is an address of a route. */
  signOutToRoutes: boolean;
}>;

/** How people sign in for a route. */
export type SignInFor = Readonly<{
  /** The clients among which people choose. */
  idpIds: readonly string[];
  /** Origins of other routes that the sign-in visits on its way. */
  dependsOn: readonly string[];
  /** An older session does not count (`session_lifetime`); absent or 0: its own expiry decides. */
  sessionMsMax?: number;
  /** A session that was unused for this long does not count (`session_idle_lifetime`); absent or 0: no bound. */
  idleMsMax?: number;
}>;

export type AuthDeps = Readonly<{
  settings: AuthSettings;
  databroker: Databroker;
  replica: Replica & Freshness;
  /** Waits, then asks a broker; true when the projection has reached the link. */
  catchUp: (link: NeededLink) => Promise<"reached" | "behind" | "lost">;
  clock: Clock;
  sleep: (ms: number) => Promise<void>;
  handles: HandleCodec;
  /** Seals the state of a sign-in at the identity provider; opened by the authenticate service alone. */
  stateCipher: ValueCipher;
  /** Seals a handle on its way from the authenticate host to a route's host. */
  handleCipher: ValueCipher;
  /** Whether new sign-ins may start. */
  signIns: SignInGate;
  /** Undefined: no such provider or client is configured here. */
  providerOf: (idpId: string) => ProviderClient | undefined;
  render: RenderPage;
  resolveCaller: (
    handle: SessionHandle | undefined,
    options: Readonly<{ idpIds: ReadonlySet<string>; credentialInHeader: boolean; now: UnixMs }>,
  ) => ResolvedCaller;
  /** When sessions become idle, and where their use is noted. */
  idle: IdleGate;
  /** The claims of the assertion for a host, also shown at `/.pomerium/user`. */
  identityClaims: (principal: Principal, hostname: string) => Readonly<Record<string, unknown>>;
  /**
   * The assertion itself, for pages of a host; null: it is not handed out. It resolves to null above the bound of
   * identity headers.
   */
  assertionFor: ((principal: Principal, hostname: string) => Promise<string | null>) | null;
  jwks: Readonly<{ keys: readonly object[] }>;
  /** The routes that a person may use; null: this host does not list them. */
  routes: RouteCatalog | null;
  /** The routes that people who are refused may ask for; absent: this host has none. */
  requestable?: RequestableRoutes;
  /** Where this node serves the picture of a URL; null: no picture. Absent: nowhere. */
  pictureUrl?: (url: string) => string | null;
  /** What a route requires, in sentences for programs. Absent: they get none. */
  describeRoute?: (requirements: RouteRequirements) => readonly string[];
  random: Readonly<{ uuid(): string; token(): string }>;
  /** The provisioned people that a profile correlates with; absent: no SCIM client is configured. */
  provisionedFor?: ProvisionedFor;
  /** What became of a logout that an identity provider reported, on the back or front channel. */
  onLogout?: (channel: "back" | "front", result: "recorded" | "unknown" | "refused" | "unavailable") => void;
  /** The records of signals about a profile; absent: no transmitter of signals is configured. */
  signalRecordsFor?: SignalRecordsFor;
  /** What became of a callback that brought a code from the identity provider. */
  onCodeExchange?: (result: "exchanged" | "repeated" | "used" | "busy") => void;
  /** Runs a part of a request as one of this address, for the audit records of what it does. */
  withCaller?: (ip: string, run: () => void) => void;
  log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
}>;

/** What the listener knows of a request that it hands over. */
export type ReservedContext = Readonly<{
  /** External origin of the host that was asked, `https://app.example.com`. */
  origin: string;
  hostname: string;
  requestId: string;
  ip: string;
  /** W3C trace context of this request, for what follows from it; null: none. */
  trace?: TraceText | null;
}>;

/** Ties a context to a request on its way through Fastify's router. */
export type RequestContexts = Readonly<{
  set(req: IncomingMessage, context: ReservedContext): void;
  of(request: FastifyRequest): ReservedContext;
  /** Undefined: the request does not come from a listener, but from within the process. */
  find(request: FastifyRequest): ReservedContext | undefined;
}>;

export function createRequestContexts(): RequestContexts {
  const contexts = new WeakMap<IncomingMessage, ReservedContext>();
  return {
    set: (req, context) => void contexts.set(req, context),
    of(request) {
      const context = contexts.get(request.raw);
      if (context === undefined) throw new TypeError("a request on a reserved path has no context");
      return context;
    },
    find: (request) => contexts.get(request.raw),
  };
}

export type ReservedPathHandler = (req: IncomingMessage, res: ServerResponse, context: ReservedContext) => void;

/** The URL as the person's browser has it. The request target never names another host, whatever it looks like. */
export function externalUrl(request: FastifyRequest, context: ReservedContext): URL {
  const target = request.raw.url ?? "/";
  return new URL(`${context.origin}${target.startsWith("/") ? target : "/"}`);
}

export function headersOf(request: FastifyRequest): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : value]),
  );
}

export const nowS = (deps: AuthDeps): number => Math.floor(deps.clock.wall() / 1_000);

export function sessionCookieOptions(
  settings: AuthSettings,
  maxAgeS: number,
  withDomain: "domain" | "host-only",
): CookieOptions {
  return {
    domain: withDomain === "domain" ? settings.cookie.domain : null,
    path: "/",
    httpOnly: settings.cookie.httpOnly,
    sameSite: settings.cookie.sameSite,
    maxAgeS,
  };
}

/** For cookies that only this program reads: hidden from scripts, and sent when a browser returns from another site. */
export function ownCookieOptions(maxAgeS: number): CookieOptions {
  return { domain: null, path: "/", httpOnly: true, sameSite: "lax", maxAgeS };
}

export function addCookie(reply: FastifyReply, name: string, value: string, options: CookieOptions): void {
  reply.header("set-cookie", setCookie(name, value, options)); // Fastify appends further values of this header
}

/** The host as in the address bar, and the language, of the reader of a page. */
export function readerOf(request: FastifyRequest, { origin }: Pick<ReservedContext, "origin">): PageReader {
  return { host: new URL(origin).host, language: request.headers["accept-language"] ?? "" };
}

export type PageCall = Readonly<{
  deps: Pick<AuthDeps, "render">;
  request: FastifyRequest;
  reply: FastifyReply;
  context: ReservedContext;
}>;

/** @param headers replace those of the page */
export function sendPage(
  { deps, request, reply, context }: PageCall,
  status: number,
  page: Page,
  headers: Readonly<Record<string, string>> = {},
): FastifyReply {
  const rendered = deps.render(page, readerOf(request, context));
  reply.code(status).headers({ ...rendered.headers, ...headers });
  return reply.header("x-pomerium-intercepted-response", "true").send(rendered.html);
}

export type PageProblem = Readonly<{
  status: number;
  /** What the page says; title and description are for programs. */
  condition: PageCondition;
  title: string;
  description: string;
  retryUrl?: string | null;
  provider?: string | null;
  providerSays?: string | null;
  /** With 503. Default: 1. */
  retryAfterS?: number;
}>;

/** A clear error, as HTML, or as JSON for those who accept only that. */
export function sendProblem(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  context: ReservedContext,
  problem: PageProblem,
): FastifyReply {
  const page: SignInErrorPage = {
    type: "sign-in-error",
    requestId: context.requestId,
    at: deps.clock.wall(),
    appsUrl: deps.routes !== null && deps.settings.isRouteOrigin(context.origin) ? "/.pomerium/routes" : null,
    ...problem,
  };
  if (problem.status === 503) reply.header("retry-after", String(problem.retryAfterS ?? 1));
  if (request.headers.accept === "application/json") {
    return reply
      .code(problem.status)
      .header("cache-control", "no-store")
      .header("x-pomerium-intercepted-response", "true")
      .type("application/json")
      .send(handlerErrorJson(page));
  }
  // The address of such a page may contain a code or a sealed handle: links on it must not send it as a referrer.
  return sendPage({ deps, request, reply, context }, problem.status, page, { "referrer-policy": "no-referrer" });
}

/** An http(s) URL without credentials, or undefined. */
export function parseHttpUrl(text: string | null | undefined): URL | undefined {
  if (text === undefined || text === null || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  return (url.protocol === "https:" || url.protocol === "http:") && url.username === "" && url.password === ""
    ? url
    : undefined;
}

/**
 * A redirect for programmatic sign-in carries a credential: a listed host, exactly, and in clear only to this machine.
 * `localhost` also means the loopback addresses.
 */
export function isProgrammaticRedirect(url: URL, hosts: readonly string[]): boolean {
  const hostname = url.hostname.replace(/^\[|\]$/g, "");
  const loopback = hostname === "localhost" || hostname === "::1" || /^127(?:\.\d{1,3}){3}$/.test(hostname);
  if (url.protocol !== "https:" && !loopback && !hostname.endsWith(".localhost")) return false;
  return hosts.some((host) => hostname === host.toLowerCase() || (host === "localhost" && loopback));
}

export const newCommandId = (deps: AuthDeps): CommandId => deps.random.uuid() as CommandId;
export const newSessionId = (deps: AuthDeps): SessionId => deps.random.uuid() as SessionId;
export const secondsOf = (ms: number): number => Math.floor(ms / 1_000);
export const addMs = (at: UnixMs, ms: number): UnixMs => (at + ms) as UnixMs;

/** The projection lags behind a credential: always 503, never sign-in. */
export function sendBehind(
  deps: AuthDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  context: ReservedContext,
): FastifyReply {
  return sendProblem(deps, request, reply, context, {
    status: 503,
    condition: "behind",
    title: "Please try again",
    description: "We cannot verify your session right now. Please try again in a moment; you are still signed in.",
    retryUrl: request.raw.url ?? "/",
  });
}

export function currentKey(deps: AuthDeps): Uint8Array {
  const [key] = deps.settings.urlKeys;
  if (key === undefined) throw new TypeError("no URL signing key");
  return key;
}
