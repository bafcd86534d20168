/** When a stream is polled, and what each request acknowledges. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { answerBytesMax } from "../../../../src/auth/authenticate/provider/issuer-fetch.ts";
import {
  eventsPerPoll,
  noPolls,
  type PolledOutcome,
  type PollState,
  pollAnswered,
  pollFailed,
  pollHandled,
  pollRequestOf,
} from "../../../../src/auth/authenticate/signals/poll-rules.ts";
import { setBytesMax, setError } from "../../../../src/auth/shared-signals/index.ts";
import { fc } from "../../../support/property.ts";

test("the largest tokens of one poll fit into an answer that is read", () => {
  assert.ok(eventsPerPoll * (setBytesMax + 600) < answerBytesMax);
});

const error = setError("invalid_key", "no");
const handled = (state: PollState, outcomes: readonly PolledOutcome[], now = 100): PollState =>
  pollHandled(pollAnswered(state), outcomes, { sent: pollRequestOf(state), now, startedAt: now - 10 });

test("the first request waits for events, and one that acknowledges something does not", () => {
  assert.deepEqual(pollRequestOf(noPolls), { maxEvents: 15, returnImmediately: false, ack: [], setErrs: {} });
  const state = handled(noPolls, [
    { jti: "a", type: "accepted" },
    { jti: "b", type: "refused", error },
    { jti: "c", type: "unavailable" },
  ]);
  assert.deepEqual(pollRequestOf(state), {
    maxEvents: 15,
    returnImmediately: true,
    ack: ["a"],
    setErrs: { b: error },
  });
  assert.equal(state.notBefore, 100, "there may be more");
});

test("what was not reported is reported again, with longer and longer pauses of at most a minute", () => {
  let state = handled(noPolls, [{ jti: "a", type: "accepted" }]);
  const pauses: number[] = [];
  for (let n = 0; n < 12; n++) {
    state = pollFailed(state, 0);
    pauses.push(state.notBefore);
    assert.deepEqual(pollRequestOf(state).ack, ["a"]);
  }
  assert.deepEqual(pauses.slice(0, 4), [1_000, 2_000, 4_000, 8_000]);
  assert.equal(Math.max(...pauses), 60_000);
});

test("an answer without events is not asked for again at once", () => {
  assert.equal(handled(noPolls, [], 100).notBefore, 1_090);
});

test("what comes again although it was acknowledged is no progress", () => {
  const once = handled(noPolls, [{ jti: "a", type: "accepted" }]);
  const twice = handled(once, [{ jti: "a", type: "accepted" }]);
  assert.equal(once.notBefore, 100);
  assert.equal(twice.notBefore, 1_100);
  const stuck = handled(noPolls, [{ jti: "a", type: "unavailable" }]);
  assert.equal(stuck.notBefore, 1_100);
});

test("no event is acknowledged that was not accepted, and none is left out, whatever fails in between", () => {
  const step = fc.record({
    answered: fc.boolean(),
    outcomes: fc.array(
      fc.record({
        jti: fc.constantFrom("a", "b", "c", "d"),
        type: fc.constantFrom("accepted", "refused", "unavailable"),
      }),
      { maxLength: 4 },
    ),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      let state = noPolls;
      const accepted = new Set<string>();
      const owed = new Set<string>();
      for (const { answered, outcomes } of steps) {
        const sent = pollRequestOf(state);
        for (const jti of sent.ack) assert.ok(accepted.has(jti));
        for (const jti of owed) assert.ok(sent.ack.includes(jti));
        if (!answered) {
          state = pollFailed(state, 0);
          continue;
        }
        owed.clear();
        const known = outcomes.map(
          ({ jti, type }): PolledOutcome => (type === "refused" ? { jti, type, error } : { jti, type }),
        );
        for (const { jti, type } of known)
          if (type === "accepted") {
            accepted.add(jti);
            owed.add(jti);
          }
        state = handled(state, known);
      }
    }),
  );
});
