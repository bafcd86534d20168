/**
 * Limits on the verification of unknown bearer tokens: each caller has few slots, so that other callers get theirs.
 */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  type BearerResult,
  type BearerTokens,
  createBearerTokens,
} from "../../../src/auth/authenticate/credentials/bearer-tokens.ts";
import { FairLimiter } from "../../../src/auth/authenticate/credentials/fair-limiter.ts";
import { ProviderError } from "../../../src/auth/authenticate/provider/provider-error.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";

const rules = { format: "idp_access_token", audiences: null } as const;

type World = Readonly<{
  tokens: BearerTokens;
  /** Presents tokens that were never seen before. @returns how many are refused at once because no slot is free */
  present(count: number, from: string): number;
  /** Makes the provider refuse every pending token. Settles once the refusals have been processed. */
  refuseAll(): Promise<void>;
  results: string[];
}>;

function start(): World {
  let presented = 0;
  const pending: (() => void)[] = [];
  const waiting: Promise<BearerResult>[] = [];
  const results: string[] = [];
  const verifyAccessToken = () =>
    new Promise<never>((_, reject) => {
      pending.push(() => reject(new ProviderError("no such token", { kind: "refused" })));
    });
  const provider = { verifyAccessToken };
  const tokens = createBearerTokens({
    clock: systemClock,
    replica: { projection: { sessionStatus: () => ({ status: "unknown" }) } },
    providerOf: () => provider,
    idKey: new Uint8Array(32),
    onVerified: (result: string) => results.push(result),
  } as unknown as Parameters<typeof createBearerTokens>[0]);
  return {
    tokens,
    results,
    present(count, from) {
      let refused = 0;
      for (let i = 0; i < count; i++) {
        const refuseAll = tokens.identify(`token-${++presented}`, rules, { idpId: "idp", from });
        if (refuseAll instanceof Promise) waiting.push(refuseAll);
        else if (refuseAll.type === "unavailable") refused++;
      }
      return refused;
    },
    async refuseAll() {
      for (const refuse of pending.splice(0)) refuse();
      await Promise.all(waiting.splice(0));
    },
  };
}

suite("unknown tokens", () => {
  test("at most eight of one caller are verified at a time, and another caller is still served", async () => {
    const { present, results, refuseAll } = start();
    assert.equal(present(200, "192.0.2.1"), 192);
    assert.equal(present(1, "192.0.2.2"), 0);
    assert.deepEqual(results, new Array(192).fill("unavailable"));
    await refuseAll();
    assert.equal(present(8, "192.0.2.1"), 0); // the slots are free again
    await refuseAll();
  });

  test("a token that is already being verified takes no second slot, whichever caller presents it", async () => {
    const { tokens, present, refuseAll } = start();
    const first = tokens.identify("the-same", rules, { idpId: "idp", from: "192.0.2.1" });
    const again = tokens.identify("the-same", rules, { idpId: "idp", from: "192.0.2.2" });
    assert.equal(again, first);
    assert.equal(present(7, "192.0.2.1"), 0);
    assert.equal(present(1, "192.0.2.1"), 1);
    await refuseAll();
    assert.deepEqual(await first, { type: "refused" });
  });

  test("all addresses of one IPv6 network count as one caller, and so do unknown addresses", async () => {
    const { present, refuseAll } = start();
    for (let i = 1; i <= 8; i++) assert.equal(present(1, `2001:db8:1:2:${i}::${i}`), 0);
    assert.equal(present(1, "2001:db8:1:2::9"), 1);
    assert.equal(present(1, "2001:db8:1:3::9"), 0);
    assert.equal(present(1, "::ffff:192.0.2.7"), 0);
    for (let i = 1; i <= 6; i++) assert.equal(present(1, "192.0.2.7"), 0);
    assert.equal(present(1, "::ffff:192.0.2.7"), 1);
    assert.ok(present(20, "") > 10);
    await refuseAll();
  });
});

test("the slots never exceed the limit, and a new caller gets one while twenty others take as many as they can", () => {
  const limiter = new FairLimiter(64);
  let acquired = 0;
  let callers = 0;
  for (; callers < 20; callers++) while (limiter.acquire(`greedy ${callers}`) !== undefined) acquired++;
  assert.ok(acquired < 64, String(acquired));
  for (let i = 0; i < 64; i++) if (limiter.acquire(`late ${i}`) !== undefined) acquired++;
  assert.equal(acquired, 64);
});
