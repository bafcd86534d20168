/** What the state sync makes of a log that does not show what a write of ours left there. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { newCounters } from "../../../src/broker/core/counters.ts";
import { StepContext } from "../../../src/broker/core/step-context.ts";
import { BrokerState } from "../../../src/broker/state/broker-state.ts";
import { BrokerStateSync } from "../../../src/broker/state/broker-state-sync.ts";
import type { Link } from "../../../src/events/index.ts";
import { created, History } from "../../replication/support.ts";

/** Answers every read from a history until nothing more is asked. */
function syncOn(log: History): { state: BrokerState; reach: (head: Link) => boolean | undefined } {
  const context = new StepContext(10_000);
  const state = new BrokerState();
  const sync = new BrokerStateSync(context, { state, counters: newCounters(), beginsFrom: "log" });
  return {
    state,
    /** @returns whether the ledger stands there; undefined: it is looked at again later */
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

test("a log in a later epoch than the one we opened means that we are late: the ledger keeps what it has", () => {
  const ours = new History().open(1).add(created(1)).open(3);
  const theirs = ours.fork(2).open(4).add(created(2));
  const sync = syncOn(theirs);
  assert.equal(sync.reach(theirs.head), true);
  assert.equal(sync.reach(ours.head), false, "we lead no more");
  assert.deepEqual(sync.state.applied, theirs.head);
  assert.equal(sync.state.restarts, 0);
});

test("a state that stands in an earlier epoch than the one we opened, at its place or beyond, is folded again", () => {
  const old = new History().open(1).add(created(1)).add(created(2)).add(created(3));
  const ours = old.fork(2).open(2);
  const sync = syncOn(old);
  assert.equal(sync.reach(old.head), true);
  assert.equal(sync.reach(ours.head), undefined, "an old primary speaks: it is looked at again");
  assert.equal(sync.state.restarts, 1);
});
