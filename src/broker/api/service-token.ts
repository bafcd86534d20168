/**
 * Service token: proves to a broker the role of a process, and the one call it means (replication's service-call.ts
 * makes them).
 *
 * HS256 under a key that only processes of that role and the brokers derive from the shared secret. A token is valid
 * for one cluster, for a minute, for one call; a token that names no call is refused.
 */
import type { KeyObject } from "node:crypto";
import { CodedError } from "../../events/index.ts";
import type { Clock } from "../../replication/index.ts";
import { hmacKey, openHs256, type Role, serviceTokenKey, serviceTokenSeconds } from "../../replication/wire/index.ts";

export type Caller = Readonly<{ role: Role; name: string }>;

/** The call that a token names, and when the token was made and ends, in seconds since 1970. */
export type CallProof = Readonly<{ callId: string; call: string; body: string; issuedAt: number; until: number }>;

/** The clocks of two machines may differ by this much. */
export const toleranceSeconds = 5;
const roles: readonly Role[] = ["broker", "proxy", "authorize", "authenticate", "operator"];

/** Why a call with a genuine token is refused. A caller without one learns nothing more. */
export type CallRefusal = "another-call" | "replayed";

export class UnauthenticatedError extends CodedError<"ERR_BROKER_UNAUTHENTICATED"> {
  override readonly code = "ERR_BROKER_UNAUTHENTICATED";
  readonly reason: CallRefusal | null;
  constructor({ reason, ...options }: ErrorOptions & Readonly<{ reason?: CallRefusal }> = {}) {
    super(
      reason === undefined ? "no valid service token" : `the service token does not authenticate this call: ${reason}`,
      options,
    );
    this.reason = reason ?? null;
  }
}

/** @param secrets the shared secret, then the previous one while it is being replaced */
export function createTokenVerifier(
  options: Readonly<{ cluster: string; secrets: readonly Uint8Array[]; clock: Clock }>,
): (authorization: string | undefined) => Caller & CallProof {
  const keys: ReadonlyMap<string, readonly KeyObject[]> = new Map(
    roles.map((role) => [role, options.secrets.map((secret) => hmacKey(serviceTokenKey(secret, role)))]),
  );

  return (authorization) => {
    const [scheme, token, ...rest] = authorization?.split(" ") ?? [];
    if (scheme?.toLowerCase() !== "bearer" || token === undefined || rest.length > 0) throw new UnauthenticatedError();
    const opened = openHs256(token, (kid) => keys.get(kid) ?? []);
    const role = roles.find((each) => each === opened?.kid);
    if (opened === undefined || role === undefined) throw new UnauthenticatedError();
    const { iss, aud, nbf } = opened.claims;
    const proof = proofIn(opened.claims);
    const isOurs = aud === `cardea:${options.cluster}` && nbf === undefined;
    if (!isOurs || typeof iss !== "string" || iss.length > 200) throw new UnauthenticatedError();
    if (proof === undefined || !isValidAt(proof, options.clock.wall() / 1_000)) throw new UnauthenticatedError();
    return { role, name: iss, ...proof };
  };
}

function isValidAt({ issuedAt, until }: CallProof, nowS: number): boolean {
  const lifeMax = serviceTokenSeconds + toleranceSeconds;
  return until > Math.floor(nowS) - toleranceSeconds && until <= nowS + lifeMax && until - issuedAt <= lifeMax;
}

function proofIn({ jti, call, body, iat, exp }: Readonly<Record<string, unknown>>): CallProof | undefined {
  if (typeof jti !== "string" || jti.length < 16 || jti.length > 64) return undefined;
  if (typeof iat !== "number" || typeof exp !== "number") return undefined;
  if (typeof call !== "string" || typeof body !== "string") return undefined;
  return { callId: jti, call, body, issuedAt: iat, until: exp };
}
