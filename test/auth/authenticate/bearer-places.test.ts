/** Bearer tokens that nobody has seen: of one caller only so many are looked at at once that others have their turn. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import {
  type BearerResult,
  type BearerTokens,
  createBearerTokens,
} from "../../../src/auth/authenticate/credentials/bearer-tokens.ts";
import { FairLimiter } from "../../../src/auth/authenticate/credentials/fair-limiter.ts";
import { ProviderError } from "../../../src/auth/authenticate/provider/provider-error.ts";
import { systemClock } from "../../../src/replication/index.ts";

const rules = { format: "idp_access_token", audiences: null } as const;

type World = Readonly<{
  tokens: BearerTokens;
  /** Shows tokens that nobody has seen. @returns how many are refused at once for want of a place */
  show(count: number, from: string): number;
  /**
   * The provider says of all that it was asked about that it knows nothing of them; settles when that has been heard.
   */
  answer(): Promise<void>;
  looked: string[];
}>;

function start(): World {
  let shown = 0;
  const asked: (() => void)[] = [];
  const waiting: Promise<BearerResult>[] = [];
  const looked: string[] = [];
  const verifyAccessToken = () =>
    new Promise<never>((_, reject) => {
      asked.push(() => reject(new ProviderError("no such token", { kind: "refused" })));
    });
  const provider = { verifyAccessToken };
  const tokens = createBearerTokens({
    clock: systemClock,
    replica: { projection: { sessionStatus: () => ({ status: "unknown" }) } },
    providerOf: () => provider,
    idKey: new Uint8Array(32),
    onVerified: (result: string) => looked.push(result),
  } as unknown as Parameters<typeof createBearerTokens>[0]);
  return {
    tokens,
    looked,
    show(count, from) {
      let refused = 0;
      for (let i = 0; i < count; i++) {
        const answer = tokens.identify(`token-${++shown}`, rules, { idpId: "idp", from });
        if (answer instanceof Promise) waiting.push(answer);
        else if (answer.type === "unavailable") refused++;
      }
      return refused;
    },
    async answer() {
      for (const say of asked.splice(0)) say();
      await Promise.all(waiting.splice(0));
    },
  };
}

suite("of tokens that nobody has seen", () => {
  test("one caller gets eight looked at at once, and another is looked at all the same", async () => {
    const { show, looked, answer } = start();
    assert.equal(show(200, "192.0.2.1"), 192);
    assert.equal(show(1, "192.0.2.2"), 0);
    assert.deepEqual(looked, new Array(192).fill("unavailable"));
    await answer();
    assert.equal(show(8, "192.0.2.1"), 0); // the places are given back
    await answer();
  });

  test("a token that is looked at already takes no other place, whoever shows it", async () => {
    const { tokens, show, answer } = start();
    const first = tokens.identify("the-same", rules, { idpId: "idp", from: "192.0.2.1" });
    const again = tokens.identify("the-same", rules, { idpId: "idp", from: "192.0.2.2" });
    assert.equal(again, first);
    assert.equal(show(7, "192.0.2.1"), 0);
    assert.equal(show(1, "192.0.2.1"), 1);
    await answer();
    assert.deepEqual(await first, { type: "refused" });
  });

  test("all addresses of one IPv6 network are one caller, and so are those that were not said", async () => {
    const { show, answer } = start();
    for (let i = 1; i <= 8; i++) assert.equal(show(1, `2001:db8:1:2:${i}::${i}`), 0);
    assert.equal(show(1, "2001:db8:1:2::9"), 1);
    assert.equal(show(1, "2001:db8:1:3::9"), 0);
    assert.equal(show(1, "::ffff:192.0.2.7"), 0);
    for (let i = 1; i <= 6; i++) assert.equal(show(1, "192.0.2.7"), 0);
    assert.equal(show(1, "::ffff:192.0.2.7"), 1);
    assert.ok(show(20, "") > 10);
    await answer();
  });
});

test("places are never more than there are, and whoever comes has one while more than twenty others take what they can", () => {
  const places = new FairLimiter(64);
  let taken = 0;
  let callers = 0;
  for (; callers < 20; callers++) while (places.acquire(`greedy ${callers}`) !== undefined) taken++;
  assert.ok(taken < 64, String(taken));
  for (let i = 0; i < 64; i++) if (places.acquire(`late ${i}`) !== undefined) taken++;
  assert.equal(taken, 64);
});
