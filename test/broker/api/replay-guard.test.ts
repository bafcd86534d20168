/** A call comes in once, whatever the clock does and however many there are. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createReplayGuard } from "../../../src/broker/api/replay-guard.ts";

function opened(parts: Partial<Parameters<typeof createReplayGuard>[0]> = {}) {
  const seen = createReplayGuard({ since: 900, toleranceS: 5, callsMax: 100, ...parts });
  return {
    ...seen,
    admit: (call: Readonly<{ id: string; until: number; issuedAt?: number }>, nowS: number) =>
      seen.admit({ issuedAt: call.until - 60, ...call }, nowS),
  };
}

test("a call is let in once for as long as its proof is good", () => {
  const seen = opened();
  assert.equal(seen.admit({ id: "a", until: 1_060 }, 1_000), "new");
  assert.equal(seen.admit({ id: "b", until: 1_060 }, 1_000), "new");
  for (const now of [1_000, 1_030, 1_060, 1_065]) assert.equal(seen.admit({ id: "a", until: 1_060 }, now), "replayed");
});

test("it is forgotten once its proof is over, and is not let in again by a clock that was set back", () => {
  const seen = opened();
  assert.equal(seen.admit({ id: "a", until: 1_060 }, 1_000), "new");
  assert.equal(seen.admit({ id: "b", until: 1_130 }, 1_070), "new");
  assert.equal(seen.count(), 1);
  assert.equal(seen.admit({ id: "a", until: 1_060 }, 1_010), "replayed");
  assert.equal(seen.admit({ id: "c", until: 1_071 }, 1_010), "new", "what was made since is not in question");
});

test("what was made before our time is not let in: another process may have answered it", () => {
  assert.equal(opened().admit({ id: "a", issuedAt: 899, until: 959 }, 901), "replayed");
  assert.equal(opened().admit({ id: "a", issuedAt: 900, until: 910 }, 901), "new", "however short its life");
});

test("it is bounded: when full nothing new comes in, and what was seen stays seen, until proofs end", () => {
  const seen = opened({ callsMax: 2 });
  assert.equal(seen.admit({ id: "a", until: 1_010 }, 1_000), "new");
  assert.equal(seen.admit({ id: "b", until: 1_060 }, 1_000), "new");
  assert.equal(seen.admit({ id: "c", until: 1_060 }, 1_000), "full");
  assert.equal(seen.admit({ id: "a", until: 1_010 }, 1_000), "replayed");
  assert.equal(seen.admit({ id: "c", until: 1_060 }, 1_016), "new");
  assert.equal(seen.count(), 2);
});
