/** The replay guard: each call is accepted once, whatever the clock and the load. */
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

test("a call is accepted once while its proof is valid", () => {
  const seen = opened();
  assert.equal(seen.admit({ id: "a", until: 1_060 }, 1_000), "new");
  assert.equal(seen.admit({ id: "b", until: 1_060 }, 1_000), "new");
  for (const now of [1_000, 1_030, 1_060, 1_065]) assert.equal(seen.admit({ id: "a", until: 1_060 }, now), "replayed");
});

test("a call is forgotten once its proof has expired, and a clock that is set back does not readmit it", () => {
  const seen = opened();
  assert.equal(seen.admit({ id: "a", until: 1_060 }, 1_000), "new");
  assert.equal(seen.admit({ id: "b", until: 1_130 }, 1_070), "new");
  assert.equal(seen.count(), 1);
  assert.equal(seen.admit({ id: "a", until: 1_060 }, 1_010), "replayed");
  assert.equal(seen.admit({ id: "c", until: 1_071 }, 1_010), "new", "a call made since then is new");
});

test("a call made before this process started is refused: another process may have answered it", () => {
  assert.equal(opened().admit({ id: "a", issuedAt: 899, until: 959 }, 901), "replayed");
  assert.equal(opened().admit({ id: "a", issuedAt: 900, until: 910 }, 901), "new", "however soon its proof expires");
});

test("the guard is bounded: when full it refuses new calls and forgets none until proofs expire", () => {
  const seen = opened({ callsMax: 2 });
  assert.equal(seen.admit({ id: "a", until: 1_010 }, 1_000), "new");
  assert.equal(seen.admit({ id: "b", until: 1_060 }, 1_000), "new");
  assert.equal(seen.admit({ id: "c", until: 1_060 }, 1_000), "full");
  assert.equal(seen.admit({ id: "a", until: 1_010 }, 1_000), "replayed");
  assert.equal(seen.admit({ id: "c", until: 1_060 }, 1_016), "new");
  assert.equal(seen.count(), 2);
});
