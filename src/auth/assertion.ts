/**
 * Assertion: the signed JWT (`X-Pomerium-Jwt-Assertion`) that identifies the caller to an upstream.
 *
 * - Claims, key and key id are Pomerium's (docs/pomerium-behaviour.md §3.1): an upstream that verifies Pomerium's
 *   assertions verifies these.
 * - One assertion serves a principal on a host for at most 30 s, and never outlives the session. Routes with the same
 *   rules share it: it does not name the route.
 * - The cache key is the principal object. Any change of a fact about the person makes a new object, so the cached
 *   assertion is dropped.
 * - A person whose personal data does not open is never identified.
 * - All identity headers of a request together have a bound in bytes. Above it, the groups are reduced to those that
 *   the route's policy names, and the claim `groups_omitted` counts the groups left out. A route with a groups filter
 *   already names its groups, so they are not reduced again. If the rest still exceeds the bound, nothing is sent and
 *   the caller gets `IdentityTooLarge`.
 */
import { createECDH, createPrivateKey, createPublicKey, hash, hkdfSync, type KeyObject } from "node:crypto";
import { calculateJwkThumbprint, exportJWK, type JWK, type JWTPayload, SignJWT } from "jose";
import { LRUCache } from "lru-cache";
import { CodedError, type GroupId, type UnixMs } from "../events/index.ts";
import type { Principal } from "./authorize/decision.ts";

export type AssertionClaims = Readonly<Record<string, string | number | readonly string[]>>;
/** The headers would exceed the bound even with the groups reduced, so no upstream gets them. */
export type IdentityTooLarge = Readonly<{ assertion: null; bytes: number }>;
/** The identity of one principal on one host, as upstreams get it. */
export type IdentityAssertion = Readonly<{
  assertion: string;
  claimHeaders: readonly (readonly [string, string])[];
  /** As in the assertion; empty: not signed in. */
  email: string;
  groups: readonly string[];
}>;

/** Settings of a route that override the global configuration. */
export type AssertionRules = Readonly<{
  issuerFormat: "hostOnly" | "uri";
  /** Groups that may be named; empty: all. */
  groupsFilter: readonly string[];
  /** The route whose policy names the groups that are kept above the bound. Absent: none are kept. */
  routeId?: string;
  /** Absent: one assertion header and every claim header. */
  carriers?: IdentityCarriers;
}>;

/** Which headers carry the identity to an upstream. The bound counts these. */
export type IdentityCarriers = Readonly<{
  /** Headers whose value contains the assertion. */
  assertions: number;
  /** Names of the claim headers that are sent. */
  claimHeaders: readonly string[];
  /** One `Impersonate-Group` line per group. */
  impersonation: boolean;
}>;

/** An identity above the bound, and how it was handled. */
export type OversizeIdentity = Readonly<{
  outcome: "reduced" | "refused";
  routeId: string | null;
  userId: string | null;
  /** Size of the headers with every group. */
  bytes: number;
  bytesMax: number;
  groupsOmitted: number;
}>;

export type AssertionScope = Readonly<{
  /** Without port. It is the issuer and the audience. */
  hostname: string;
  mode: "cached" | "per_request";
  /** The same object for all requests of a route in one configuration. Absent: the global rules. */
  rules?: AssertionRules;
  /** Time of the request. Absent: the current time. */
  now?: UnixMs;
}>;

export type AssertionResult = IdentityAssertion | IdentityTooLarge;
export type Assertions = Readonly<{
  jwks: Readonly<{ keys: readonly JWK[] }>;
  /** Synchronous while a cached assertion is fresh. `null`: an anonymous caller on a public route. */
  issue(principal: Principal | null, scope: AssertionScope): AssertionResult | Promise<AssertionResult>;
  /** The claims alone. `null`: an anonymous caller. */
  claimsOf(principal: Principal | null, hostname: string): AssertionClaims;
}>;

export class SigningKeyError extends CodedError<"ERR_AUTH_SIGNING_KEY"> {
  override readonly code = "ERR_AUTH_SIGNING_KEY";
  constructor(problem: string, options?: ErrorOptions) {
    super(`signing_key: ${problem}`, options);
  }
}

