/**
 * Service call: one request to a broker, with proof of the caller and of the call.
 *
 * - The proof is a service token (HS256, under a key that only brokers and processes of one role can derive from the
 *   shared secret).
 * - A token is valid for one cluster, for a minute, and for one call: it names method, path and the hash of the body. A
 *   broker accepts it once, so each attempt needs a new token.
 * - The answer repeats the id of the token (signed-answer.ts).
 *
 * What an attacker who intercepts a token can do with it: docs/adr/0011. Pure.
 */
import { hash as digestOf, type KeyObject } from "node:crypto";
import type { Clock } from "../runtime/clock.ts";
import { hmacKey, type Role, serviceTokenKey } from "./cluster-keys.ts";
import { signHs256 } from "./hs256.ts";

export type ServiceCall = Readonly<{ method: string; path: string; body?: Uint8Array | undefined }>;
export type SignedCall = Readonly<{ authorization: string; callId: string }>;

export const serviceTokenSeconds = 60;
/** The header of a call that only a broker of the home region may answer. */
export const homeHeader = "cardea-home";

/** `name`: of the process; the issuer of the token. */
export type SigningCaller = Readonly<{ role: Role; name: string }>;

/** Signs the calls of one process, which may act for callers of several roles. */
export function createCallSigner(
  of: Readonly<{
    cluster: string;
    secret: Uint8Array;
    clock: Clock;
    randomBytes: (size: number) => Uint8Array;
  }>,
): (call: ServiceCall, by: SigningCaller) => SignedCall {
  const keys = new Map<Role, KeyObject>();

  function keyOf(role: Role): KeyObject {
    const known = keys.get(role) ?? hmacKey(serviceTokenKey(of.secret, role));
    keys.set(role, known);
    return known;
  }

  return (call, { role, name }) => {
    const callId = Buffer.from(of.randomBytes(16)).toString("base64url");
    const issuedAt = Math.floor(of.clock.wall() / 1_000);
    const claims = {
      call: callText(call),
      body: bodyDigest(call.body),
      iss: name,
      aud: `cardea:${of.cluster}`,
      jti: callId,
      iat: issuedAt,
      exp: issuedAt + serviceTokenSeconds,
    };
    const token = signHs256({ kid: role, claims }, keyOf(role));
    return { authorization: `Bearer ${token}`, callId };
  };
}

/** The call in the form that the token names. */
export function callText({ method, path }: Pick<ServiceCall, "method" | "path">): string {
  return `${method} ${path}`;
}

export function bodyDigest(body: Uint8Array | undefined): string {
  return digestOf("sha256", body ?? new Uint8Array(), "base64url");
}
