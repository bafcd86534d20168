/** The state sync with a log that does not show this broker's own write. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { newCounters } from "../../../src/broker/core/counters.ts";
import { StepContext } from "../../../src/broker/core/step-context.ts";
import { BrokerState } from "../../../src/broker/state/broker-state.ts";
import { BrokerStateSync } from "../../../src/broker/state/broker-state-sync.ts";
import type { Link } from "../../../src/events/index.ts";
import { created, History } from "../../replication/support.ts";

/** Answers every read from a history until there are no more reads. */
function syncOn(log: History): { state: BrokerState; reach: (head: Link) => boolean | undefined } {
  const context = new StepContext(10_000);
  const state = new BrokerState();
  const sync = new BrokerStateSync(context, { state, counters: newCounters(), beginsFrom: "log" });
  return {
    state,
    /** @returns whether the state is at that link; undefined: it checks again later */
    reach(head) {
      sync.reach(head, 1_000);
      for (let effects = context.takeEffects(); effects.length > 0; effects = context.takeEffects())
        for (const effect of effects)
          if (effect.type === "log" && effect.call.op === "read")
            sync.readAnswered(log.read(effect.call.after, effect.call.limit));
      return context.messages.splice(0).findLast((message) => message.type === "headReached")?.ok;
    },
  };
}

test("a broker that finds the log in a later epoch than the one it opened keeps its state", () => {
  const ours = new History().open(1).add(created(1)).open(3);
  const theirs = ours.fork(2).open(4).add(created(2));
  const sync = syncOn(theirs);
  assert.equal(sync.reach(theirs.head), true);
  assert.equal(sync.reach(ours.head), false, "this broker no longer leads");
  assert.deepEqual(sync.state.applied, theirs.head);
  assert.equal(sync.state.restarts, 0);
});

test("a broker that finds the log in an earlier epoch, at its position or beyond, folds its state again", () => {
  const old = new History().open(1).add(created(1)).add(created(2)).add(created(3));
  const ours = old.fork(2).open(2);
  const sync = syncOn(old);
  assert.equal(sync.reach(old.head), true);
  assert.equal(sync.reach(ours.head), undefined, "an old primary answers, so the broker reads again");
  assert.equal(sync.state.restarts, 1);
});
