/**
 * Poll rules: when a stream is polled (RFC 8936), and what each request acknowledges. Pure.
 *
 * - A token is acknowledged only after it was accepted, and reported only after it was refused. Both are sent until a
 *   request with them has succeeded. What is neither stays at the transmitter, and comes again.
 * - Nothing has to be remembered across a crash: a token that comes again is the same commands.
 * - Requests that bring no progress are spaced: a silent or hostile transmitter causes few of them.
 */
import type { PollRequest, SetError } from "../../shared-signals/index.ts";

export type PollState = Readonly<{
  accepted: readonly string[];
  refused: Readonly<Record<string, SetError>>;
  /** In a row. */
  failures: number;
  /** Monotonic time (ms) before which no request is sent. */
  notBefore: number;
}>;

export const noPolls: PollState = { accepted: [], refused: {}, failures: 0, notBefore: Number.NEGATIVE_INFINITY };

/** Their tokens of at most 64 KB fit into an answer of 1 MiB; a larger answer could never be read. */
export const eventsPerPoll = 15;
const spacingMs = 1_000;
const spacingMsMax = 60_000;

export function pollRequestOf({ accepted, refused }: PollState): PollRequest {
  // A request that acknowledges something must not wait for new events.
  const returnImmediately = accepted.length > 0 || Object.keys(refused).length > 0;
  return { maxEvents: eventsPerPoll, returnImmediately, ack: accepted, setErrs: refused };
}

/** The transmitter has answered: it knows what the request reported. */
export function pollAnswered(state: PollState): PollState {
  return { ...state, accepted: [], refused: {}, failures: 0 };
}

export type PolledOutcome = Readonly<
  | { jti: string; type: "accepted" }
  | { jti: string; type: "refused"; error: SetError }
  | { jti: string; type: "unavailable" }
>;

/** @param sent what the request reported @param now monotonic, after the tokens were handled */
export function pollHandled(
  state: PollState,
  outcomes: readonly PolledOutcome[],
  { sent, now, startedAt }: Readonly<{ sent: PollRequest; now: number; startedAt: number }>,
): PollState {
  const accepted = outcomes.flatMap(({ jti, type }) => (type === "accepted" ? [jti] : []));
  const refused = Object.fromEntries(
    outcomes.flatMap((outcome) => (outcome.type === "refused" ? [[outcome.jti, outcome.error] as const] : [])),
  );
  const reportedBefore = new Set([...sent.ack, ...Object.keys(sent.setErrs)]);
  // A transmitter that sends again what was acknowledged would otherwise be polled without a pause.
  const isProgress = [...accepted, ...Object.keys(refused)].some((jti) => !reportedBefore.has(jti));
  const next = { ...state, accepted, refused };
  if (isProgress) return { ...next, failures: 0, notBefore: now };
  if (outcomes.length === 0) return { ...next, failures: 0, notBefore: startedAt + spacingMs };
  return pollFailed(next, now);
}

/** No answer, or not one that can be used. What the request reported is reported again. */
export function pollFailed(state: PollState, now: number): PollState {
  const pauseMs = Math.min(spacingMsMax, spacingMs * 2 ** Math.min(state.failures, 10));
  return { ...state, failures: state.failures + 1, notBefore: now + pauseMs };
}
