/** Code exchanges at the identity provider: at most one for each state, and limited for each network. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { burst, startsPerS } from "../../../../src/auth/authenticate/credentials/network-budget.ts";
import type { ProviderIdentity } from "../../../../src/auth/authenticate/provider/provider-client.ts";
import {
  type CodeExchangeOptions,
  createCodeExchanges,
} from "../../../../src/auth/authenticate/sign-in/code-exchanges.ts";

const identity = {} as ProviderIdentity;

function startExchanges() {
  const at = { now: 0 };
  const results: string[] = [];
  const onExchange: NonNullable<CodeExchangeOptions["onExchange"]> = (result) => results.push(result);
  return { at, results, codeExchanges: createCodeExchanges({ monotonic: () => at.now, onExchange }) };
}

test("one state with 400 codes causes one exchange, and a reload of the first shares its result", async () => {
  const { codeExchanges, results } = startExchanges();
  let exchanges = 0;
  const exchange = async (): Promise<ProviderIdentity> => {
    exchanges++;
    return identity;
  };
  const first = codeExchanges.begin({ state: "s", code: "0", from: "192.0.2.1" }, exchange);
  for (let code = 1; code < 400; code++)
    assert.equal(
      codeExchanges.begin({ state: "s", code: String(code), from: `192.0.2.${code % 250}` }, exchange),
      "used",
    );
  assert.equal(codeExchanges.begin({ state: "s", code: "0", from: "192.0.2.1" }, exchange), first);
  assert.equal(exchanges, 1);
  assert.equal(results.filter((result) => result === "used").length, 399);
});

test("a failed exchange is not repeated with the same code", async () => {
  const { codeExchanges } = startExchanges();
  const callback = { state: "s", code: "c", from: "192.0.2.1" };
  const arrival = codeExchanges.begin(callback, () => Promise.reject(new TypeError("no answer")));
  assert.ok(typeof arrival === "object");
  await assert.rejects(arrival.identity, TypeError);
  assert.equal(
    codeExchanges.begin(callback, () => assert.fail("a second exchange")),
    "used",
  );
});

test("a network has a limited number of concurrent exchanges, and other networks are not affected", async () => {
  const { codeExchanges } = startExchanges();
  const gate = Promise.withResolvers<ProviderIdentity>();
  const begin = (n: number, from: string) =>
    codeExchanges.begin({ state: `s${n}`, code: "c", from }, () => gate.promise);
  const network = (n: number): string => `2001:db8:0:1::${(n + 1).toString(16)}`;
  const begun = Array.from({ length: 20 }, (_, n) => begin(n, network(n)));
  assert.equal(begun.filter((one) => one !== "busy").length, 8, "one IPv6 /64 is one network");
  assert.notEqual(begin(100, "192.0.2.7"), "busy");
  gate.resolve(identity);
  await gate.promise;
  await new Promise(setImmediate);
  assert.notEqual(begin(19, network(19)), "busy", "a state that was refused as busy is not used up");
});

test("a network may start a burst of exchanges and then a fixed number per second", async () => {
  const { codeExchanges, at } = startExchanges();
  let n = 0;
  const start = async (from: string): Promise<string> => {
    const arrival = codeExchanges.begin({ state: `s${n++}`, code: "c", from }, async () => identity);
    if (typeof arrival === "string") return arrival;
    await arrival.identity;
    return "exchanged";
  };
  for (let i = 0; i < burst; i++) assert.equal(await start("192.0.2.1"), "exchanged");
  assert.equal(await start("192.0.2.1"), "busy");
  assert.equal(await start("192.0.2.2"), "exchanged");
  at.now += 1_000;
  for (let i = 0; i < startsPerS; i++) assert.equal(await start("192.0.2.1"), "exchanged");
  assert.equal(await start("192.0.2.1"), "busy");
});
