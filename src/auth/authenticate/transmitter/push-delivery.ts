/**
 * Push delivery: which tokens of a stream are sent now, and what each answer of the receiver means. Pure.
 *
 * - Tokens about one person are sent in order, one at a time. Others may overtake one that is retried.
 * - After a failure the stream pauses, twice as long each time, and one token probes first.
 * - A token that the receiver refuses (400) is a dead letter, and the stream continues. A receiver that refuses one
 *   after another is wrongly set up: nothing more is given up until it has accepted something.
 * - A token that fails while others succeed is given up after `strikesMax` attempts.
 */
export const inFlightMax = 8;
export const firstPauseMs = 500;
export const pauseMsMax = 300_000;
export const strikesMax = 20;
/** Tokens refused in a row, after which the receiver counts as wrongly set up. */
export const refusedInRowMax = 5;

/** A token that waits. `key`: the person. */
export type Waiting = Readonly<{ jti: string; key: string }>;

export type PushAnswer =
  | Readonly<{ type: "accepted" }>
  /** `isAboutStream`: the code says that key, issuer, audience or credential are wrong. */
  | Readonly<{ type: "refused"; err: string; description: string; isAboutStream: boolean }>
  /** `retryAfterMs`: as the receiver asked; null: it did not. */
  | Readonly<{ type: "failed"; reason: string; retryAfterMs: number | null }>;

export type PushInput =
  | Readonly<{ type: "schedule"; now: number; waiting: readonly Waiting[] }>
  | Readonly<{ type: "answered"; now: number; jti: string; answer: PushAnswer }>;

export type PushEffect =
  | Readonly<{ type: "post"; jti: string }>
  | Readonly<{ type: "accepted"; jti: string }>
  | Readonly<{ type: "deadLetter"; jti: string; err: string; description: string }>
  | Readonly<{ type: "failed"; jti: string; reason: string }>;

/** `strikes`: failures after which another token was accepted. `failedAtSuccess`: successes at its last failure. */
type Try = Readonly<{ failures: number; strikes: number; notBefore: number; failedAtSuccess: number }>;

export type PushState = Readonly<{
  /** By token, its person. */
  inFlight: ReadonlyMap<string, string>;
  tries: ReadonlyMap<string, Try>;
  /** Failures in a row. */
  failures: number;
  /** Nothing is sent before. */
  resumeAt: number;
  refusedInRow: number;
  successes: number;
}>;

export const newPush: PushState = {
  inFlight: new Map(),
  tries: new Map(),
  failures: 0,
  resumeAt: Number.NEGATIVE_INFINITY,
  refusedInRow: 0,
  successes: 0,
};

export function stepPush(state: PushState, input: PushInput): readonly [PushState, readonly PushEffect[]] {
  return input.type === "schedule" ? schedule(state, input) : answered(state, input);
}

function schedule(
  state: PushState,
  { now, waiting }: Extract<PushInput, { type: "schedule" }>,
): readonly [PushState, readonly PushEffect[]] {
  // Forgets tokens that no longer wait, so that the memory is that of the window.
  const known = new Set(waiting.map(({ jti }) => jti));
  const tries = new Map([...state.tries].filter(([jti]) => known.has(jti)));
  if (now < state.resumeAt) return [{ ...state, tries }, []];
  const inFlight = new Map(state.inFlight);
  const room = state.failures > 0 ? 1 : inFlightMax;
  const busy = new Set(inFlight.values());
  const ready: Waiting[] = [];
  for (const each of waiting) {
    if (busy.has(each.key)) continue;
    busy.add(each.key); // later ones of this person wait for it
    if ((tries.get(each.jti)?.notBefore ?? now) <= now) ready.push(each);
    if (ready.length >= inFlightMax * 4) break;
  }
  // One that has failed before waits for those that have not: a single bad token must not hold up the others.
  const failuresOf = ({ jti }: Waiting): number => tries.get(jti)?.failures ?? 0;
  ready.sort((a, b) => failuresOf(a) - failuresOf(b));
  const chosen = ready.slice(0, Math.max(0, room - inFlight.size));
  for (const { jti, key } of chosen) inFlight.set(jti, key);
  return [{ ...state, tries, inFlight }, chosen.map(({ jti }) => ({ type: "post", jti }))];
}

function answered(
  before: PushState,
  { now, jti, answer }: Extract<PushInput, { type: "answered" }>,
): readonly [PushState, readonly PushEffect[]] {
  if (!before.inFlight.has(jti)) return [before, []];
  const inFlight = new Map(before.inFlight);
  inFlight.delete(jti);
  const state = { ...before, inFlight };
  switch (answer.type) {
    case "accepted": {
      const successes = state.successes + 1;
      const calm = { failures: 0, refusedInRow: 0, resumeAt: Number.NEGATIVE_INFINITY };
      return [{ ...state, ...calm, successes }, [{ type: "accepted", jti }]];
    }
    case "refused": {
      const { err, description } = answer;
      if (!answer.isAboutStream && state.refusedInRow < refusedInRowMax)
        return [{ ...state, refusedInRow: state.refusedInRow + 1 }, [{ type: "deadLetter", jti, err, description }]];
      return failed(state, { now, jti, reason: `the receiver refuses tokens with ${err}`, retryAfterMs: null });
    }
    case "failed":
      return failed(state, { now, jti, reason: answer.reason, retryAfterMs: answer.retryAfterMs });
  }
}

function failed(
  state: PushState,
  at: Readonly<{ now: number; jti: string; reason: string; retryAfterMs: number | null }>,
): readonly [PushState, readonly PushEffect[]] {
  const { now, jti, reason } = at;
  const last = state.tries.get(jti);
  // A strike: since its last failure the receiver has accepted another one.
  const isStrike = last !== undefined && last.failedAtSuccess < state.successes;
  const strikes = (last?.strikes ?? 0) + (isStrike ? 1 : 0);
  const tries = new Map(state.tries);
  if (strikes >= strikesMax) {
    tries.delete(jti);
    const description = `given up after ${strikes} attempts: ${reason}`;
    return [{ ...state, tries }, [{ type: "deadLetter", jti, err: "undeliverable", description }]];
  }
  const failures = (last?.failures ?? 0) + 1;
  const asked = at.retryAfterMs === null ? 0 : Math.min(at.retryAfterMs, 2 * pauseMsMax);
  tries.set(jti, {
    failures,
    strikes,
    notBefore: now + Math.max(asked, pauseMs(failures)),
    failedAtSuccess: state.successes,
  });
  // Those in flight together fail together: they count as one failure.
  const isFirst = now >= state.resumeAt;
  const inRow = state.failures + (isFirst ? 1 : 0);
  const resumeAt = Math.max(state.resumeAt, now + Math.max(asked, pauseMs(inRow)));
  return [{ ...state, tries, failures: inRow, resumeAt }, [{ type: "failed", jti, reason }]];
}

const pauseMs = (failures: number): number => Math.min(pauseMsMax, firstPauseMs * 2 ** Math.min(20, failures - 1));
