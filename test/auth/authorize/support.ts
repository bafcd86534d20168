/** Builders of routes, requests and users for policy tests, and one-line evaluation of a policy. */
import assert from "node:assert/strict";
import { compilePolicies, type Policies } from "../../../src/auth/authorize/compile.ts";
import { type Decision, decide } from "../../../src/auth/authorize/decide.ts";
import type {
  DecisionRequest,
  DeviceCredential,
  Principal,
  ResolvedCaller,
} from "../../../src/auth/authorize/decision.ts";
import { noRecords, type Records } from "../../../src/auth/authorize/records/records.ts";
import type { Problem, RouteConfig, SourceLocation, SourceLocationTree } from "../../../src/config/index.ts";
import type { ActiveSession, Claims, GroupId, Position, SessionId, UnixMs, UserId } from "../../../src/events/index.ts";

export const now = 1_000_000 as UnixMs;

const place: SourceLocation = { file: "cardea.yaml", line: 1, column: 1 };

/** A route without any access setting. */
export function route(parts: Partial<RouteConfig> = {}): RouteConfig {
  return {
    id: "r",
    name: "",
    description: "",
    location: place,
    from: new URL("https://app.example"),
    host: "app.example",
    port: null,
    tunnel: null,
    to: [],
    redirect: null,
    response: null,
    match: { kind: "prefix", value: "/" },
    prefixRewrite: null,
    regexRewrite: null,
    hostRewrite: null,
    hostRewriteHeader: null,
    hostPathRegexRewrite: null,
    preserveHostHeader: false,
    setRequestHeaders: {},
    removeRequestHeaders: [],
    setResponseHeaders: {},
    rewriteResponseHeaders: [],
    idpClient: null,
    signInProviders: null,
    bearer: null,
    dependsOn: [],
    routeGroups: [],
    requestAccess: null,
    passIdentityHeaders: false,
    jwtIssuerFormat: "hostOnly",
    jwtGroupsFilter: [],
    policy: null,
    shadowPolicy: null,
    subPolicies: [],
    allowedUsers: [],
    allowedDomains: [],
    allowedIdpClaims: {},
    allowAnyAuthenticatedUser: false,
    allowPublicUnauthenticatedAccess: false,
    corsAllowPreflight: false,
    timeoutMs: 30_000,
    timeoutFrom: "permit",
    idleTimeoutMs: 300_000,
    allowWebsockets: false,
    allowUpgrades: [],
    balancing: {
      policy: "round_robin",
      choiceCount: 2,
      activeRequestBias: 1,
      ringSizeMin: 1_024,
      ringSizeMax: 1_048_576,
      tableSize: 65_537,
      panicThreshold: 50,
    },
    healthChecks: [],
    outlierDetection: null,
    circuitBreakers: { connections: 1_024, pending: 1_024, requests: 1_024, retries: 3, streams: 65_536 },
    kubernetes: null,
    upstreamCodecType: "auto",
    tls: {
      skipVerify: false,
      serverName: null,
      customCa: null,
      clientCert: null,
      clientKey: null,
      allowRenegotiation: false,
    },
    clientCa: null,
    requiresClientCertificate: false,
    showErrorDetails: false,
    onStale: "serve",
    staleGraceMs: 60_000,
    audit: "best_effort",
    auditTrace: "denials",
    auditEnds: "streams",
    recorded: { query: [], headers: ["user-agent"], redactPath: [] },
    sessionLifetimeMs: 0,
    sessionIdleLifetimeMs: 0,
    maxStreamLifetimeMs: 0,
    maxRequestBodyBytes: 0,
    allowEncodedSlashes: false,
    assertion: "cached",
    logoUrl: "",
    owner: "",
    discoverable: false,
    ...parts,
  };
}