const code = "ERR_AUTH_IDENTITY_TOO_LARGE";
/** The denial of a caller whose identity exceeds the bound of its headers. */
export const identityTooLarge = {
  code,
  reason: "identity-too-large",
  title: "Too many groups",
  description: `You may open this page, but you belong to more groups than can be sent to the service behind it. Ask the administrator of this site to select the groups that the service needs with jwt_groups_filter (${code}).`,
} as const;

const lifetimeS = 300;
const freshForMs = 30_000;
/** Bound of the cached assertions of one principal. */
const perPrincipalBytesMax = 131_072;
/** Estimated overhead of a cache entry, without its assertion. */
const entryBytes = 1_024;
/** The claim that says how many groups a reduced assertion leaves out. Absent: none. */
const omittedClaim = "groups_omitted";
/** Length of a header line beyond its name and value: colon, space, CR, LF. */
const lineBytes = 4;

/** @throws SigningKeyError when the key is no EC P-256 or RSA private key of 2048 bits or more */
export async function createAssertions(options: {
  /** PEM, or base64 of PEM; null: derived from the shared secret as Pomerium does. */
  signingKey: string | null;
  /**
   * The previous or the next key during a rotation, in the same forms; `derived`: from the shared secret. It is
   * published and never signs.
   */
  signingKeyPrevious?: string | null;
  sharedSecret: Uint8Array;
  /** The previous or the next secret during a rotation. Its derived key is published and never signs. */
  sharedSecretPrevious?: Uint8Array | null;
  /** Header name to claim name. */
  claimsHeaders: Readonly<Record<string, string>>;
  /** Groups that may be named; empty: all. */
  groupsFilter: readonly string[];
  issuerFormat: "hostOnly" | "uri";
  groupName: (id: GroupId) => string | undefined;
  /** Bound of all identity headers of one request together, names and line ends included. */
  bytesMax: number;
  /** Groups that the policy of a route names. */
  groupsOfPolicy: (routeId: string) => readonly string[];
  /** Called once per assertion; a cached one is not reported again. */
  onOversize: (oversize: OversizeIdentity) => void;
  now: () => UnixMs;
  uuid: () => string;
}): Promise<Assertions> {
  const key = options.signingKey === null ? deriveKey(options.sharedSecret) : readKey(options.signingKey);
  const alg = algorithmOf(key);
  const published = await publish(key);
  const { kid } = published;
  const previous = options.signingKey === null ? (options.sharedSecretPrevious ?? null) : null;
  const others = previous === null ? [] : [deriveKey(previous)];
  const before = options.signingKeyPrevious ?? null;
  if (before !== null) others.push(before === "derived" ? deriveKey(options.sharedSecret) : readKey(before));
  const alsoPublished = await Promise.all(others.map(publish));
  const global: AssertionRules = { issuerFormat: options.issuerFormat, groupsFilter: options.groupsFilter };
  const extraClaims = [...new Set(Object.values(options.claimsHeaders))];
  const allCarriers = { assertions: 1, claimHeaders: Object.keys(options.claimsHeaders), impersonation: false };
  const envelopeBytes = assertionEnvelopeBytes(key, { alg, kid, typ: "JWT" });
  const cache = new WeakMap<object, PrincipalCache>();
  const contents = new WeakMap<AssertionRules, string>();
  const anonymousOwner = {};

  function claimsOf(principal: Principal | null, hostname: string, rules: AssertionRules = global): AssertionClaims {
    const nowS = Math.floor(options.now() / 1_000);
    const sessionEndsS = principal === null ? Infinity : Math.floor(principal.session.expiresAt / 1_000);
    const common = {
      iss: rules.issuerFormat === "uri" ? `https://${hostname}/` : hostname,
      aud: hostname,
      jti: options.uuid(),
      iat: nowS,
      exp: Math.min(nowS + lifetimeS, sessionEndsS),
    };
    const profile = principal?.profile;
    if (principal === null || profile === undefined) return { ...common, sub: "", user: "", email: "", groups: [] };
    const claims: Record<string, string | number | readonly string[]> = {
      ...common,
      sub: profile.subject,
      user: profile.subject,
      email: profile.email,
      groups: groupsOf(principal, rules.groupsFilter),
      sid: principal.session.sessionId,
      name: profile.name,
    };
    for (const claim of extraClaims) {
      const values = Object.hasOwn(principal.claims, claim) ? principal.claims[claim] : undefined;
      if (values === undefined || Object.hasOwn(claims, claim) || claim === omittedClaim) continue;
      claims[claim] = values.join(",");
    }
    return claims;
  }

  /**
   * Ids, then names: an upstream may know either. Without memberships in the log, the groups that the provider claims.
   */
  function groupsOf(principal: Principal, filter: readonly string[]): readonly string[] {
    const unique = allGroupsOf(principal, [...principal.groups]);
    if (filter.length === 0) return unique;
    const wanted = new Set(filter);
    return unique.filter((group) => wanted.has(group));
  }

  /** @param ids the principal's memberships that the assertion names */
  function allGroupsOf(principal: Principal, ids: readonly GroupId[]): readonly string[] {
    const sorted = ids.toSorted();
    const names = sorted.map((id) => options.groupName(id)).filter((name) => name !== undefined);
    const known = principal.groups.size > 0 ? [...sorted, ...names] : (principal.claims["groups"] ?? []).map(String);
    return [...new Set(known)];
  }

  /** The principal's groups that a policy names, each with its id and its name. */
  function groupsNamed(principal: Principal, named: readonly string[]): readonly string[] {
    const wanted = new Set(named);
    const isNamed = (id: GroupId): boolean => wanted.has(id) || wanted.has(options.groupName(id) ?? "");
    const groups = allGroupsOf(principal, [...principal.groups].filter(isNamed));
    return principal.groups.size > 0 ? groups : groups.filter((group) => wanted.has(group));
  }

  function claimHeaders(claims: AssertionClaims): readonly (readonly [string, string])[] {
    return Object.entries(options.claimsHeaders).map(([name, claim]) => {
      const value = Object.hasOwn(claims, claim) ? claims[claim] : undefined;
      return [name, value === undefined ? "" : Array.isArray(value) ? value.join(",") : String(value)] as const;
    });
  }

  /** Cache key of rules by content: equal rules of different routes share one assertion. */
  function contentOf(rules: AssertionRules): string {
    let content = contents.get(rules);
    if (content === undefined) {
      content = hash(
        "sha256",
        JSON.stringify([rules.issuerFormat, rules.groupsFilter, carriersOf(rules)]),
        "base64url",
      );
      contents.set(rules, content);
    }
    return content;
  }

  function carriersOf({ carriers = allCarriers }: AssertionRules): readonly unknown[] {
    return [carriers.assertions, carriers.claimHeaders, carriers.impersonation];
  }

  /** Length of the header lines that carry these claims, before anything is signed. */
  function bytesOf(claims: AssertionClaims, { carriers = allCarriers }: AssertionRules): number {
    const assertionBytes = envelopeBytes + base64Length(Buffer.byteLength(JSON.stringify(claims)));
    let bytes = carriers.assertions * ("x-pomerium-jwt-assertion".length + lineBytes + assertionBytes);
    const sent = new Set(carriers.claimHeaders);
    for (const [name, value] of claimHeaders(claims))
      if (sent.has(name)) bytes += name.length + lineBytes + Buffer.byteLength(value);
    const groups = carriers.impersonation && Array.isArray(claims["groups"]) ? claims["groups"] : [];
    for (const group of groups) bytes += "impersonate-group".length + lineBytes + Buffer.byteLength(group);
    return bytes;
  }

  async function sign(claims: AssertionClaims): Promise<IdentityAssertion> {
    const assertion = await new SignJWT(claims as JWTPayload).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(key);
    const { email, groups } = claims;
    return {
      assertion,
      claimHeaders: claimHeaders(claims),
      email: typeof email === "string" ? email : "",
      groups: Array.isArray(groups) ? groups : [],
    };
  }

  function signWhole(
    principal: Principal | null,
    hostname: string,
    rules: AssertionRules,
  ): Promise<IdentityAssertion> | "oversize" {
    const claims = claimsOf(principal, hostname, rules);
    return bytesOf(claims, rules) > options.bytesMax ? "oversize" : sign(claims);
  }

  function signReduced(
    principal: Principal | null,
    hostname: string,
    rules: AssertionRules,
  ): IdentityTooLarge | Promise<IdentityAssertion> {
    const { routeId = null, groupsFilter } = rules;
    const { bytesMax } = options;
    const whole = claimsOf(principal, hostname, rules);
    const bytes = bytesOf(whole, rules);
    const all = Array.isArray(whole["groups"]) ? whole["groups"].length : 0;
    const facts = { routeId, userId: principal?.userId ?? null, bytes, bytesMax };
    if (principal !== null && groupsFilter.length === 0) {
      const groups = groupsNamed(principal, routeId === null ? [] : options.groupsOfPolicy(routeId));
      const groupsOmitted = all - groups.length;
      const claims = { ...whole, groups, [omittedClaim]: groupsOmitted };
      if (bytesOf(claims, rules) <= bytesMax) {
        options.onOversize({ outcome: "reduced", ...facts, groupsOmitted });
        return sign(claims);
      }
    }
    options.onOversize({ outcome: "refused", ...facts, groupsOmitted: all });
    return { assertion: null, bytes };
  }

  /** Caches a result under `place`. Concurrent requests share one signature. */
  function store(
    entries: PrincipalCache["entries"],
    place: string,
    made: CachedAssertion["result"],
    freshUntil: number,
  ): CachedAssertion {
    const entry: CachedAssertion = { result: made, freshUntil };
    entries.set(place, entry, { size: entryBytes });
    if (made instanceof Promise)
      made.then(
        (result) => {
          if (entries.peek(place) !== entry) return;
          // A new object: the cache updates the size of an entry only for a different value.
          entries.set(place, { ...entry, result }, { size: entryBytes + sizeOf(result) });
        },
        () => entries.delete(place),
      );
    return entry;
  }

  /** The fresh entry of a place; made if missing. Above the bound, the entry with the reduced groups. */
  function entryOf(
    entries: PrincipalCache["entries"],
    principal: Principal | null,
    scope: Required<AssertionScope>,
  ): CachedAssertion {
    const { hostname, rules, now } = scope;
    const place = contentOf(rules) + hostname; // the digests have one length, so no two places are written alike
    const known = entries.get(place);
    // An assertion that names a group is not used after the end of the membership.
    const freshUntil = Math.min(now + freshForMs, principal?.groupsUntil ?? Number.POSITIVE_INFINITY);
    const entry =
      known !== undefined && now < known.freshUntil
        ? known
        : store(
            entries,
            place,
            rejectOnThrow(() => signWhole(principal, hostname, rules)),
            freshUntil,
          );
    if (entry.result !== "oversize") return entry;
    const named = rules.routeId === undefined ? [] : options.groupsOfPolicy(rules.routeId);
    const reducedPlace = `${hash("sha256", JSON.stringify(named), "base64url")} ${place}`;
    const reduced = entries.get(reducedPlace);
    if (reduced !== undefined && now < reduced.freshUntil) return reduced;
    return store(
      entries,
      reducedPlace,
      rejectOnThrow(() => signReduced(principal, hostname, rules)),
      freshUntil,
    );
  }

  return {
    jwks: { keys: [published, ...alsoPublished.filter((other) => other.kid !== kid)] },
    claimsOf,
    issue(principal, { hostname, mode, rules = global, now = options.now() }) {
      if (mode === "per_request") {
        const whole = signWhole(principal, hostname, rules);
        return whole === "oversize" ? signReduced(principal, hostname, rules) : whole;
      }
      const owner = principal ?? anonymousOwner;
      let kept = cache.get(owner);
      if (kept === undefined) {
        kept = { entries: new LRUCache({ maxSize: perPrincipalBytesMax }), last: undefined };
        cache.set(owner, kept);
      }
      const { last } = kept;
      if (last !== undefined && last.rules === rules && last.hostname === hostname && now < last.freshUntil)
        return last.result;
      const { result, freshUntil } = entryOf(kept.entries, principal, { hostname, mode, rules, now });
      if (result === "oversize") throw new TypeError("an identity above the bound was neither reduced nor refused");
      if (!(result instanceof Promise)) kept.last = { rules, hostname, result, freshUntil };
      return result;
    },
  };
}

