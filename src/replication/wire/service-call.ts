/**
 * Service call: one question to a broker, with the proof of who asks what.
 *
 * The proof is a service token (HS256 under a key that only processes of one role, and the brokers, derive from the
 * shared secret): for one cluster, for a minute, and for this one call: it names method, path and the hash of the body,
 * and a broker lets it in once. So it is made anew for every attempt. Its id comes back in the answer
 * (signed-answer.ts). What somebody who catches one can do with it: docs/adr/0011. Signing is jose's. Pure.
 */
import { hash as digestOf } from "node:crypto";
import { SignJWT } from "jose";
import type { Clock } from "../runtime/clock.ts";
import { type Role, serviceTokenKey } from "./cluster-keys.ts";

export type ServiceCall = Readonly<{ method: string; path: string; body?: Uint8Array | undefined }>;
export type SignedCall = Readonly<{ authorization: string; callId: string }>;

export const serviceTokenSeconds = 60;

export async function signCall(
  call: ServiceCall,
  by: Readonly<{
    cluster: string;
    role: Role;
    /** The process's name; the token's issuer. */
    name: string;
    secret: Uint8Array;
    clock: Clock;
    randomBytes: (size: number) => Uint8Array;
  }>,
): Promise<SignedCall> {
  const callId = Buffer.from(by.randomBytes(16)).toString("base64url");
  const issuedAt = Math.floor(by.clock.wall() / 1_000);
  const token = await new SignJWT({ call: callText(call), body: bodyDigest(call.body) })
    .setProtectedHeader({ alg: "HS256", kid: by.role })
    .setIssuer(by.name)
    .setAudience(`cardea:${by.cluster}`)
    .setJti(callId)
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + serviceTokenSeconds)
    .sign(serviceTokenKey(by.secret, by.role));
  return { authorization: `Bearer ${token}`, callId };
}

/** As the token names it. */
export function callText({ method, path }: Pick<ServiceCall, "method" | "path">): string {
  return `${method} ${path}`;
}

export function bodyDigest(body: Uint8Array | undefined): string {
  return digestOf("sha256", body ?? new Uint8Array(), "base64url");
}
