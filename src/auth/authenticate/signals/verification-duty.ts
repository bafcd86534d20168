/**
 * Verification duty: the leader reads what each transmitter last said of our stream, and asks for a verification event
 * before the last one is too old. A transmitter that is silent because its stream is broken is noticed by that alone.
 *
 * - Only transmitters that we have a credential for are asked.
 * - Nothing has to be remembered across a crash: the log has the last verification.
 */
import {
  type Profile,
  parseTransmitterRecord,
  type StreamSignals,
  signalRecordId,
  type UserId,
} from "../../../events/index.ts";
import type { SignalTransmitter } from "./signal-receiver.ts";
import { requestVerification } from "./stream-management.ts";
import { TransmitterError } from "./transmitter-client.ts";
import { createVerificationState } from "./verification-state.ts";

/** The age of the last verification at which another is requested. */
export const verifyEveryMs = 6 * 3_600_000;
/** A verification that was requested must arrive within this time, or it is requested again. */
export const arrivesWithinMs = 3_600_000;
/** After a request that the transmitter did not accept. */
export const failedMs = 600_000;

export type LastRequest = Readonly<{ at: number; accepted: boolean }>;

/** @param verifiedAt of the last verification; null: there was none @param last null: none was requested */
export function isVerificationDue(verifiedAt: number | null, last: LastRequest | null, now: number): boolean {
  if (verifiedAt !== null && now - verifiedAt < verifyEveryMs) return false;
  return last === null || now - last.at >= (last.accepted ? arrivesWithinMs : failedMs);
}

export type VerificationContext = Readonly<{
  leads: () => boolean;
  profiles: (users: readonly UserId[]) => Promise<ReadonlyMap<UserId, Profile>>;
}>;

/** What the leader knows of a transmitter's stream. */
export type ReportedState = Readonly<{
  /** Null: the transmitter has not said. */
  status: StreamSignals["status"];
  /** Wall clock (ms); 0: never. Null: no verification is requested, for want of a credential. */
  verifiedAt: number | null;
}>;

export type VerificationDeps = Readonly<{
  transmitters: readonly SignalTransmitter[];
  stateKeys: readonly Uint8Array[];
  nowMs: () => number;
  /** 16 characters of base64url. */
  nonce: () => string;
  onReported: (transmitter: string, state: ReportedState) => void;
  log: Readonly<{ warn(fields: object, message: string): void }>;
}>;

export function createVerificationDuty(deps: VerificationDeps): (context: VerificationContext) => Promise<void> {
  const requested = new Map<string, LastRequest>();
  return async (context) => {
    const records = deps.transmitters.map(({ config }) => signalRecordId(config.name, { by: "stream" }));
    const profiles = records.length === 0 ? new Map<UserId, Profile>() : await context.profiles(records);
    for (const [nth, transmitter] of deps.transmitters.entries()) {
      const { name, client, accessToken } = transmitter.config;
      const record = parseTransmitterRecord(profiles.get(records[nth] ?? ("" as UserId)));
      const said = record?.kind === "stream" ? record : null;
      const canAsk = client !== null || accessToken !== null;
      deps.onReported(name, { status: said?.status ?? null, verifiedAt: canAsk ? (said?.verifiedAt ?? 0) : null });
      const now = deps.nowMs();
      const isDue = isVerificationDue(said?.verifiedAt ?? null, requested.get(name) ?? null, now);
      if (!canAsk || !isDue || !context.leads()) continue;
      requested.set(name, { at: now, accepted: await request(deps, transmitter, now) });
    }
  };
}

async function request(deps: VerificationDeps, transmitter: SignalTransmitter, now: number): Promise<boolean> {
  const { name } = transmitter.config;
  const keys = { keys: deps.stateKeys, transmitter: name };
  try {
    await requestVerification(transmitter, createVerificationState(keys, now, deps.nonce()));
    return true;
  } catch (error) {
    if (!(error instanceof TransmitterError)) throw error;
    const { message, status } = error;
    const fields = { transmitter: name, status, message };
    deps.log.warn(fields, "could not request a verification event of a transmitter; trying again in ten minutes");
    return false;
  }
}