/** Cached assertions of one person, by place, and the last one requested. */
type PrincipalCache = {
  readonly entries: LRUCache<string, CachedAssertion>;
  last: Readonly<{ rules: AssertionRules; hostname: string; result: AssertionResult; freshUntil: number }> | undefined;
};

/** A promise until the signature exists, so that concurrent requests share it. */
type CachedAssertion = Readonly<{
  /** `oversize`: the reduced assertion is under another place. */
  result: AssertionResult | Promise<AssertionResult> | "oversize";
  freshUntil: number;
}>;

/** Turns a synchronous failure into a rejection. It fails every waiting request and is not cached. */
function rejectOnThrow(make: () => CachedAssertion["result"]): CachedAssertion["result"] {
  try {
    return make();
  } catch (cause) {
    return Promise.reject(cause);
  }
}

function sizeOf(introduced: AssertionResult): number {
  if (introduced.assertion === null) return 0;
  const { assertion, claimHeaders, groups } = introduced;
  const texts = [...claimHeaders.map(([, value]) => value), ...groups];
  return texts.reduce((bytes, text) => bytes + text.length, assertion.length);
}

/** Length of base64url text without padding. */
function base64Length(bytes: number): number {
  return Math.ceil((bytes * 4) / 3);
}

/** Length of a compact JWS beyond its payload: protected header, signature and two dots. */
function assertionEnvelopeBytes(key: KeyObject, header: Readonly<Record<string, string>>): number {
  const signatureBytes = algorithmOf(key) === "ES256" ? 64 : (key.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
  return base64Length(Buffer.byteLength(JSON.stringify(header))) + base64Length(signatureBytes) + 2;
}

function readKey(text: string): KeyObject {
  const pem = text.includes("-----BEGIN") ? text : Buffer.from(text.trim(), "base64").toString("utf8");
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new SigningKeyError("is neither a private key in PEM nor the base64 of one", { cause });
  }
}

