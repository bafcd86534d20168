/**
 * Assertion: the signed statement of who is asking that an upstream receives (`X-Pomerium-Jwt-Assertion`).
 *
 * Its claims, key and key id are Pomerium's (pomerium.md §3.1), so that an upstream which verifies Pomerium's assertions
 * verifies these. One assertion serves a principal on a host for at most 30 s, on all routes with the same rules: it says nothing of
 * the route. It is found by the principal object itself, which is made anew whenever a fact of the person changes, so a change
 * drops it. It never outlives the session.
 *
 * Never says anything of a person whose personal data does not open.
 */
import { createECDH, createPrivateKey, createPublicKey, hkdfSync, type KeyObject } from "node:crypto";
import { calculateJwkThumbprint, exportJWK, type JWK, type JWTPayload, SignJWT } from "jose";
import { LRUCache } from "lru-cache";
import type { GroupId, UnixMs } from "../events/index.ts";
import type { Principal } from "./authorize/decision.ts";

export type AssertionClaims = Readonly<Record<string, string | number | readonly string[]>>;
/** What one principal is introduced with on one host. */
export type Introduction = Readonly<{
  assertion: string;
  claimHeaders: readonly (readonly [string, string])[];
  /** As in the assertion; empty: nobody. */
  email: string;
  groups: readonly string[];
}>;

/** What a route may say otherwise than the whole configuration. */
export type AssertionRules = Readonly<{
  issuerFormat: "hostOnly" | "uri";
  /** Groups that may be named; empty: all. */
  groupsFilter: readonly string[];
}>;

export type AssertionScope = Readonly<{
  /** Without port: the issuer and the audience. */
  hostname: string;
  mode: "cached" | "per_request";
  /** The same object for all requests of a route in one configuration. Absent: those of the whole configuration. */
  rules?: AssertionRules;
  /** When it is asked for; absent: the clock is. */
  now?: UnixMs;
}>;

export type Assertions = Readonly<{
  jwks: Readonly<{ keys: readonly JWK[] }>;
  /** Immediate while a cached one is fresh. `null`: nobody is signed in, on a route that is open to everybody. */
  introduce(principal: Principal | null, scope: AssertionScope): Introduction | Promise<Introduction>;
  /** The claims alone; null: nobody. */
  claimsOf(principal: Principal | null, hostname: string): AssertionClaims;
}>;

export class SigningKeyError extends Error {
  readonly code = "ERR_AUTH_SIGNING_KEY";
  constructor(problem: string, options?: ErrorOptions) {
    super(`signing_key: ${problem}`, options);
    this.name = "SigningKeyError";
  }
}

const lifetimeS = 300;
const freshForMs = 30_000;
const perPrincipalMax = 64;

