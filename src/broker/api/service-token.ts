/**
 * Service token: proves to a broker the role of a process, and the one call it means (replication's service-call.ts
 * makes them).
 *
 * HS256 under a key that only processes of that role and the brokers derive from the shared secret. A token is valid
 * for one cluster, for a minute, for one call; a token that names no call is refused. jose verifies it.
 */

import { decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import { CodedError } from "../../events/index.ts";
import type { Clock } from "../../replication/index.ts";
import { hmacKey, type Role, serviceTokenKey, serviceTokenSeconds } from "../../replication/wire/index.ts";

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
): (authorization: string | undefined) => Promise<Caller & CallProof> {
  const keys = new Map(
    roles.map((role) => [role, options.secrets.map((secret) => hmacKey(serviceTokenKey(secret, role)))]),
  );

  return async (authorization) => {
    const [scheme, token, ...rest] = authorization?.split(" ") ?? [];
    if (scheme?.toLowerCase() !== "bearer" || token === undefined || rest.length > 0) throw new UnauthenticatedError();
    const role = roleOf(token);
    let cause: unknown;
    for (const key of (role && keys.get(role)) ?? []) {
      try {
        const now = options.clock.wall();
        const { payload } = await jwtVerify(token, key, {
          algorithms: ["HS256"],
          audience: `cardea:${options.cluster}`,
          clockTolerance: toleranceSeconds,
          currentDate: new Date(now),
          requiredClaims: ["iss", "iat", "exp"],
        });
        const { iss } = payload;
        const proof = proofIn(payload);
        if (role === undefined || typeof iss !== "string" || iss.length > 200 || !livesBriefly(payload, now)) break;
        if (proof === undefined) break;
        return { role, name: iss, ...proof };
      } catch (error) {
        if (!(error instanceof errors.JOSEError)) throw error;
        cause = error;
      }
    }
    throw new UnauthenticatedError({ cause });
  };
}

function livesBriefly({ iat, exp }: JWTPayload, now: number): boolean {
  const lifeMax = serviceTokenSeconds + toleranceSeconds;
  return iat !== undefined && exp !== undefined && exp <= now / 1_000 + lifeMax && exp - iat <= lifeMax;
}

function proofIn({
  jti,
  call,
  body,
  iat,
  exp,
}: JWTPayload & { call?: unknown; body?: unknown }): CallProof | undefined {
  if (typeof jti !== "string" || jti.length < 16 || jti.length > 64) return undefined;
  if (iat === undefined || exp === undefined) return undefined;
  if (typeof call !== "string" || typeof body !== "string") return undefined;
  return { callId: jti, call, body, issuedAt: iat, until: exp };
}

/** The role that the header names. It only selects the key to try. */
function roleOf(token: string): Role | undefined {
  try {
    const { kid } = decodeProtectedHeader(token);
    return roles.find((role) => role === kid);
  } catch {
    return undefined;
  }
}
