/**
 * Leader router: routes calls to the leader. What only the leader can answer is answered here while we lead, handed on while another broker
 * does, and asked again, within a bound, while nobody does: a takeover costs a caller time, never a wrong answer.
 */
import { BrokerUnavailableError, type RenewOrigin } from "../../replication/index.ts";
import { type Notifier, pause } from "../core/notifier.ts";
import type { LeaderCall } from "./leader-client.ts";
import type { Caller } from "./service-token.ts";

/** Marks what another broker has handed on. */
export const forwardedHeader = "cardea-forwarded";

/** How a request reached us. What was handed on by another broker is not handed on again. */
export type CallOrigin = Readonly<{ origin: RenewOrigin; hop: "direct" | "forwarded"; caller: Caller }>;

export type RouterDeps<Local> = Readonly<{
  /** Undefined while we do not lead. */
  local: () => Local | undefined;
  /** Where the leader can be reached; undefined while it is not known, or is us. */
  leaderUrl: () => string | undefined;
  /** Rings when that may have changed. */
  leaderChanges: Notifier;
  monotonic: () => number;
}>;

export type RoutedCall<Local, T> = Readonly<{
  callOrigin: CallOrigin;
  withinMs: number;
  /** Asked before each new attempt: true ends it sooner. */
  isStoreUnreachable?: () => boolean;
  /** `moved`: we turned out not to lead. */
  local: (local: Local, leftMs: number) => Promise<T | typeof notLeader>;
  remote: (at: LeaderCall) => Promise<T>;
}>;

export const notLeader: unique symbol = Symbol("notLeader");

const recheckMs = 100;
/** After an attempt that failed. */
const retryMs = 50;
const attemptMsMax = 5_000;

/** @throws BrokerUnavailableError when nobody answered in time */
export async function routeToLeader<Local, T>(deps: RouterDeps<Local>, call: RoutedCall<Local, T>): Promise<T> {
  const deadline = deps.monotonic() + call.withinMs;
  let cause: unknown;
  for (;;) {
    const seenCount = deps.leaderChanges.count;
    const leftMs = deadline - deps.monotonic();
    const local = deps.local();
    const url = deps.leaderUrl();
    if (local !== undefined) {
      const answer = await call.local(local, leftMs);
      if (answer !== notLeader) return answer;
    } else if (call.callOrigin.hop === "forwarded") {
      break;
    } else if (url !== undefined && leftMs > 0) {
      try {
        return await call.remote({ url, caller: call.callOrigin.caller, timeoutMs: Math.min(leftMs, attemptMsMax) });
      } catch (error) {
        if (!(error instanceof BrokerUnavailableError)) throw error;
        cause = error;
      }
    }
    if (deps.monotonic() >= deadline || call.isStoreUnreachable?.() === true) break;
    if (cause === undefined) await deps.leaderChanges.wait(seenCount, recheckMs);
    else await pause(retryMs);
  }
  throw new BrokerUnavailableError("no broker leads that can be reached", { cause });
}