/** @throws SigningKeyError when the key is no EC P-256 or RSA private key of 2048 bits or more */
export async function createAssertions(options: {
  /** PEM, or base64 of PEM; null: derived from the shared secret as Pomerium does. */
  signingKey: string | null;
  /** The one before the last change, or the one to come, likewise; `derived`: from the shared secret. Published, and never signs. */
  signingKeyPrevious?: string | null;
  sharedSecret: Uint8Array;
  /** The one before the last change, or the one to come: its derived key is published too, and never signs. */
  sharedSecretPrevious?: Uint8Array | null;
  /** Header name to claim name. */
  claimsHeaders: Readonly<Record<string, string>>;
  /** Groups that may be named; empty: all. */
  groupsFilter: readonly string[];
  issuerFormat: "hostOnly" | "uri";
  groupName: (id: GroupId) => string | undefined;
  now: () => UnixMs;
  uuid: () => string;
}): Promise<Assertions> {
  const key = options.signingKey === null ? derivedKey(options.sharedSecret) : readKey(options.signingKey);
  const alg = algorithmOf(key);
  const published = await publish(key);
  const { kid } = published;
  const previous = options.signingKey === null ? (options.sharedSecretPrevious ?? null) : null;
  const others = previous === null ? [] : [derivedKey(previous)];
  const before = options.signingKeyPrevious ?? null;
  if (before !== null) others.push(before === "derived" ? derivedKey(options.sharedSecret) : readKey(before));
  const alsoPublished = await Promise.all(others.map(publish));
  const global: AssertionRules = { issuerFormat: options.issuerFormat, groupsFilter: options.groupsFilter };
  const extraClaims = [...new Set(Object.values(options.claimsHeaders))];
  const cache = new WeakMap<object, Kept>();
  const contents = new WeakMap<AssertionRules, string>();
  const nobody = {};

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
      if (values !== undefined && !Object.hasOwn(claims, claim)) claims[claim] = values.join(",");
    }
    return claims;
  }

  /** Ids, then names: an upstream may know either. Without memberships of ours, what the provider claims. */
  function groupsOf(principal: Principal, filter: readonly string[]): readonly string[] {
    const ids = [...principal.groups].sort();
    const names = ids.map((id) => options.groupName(id)).filter((name) => name !== undefined);
    const known = ids.length > 0 ? [...ids, ...names] : (principal.claims["groups"] ?? []).map(String);
    const unique = [...new Set(known)];
    if (filter.length === 0) return unique;
    const wanted = new Set(filter);
    return unique.filter((group) => wanted.has(group));
  }

  function claimHeaders(claims: AssertionClaims): readonly (readonly [string, string])[] {
    return Object.entries(options.claimsHeaders).map(([name, claim]) => {
      const value = Object.hasOwn(claims, claim) ? claims[claim] : undefined;
      return [name, value === undefined ? "" : Array.isArray(value) ? value.join(",") : String(value)] as const;
    });
  }

  /** Rules that say the same are one, whichever route they are of. */
  function contentOf(rules: AssertionRules): string {
    let content = contents.get(rules);
    if (content === undefined) {
      content = JSON.stringify([rules.issuerFormat, rules.groupsFilter]);
      contents.set(rules, content);
    }
    return content;
  }

  async function sign(principal: Principal | null, hostname: string, rules: AssertionRules): Promise<Introduction> {
    const claims = claimsOf(principal, hostname, rules);
    const assertion = await new SignJWT(claims as JWTPayload).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(key);
    const { email, groups } = claims;
    return {
      assertion,
      claimHeaders: claimHeaders(claims),
      email: typeof email === "string" ? email : "",
      groups: Array.isArray(groups) ? groups : [],
    };
  }

  return {
    jwks: { keys: [published, ...alsoPublished.filter((other) => other.kid !== kid)] },
    claimsOf,
    introduce(principal, { hostname, mode, rules = global, now = options.now() }) {
      if (mode === "per_request") return sign(principal, hostname, rules);
      const owner = principal ?? nobody;
      let kept = cache.get(owner);
      if (kept === undefined) {
        kept = { entries: new LRUCache({ max: perPrincipalMax }), last: undefined };
        cache.set(owner, kept);
      }
      const { entries, last } = kept;
      if (last !== undefined && last.rules === rules && last.hostname === hostname && now < last.entry.freshUntil)
        return last.entry.introduction;
      // No two places are written alike: JSON says where it ends.
      const place = contentOf(rules) + hostname;
      const known = entries.get(place);
      if (known !== undefined && now < known.freshUntil) {
        if (!(known.introduction instanceof Promise)) kept.last = { rules, hostname, entry: known };
        return known.introduction;
      }
      const signing = sign(principal, hostname, rules);
      const entry: Entry = { introduction: signing, freshUntil: now + freshForMs };
      entries.set(place, entry);
      signing.then(
        (introduction) => {
          entry.introduction = introduction;
        },
        () => entries.delete(place),
      );
      return signing;
    },
  };
}

/** Of one person: by place, and the one that was asked for last. */
type Kept = {
  readonly entries: LRUCache<string, Entry>;
  last: Readonly<{ rules: AssertionRules; hostname: string; entry: Entry }> | undefined;
};

/** Concurrent requests share one signature: until it is there, the promise of it. */
type Entry = {
  introduction: Introduction | Promise<Introduction>;
  readonly freshUntil: number;
};

function readKey(text: string): KeyObject {
  const pem = text.includes("-----BEGIN") ? text : Buffer.from(text.trim(), "base64").toString("utf8");
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new SigningKeyError("is no private key in PEM, nor base64 of one", { cause });
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
 * The key that Pomerium derives when no `signing_key` is set, so that an installation keeps its JWKS when it moves here:
 * 40 bytes of HKDF-SHA256 over the shared secret (no salt, info `derived-jwt-signing-key`), as a number mod (n - 1), plus 1:
 * FIPS 186-5 appendix A.2.1, as Go 1.19 made ECDSA keys.
 * @see pomerium `config/options.go` deriveSigningKey; filippo.io/keygen ECDSALegacy
 */
export function derivedKey(sharedSecret: Uint8Array): KeyObject {
  const bytes = Buffer.from(hkdfSync("sha256", sharedSecret, new Uint8Array(), "derived-jwt-signing-key", 40));
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