async function publish(key: KeyObject): Promise<JWK & Readonly<{ kid: string }>> {
  const publicJwk = await exportJWK(createPublicKey(key));
  const kid = Buffer.from(await calculateJwkThumbprint(publicJwk, "sha256"), "base64url").toString("hex");
  return { ...publicJwk, kid, alg: algorithmOf(key), use: "sig" };
}

function algorithmOf(key: KeyObject): "ES256" | "RS256" {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "ec" && namedCurve === "prime256v1") return "ES256";
  if (key.asymmetricKeyType === "rsa" && (modulusLength ?? 0) >= 2_048) return "RS256";
  throw new SigningKeyError("must be an EC key on P-256 or an RSA key of 2048 bits or more");
}

/** The order of P-256, FIPS 186-5 and SEC 2. */
const p256Order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/**
 * The key that Pomerium derives when no `signing_key` is set, so that an installation keeps its JWKS when it migrates
 * from Pomerium: 40 bytes of HKDF-SHA256 over the shared secret (no salt, info `derived-jwt-signing-key`), as a number
 * mod (n - 1), plus 1: FIPS 186-5 appendix A.2.1, as Go 1.19 made ECDSA keys.
 * @param purpose the info of HKDF; another purpose makes another key
 * @see pomerium `config/options.go` deriveSigningKey; filippo.io/keygen ECDSALegacy
 */
export function deriveKey(sharedSecret: Uint8Array, purpose = "derived-jwt-signing-key"): KeyObject {
  const bytes = Buffer.from(hkdfSync("sha256", sharedSecret, new Uint8Array(), purpose, 40));
  const scalar = (BigInt(`0x${bytes.toString("hex")}`) % (p256Order - 1n)) + 1n;
  const d = Buffer.from(scalar.toString(16).padStart(64, "0"), "hex");
  const curve = createECDH("prime256v1");
  curve.setPrivateKey(d);
  const point = curve.getPublicKey();
  return createPrivateKey({
    format: "jwk",
    key: {
      kty: "EC",
      crv: "P-256",
      d: d.toString("base64url"),
      x: point.subarray(1, 33).toString("base64url"),
      y: point.subarray(33, 65).toString("base64url"),
    },
  });
}
