/**
 * Leader router: routes calls to the leader. What only the leader can answer is answered here while we lead, handed on while another broker
 * does, and asked again, within a bound, while nobody does: a takeover costs a caller time, never a wrong answer.
 */
import { BrokerUnavailableError, type RenewOrigin } from "../../replication/index.ts";
import { type Notifier, pause } from "../core/notifier.ts";
import type { At } from "./leader-client.ts";
import type { Caller } from "./service-token.ts";

/** Marks what another broker has handed on. */
export const forwardedHeader = "cardea-forwarded";

/** How a request reached us. What was handed on by another broker is not handed on again. */
export type CallOrigin = Readonly<{ origin: RenewOrigin; hop: "direct" | "forwarded"; caller: Caller }>;

export type RouterDeps<Here> = Readonly<{
  /** Undefined while we do not lead. */
  here: () => Here | undefined;
  /** Where the leader can be reached; undefined while it is not known, or is us. */
  leaderUrl: () => string | undefined;
  /** Rings when that may have changed. */
  bell: Notifier;
  monotonic: () => number;
}>;

export type Asked<Here, T> = Readonly<{
  via: CallOrigin;
  withinMs: number;
  /** Asked before each new attempt: true ends it sooner. */
  isHopeless?: () => boolean;
  /** `moved`: we turned out not to lead. */
  here: (here: Here, leftMs: number) => Promise<T | typeof notLeader>;
  there: (at: At) => Promise<T>;
}>;

export const notLeader: unique symbol = Symbol("moved");

const lookAgainMs = 100;
/** After an attempt that failed. */
const retryMs = 50;
const attemptMsMax = 5_000;

/** @throws BrokerUnavailableError when nobody answered in time */
export async function route<Here, T>(deps: RouterDeps<Here>, asked: Asked<Here, T>): Promise<T> {
  const deadline = deps.monotonic() + asked.withinMs;
  let cause: unknown;
  for (;;) {
    const seen = deps.bell.count;
    const leftMs = deadline - deps.monotonic();
    const here = deps.here();
    const url = deps.leaderUrl();
    if (here !== undefined) {
      const answer = await asked.here(here, leftMs);
      if (answer !== notLeader) return answer;
    } else if (asked.via.hop === "forwarded") {
      break;
    } else if (url !== undefined && leftMs > 0) {
      try {
        return await asked.there({ url, caller: asked.via.caller, timeoutMs: Math.min(leftMs, attemptMsMax) });
      } catch (error) {
        if (!(error instanceof BrokerUnavailableError)) throw error;
        cause = error;
      }
    }
    if (deps.monotonic() >= deadline || asked.isHopeless?.() === true) break;
    if (cause === undefined) await deps.bell.wait(seen, lookAgainMs);
    else await pause(retryMs);
  }
  throw new BrokerUnavailableError("no broker leads that can be reached", { cause });
}