/** A policy in which every key and value has its own line, in reading order. */
export function source(ppl: unknown): NonNullable<RouteConfig["policy"]> {
  let line = 0;
  const next = (): SourceLocation => {
    line += 1;
    return { file: "cardea.yaml", line, column: 1 };
  };
  const walk = (value: unknown, key: SourceLocation | null): SourceLocationTree => {
    const inner = new Map<string | number, SourceLocationTree>();
    const at = key ?? next();
    if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) inner.set(index, walk(item, null));
    } else if (typeof value === "object" && value !== null) {
      for (const [name, item] of Object.entries(value)) inner.set(name, walk(item, next()));
    }
    return { value: at, key, inner };
  };
  const places = walk(ppl, null);
  return { ppl, location: places.value, locations: places };
}

export function request(parts: Partial<DecisionRequest> = {}): DecisionRequest {
  return {
    method: "GET",
    scheme: "https",
    host: "app.example",
    rawPath: "/",
    path: "/",
    query: "",
    headers: {},
    ip: "192.0.2.1",
    clientCertificate: null,
    ...parts,
  };
}

export type Person = Readonly<{
  subject?: string;
  email?: string;
  claims?: Claims;
  groups?: readonly string[];
  expiresAt?: number;
  devices?: readonly DeviceCredential[];
  /** False: the personal data cannot be decrypted. */
  opens?: boolean;
}>;

export function principal(person: Person = {}): Principal {
  const { subject = "alice-1", email = "alice@example.com", claims = {}, groups = [], expiresAt = 2_000_000 } = person;
  const userId = `user-of-${subject}` as UserId;
  const session: ActiveSession = {
    status: "active",
    sessionId: `session-of-${subject}` as SessionId,
    userId,
    idpId: "idp",
    issuedAt: 0 as UnixMs,
    expiresAt: expiresAt as UnixMs,
    refreshedAt: 0 as UnixMs,
    profile: new Uint8Array(),
    createdAt: 1 as Position,
  };
  const profile = { issuer: "https://idp.example", subject, email, emailVerified: true, name: "Alice", claims };
  return {
    session,
    user: undefined,
    userId,
    profile: person.opens === false ? undefined : profile,
    claims: person.opens === false ? {} : claims,
    groups: new Set(groups as GroupId[]),
    ...(person.devices === undefined ? {} : { devices: person.devices }),
  };
}

export const anonymous: Exclude<ResolvedCaller, { type: "behind" }> = {
  type: "anonymous",
  why: "no-credential",
  credentialInHeader: false,
};

/**
 * Compiles valid routes. Unlike a configuration, accepts a `deny` that never fires, because the tests target the
 * evaluator.
 */
export function compiled(...routes: readonly RouteConfig[]): Policies {
  const result = compilePolicies(routes, { records: noRecords, facts: "any" });
  assert(result.ok, result.ok ? "" : JSON.stringify(result.problems));
  return result.policies;
}

/** The problems of a policy, as `line key: problem`. */
export function problemsOf(ppl: unknown): readonly Problem[] {
  const result = compilePolicies([route({ policy: source(ppl) })]);
  return result.ok ? result.warnings : result.problems;
}

export type Who = Person | null;
/** Decides one request on one route. Null is an anonymous caller. */
export function decideOn(
  on: Partial<RouteConfig>,
  who: Who,
  what: Partial<DecisionRequest> = {},
  { at = now, records = noRecords }: Readonly<{ at?: number; records?: Records }> = {},
): Decision {
  const caller = who === null ? anonymous : ({ type: "principal", principal: principal(who) } as const);
  const result = compilePolicies([route(on)], { records, facts: "any" });
  assert(result.ok, result.ok ? "" : JSON.stringify(result.problems));
  return decide({ policies: result.policies, routeId: "r", caller, request: request(what), now: at as UnixMs });
}

/** `permit accept`, `signin user-unauthenticated`, `deny 403 email-unauthorized`. */
export function summaryOf(decision: Decision): string {
  const status = decision.type === "deny" ? [String(decision.status)] : [];
  return [decision.type, ...status, ...decision.reasons].join(" ");
}

/** Decides a request by a policy and summarises the decision. */
export function outcomeOf(ppl: unknown, who: Who, what: Partial<DecisionRequest> = {}, when?: number): string {
  return summaryOf(decideOn({ policy: source(ppl) }, who, what, when === undefined ? {} : { at: when }));
}
