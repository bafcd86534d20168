/** What the ledger keeper makes of a log that does not show what a write of ours left there. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { newCounters } from "../../../src/broker/core/counters.ts";
import { StepContext } from "../../../src/broker/core/step-context.ts";
import { BrokerState } from "../../../src/broker/state/broker-state.ts";
import { BrokerStateSync } from "../../../src/broker/state/broker-state-sync.ts";
import type { Link } from "../../../src/events/index.ts";
import { created, History } from "../../replication/support.ts";

/** Answers every read from a history until nothing more is asked. */
function keeperOn(log: History): { ledger: BrokerState; reach: (head: Link) => boolean | undefined } {
  const work = new StepContext(10_000);
  const ledger = new BrokerState();
  const keeper = new BrokerStateSync(work, { ledger, counters: newCounters(), beginsFrom: "log" });
  return {
    ledger,
    /** @returns whether the ledger stands there; undefined: it is looked at again later */
    reach(head) {
      keeper.reach(head, 1_000);
      for (let effects = work.takeEffects(); effects.length > 0; effects = work.takeEffects())
        for (const effect of effects)
          if (effect.type === "log" && effect.call.op === "read")
            keeper.answered(log.read(effect.call.after, effect.call.limit));
      return work.notes.splice(0).findLast((note) => note.type === "reached")?.ok;
    },
  };
}

test("a log in a later epoch than the one we opened means that we are late: the ledger keeps what it has", () => {
  const ours = new History().open(1).add(created(1)).open(3);
  const theirs = ours.fork(2).open(4).add(created(2));
  const keeper = keeperOn(theirs);
  assert.equal(keeper.reach(theirs.head), true);
  assert.equal(keeper.reach(ours.head), false, "we lead no more");
  assert.deepEqual(keeper.ledger.applied, theirs.head);
  assert.equal(keeper.ledger.restarts, 0);
});

test("a ledger that stands in an earlier epoch than the one we opened, at its place or beyond, is folded again", () => {
  const old = new History().open(1).add(created(1)).add(created(2)).add(created(3));
  const ours = old.fork(2).open(2);
  const keeper = keeperOn(old);
  assert.equal(keeper.reach(old.head), true);
  assert.equal(keeper.reach(ours.head), undefined, "an old primary speaks: it is looked at again");
  assert.equal(keeper.ledger.restarts, 1);
});
