/**
 * Leader router: routes calls to the leader.
 *
 * A call that only the leader can answer is answered here while this broker leads, and forwarded while another broker
 * leads. While no broker leads, it is tried again within a bound: a takeover costs a caller time, never a wrong answer.
 */
import type { RenewOrigin } from "../../replication/lease/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";
import { type Notifier, waitFor } from "../core/notifier.ts";
import type { Caller } from "./service-token.ts";

/** The target, the caller, and the time limit of a forwarded call. `isRegional`: the caller is a regional broker. */
export type LeaderCall = Readonly<{ url: string; caller: Caller; isRegional?: boolean; timeoutMs: number }>;

/** Marks a call that another broker has forwarded. Its value says whether a regional broker is the caller. */
export const forwardedHeader = "cardea-forwarded";
export const forwardedValues = { direct: "1", regional: "regional" } as const;

/**
 * How a call reached this broker. A forwarded call is not forwarded again. A call of a regional broker (`regional`) is
 * answered by a broker of the home region only. `isRegional`: of a forwarded call, whether it was one of those.
 */
export type CallOrigin = Readonly<{
  origin: RenewOrigin;
  hop: "direct" | "forwarded" | "regional";
  isRegional?: boolean;
  caller: Caller;
}>;

export type RouterDeps<Local> = Readonly<{
  /** Undefined while this broker does not lead. */
  local: () => Local | undefined;
  /** The address of the leader; undefined: not known, or this broker. */
  leaderUrl: () => string | undefined;
  /** Notified when the leader may have changed. */
  leaderChanges: Notifier;
  monotonic: () => number;
}>;

export type RoutedCall<Local, T> = Readonly<{
  callOrigin: CallOrigin;
  withinMs: number;
  /** Checked before each new attempt: true ends the call early. */
  isStoreUnreachable?: () => boolean;
  /** @returns `notLeader`: this broker turned out not to lead */
  local: (local: Local, leftMs: number) => Promise<T | typeof notLeader>;
  remote: (at: LeaderCall) => Promise<T>;
}>;

/** The regional broker that passed on a call; null: the call did not come through one. */
export function regionalCaller({ hop, isRegional, caller }: CallOrigin): string | null {
  return hop === "regional" || isRegional === true ? caller.name : null;
}

export const notLeader: unique symbol = Symbol("notLeader");

const recheckMs = 100;
/** After an attempt that failed. */
const retryMs = 50;
const attemptMsMax = 5_000;

/** @throws BrokerUnavailableError if no broker answered in time */
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
        const { caller, hop } = call.callOrigin;
        const timeoutMs = Math.min(leftMs, attemptMsMax);
        return await call.remote({ url, caller, isRegional: hop === "regional", timeoutMs });
      } catch (error) {
        if (!(error instanceof BrokerUnavailableError) || error.reason === "home-unreachable") throw error;
        cause = error;
      }
    }
    if (deps.monotonic() >= deadline || call.isStoreUnreachable?.() === true) break;
    if (cause === undefined) await deps.leaderChanges.wait(seenCount, recheckMs);
    else await waitFor(retryMs);
  }
  throw new BrokerUnavailableError("no leading broker can be reached", { cause });
}
