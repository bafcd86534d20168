/** System lookup: shared, cached DNS lookups by the operating system. */
import assert from "node:assert/strict";
import type { LookupAddress } from "node:dns";
import { test } from "node:test";
import { createSystemLookup } from "../../../src/replication/runtime/index.ts";

type Answer = (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void;

/** A resolver that answers when the test calls `answer`, with a clock that the test moves. */
function startSystem() {
  const queries: { name: string; answer: Answer }[] = [];
  let now = 0;
  const lookup = createSystemLookup(
    (name, _options, answer) => void queries.push({ name, answer }),
    () => now,
  );
  return {
    queries,
    advance: (ms: number) => {
      now += ms;
    },
    find: (name: string, options: object = {}) =>
      new Promise<string>((resolve, reject) =>
        lookup(name, options, (error, found) =>
          error === null
            ? resolve(typeof found === "string" ? found : found.map(({ address }) => address).join())
            : reject(error),
        ),
      ),
  };
}

const at = (address: string): LookupAddress => ({ address, family: address.includes(":") ? 6 : 4 });
const failure = (code: string): NodeJS.ErrnoException => Object.assign(new Error(code), { code });

test("concurrent lookups of one name share one request to the system", async () => {
  const { queries, find } = startSystem();
  const found = Promise.all([find("broker-1"), find("BROKER-1"), find("broker-1")]);
  const other = find("postgres");
  assert.deepEqual(
    queries.map(({ name }) => name),
    ["broker-1", "postgres"],
  );
  queries[1]?.answer(null, [at("192.0.2.2")]);
  assert.equal(await other, "192.0.2.2", "while the first lookup is still waiting");
  queries[0]?.answer(null, [at("192.0.2.1")]);
  assert.deepEqual(await found, ["192.0.2.1", "192.0.2.1", "192.0.2.1"]);
});

test("an answer is used for one second, then the system is queried again", async () => {
  const { queries, find, advance } = startSystem();
  const first = find("broker-1");
  queries[0]?.answer(null, [at("192.0.2.1")]);
  await first;
  advance(900);
  assert.equal(await find("broker-1"), "192.0.2.1");
  assert.equal(queries.length, 1);
  advance(200);
  const second = find("broker-1");
  queries[1]?.answer(null, [at("192.0.2.9")]);
  assert.equal(await second, "192.0.2.9");
});

test("while the system does not answer, its last answer is used; a name without one fails", async () => {
  const { queries, find, advance } = startSystem();
  const first = find("broker-1");
  queries[0]?.answer(null, [at("192.0.2.1")]);
  await first;
  advance(5_000);
  assert.equal(await find("broker-1"), "192.0.2.1");
  const unknown = find("broker-2");
  queries.at(-1)?.answer(failure("ENOTFOUND"), []);
  await assert.rejects(unknown, { code: "ENOTFOUND" });
});

test("a temporary failure of the system keeps the last answer; an answer that the name does not exist removes it", async () => {
  const { queries, find, advance } = startSystem();
  const first = find("broker-1");
  queries[0]?.answer(null, [at("192.0.2.1")]);
  await first;
  advance(5_000);
  const second = find("broker-1");
  queries[1]?.answer(failure("EAI_AGAIN"), []);
  assert.equal(await second, "192.0.2.1");
  const third = find("broker-1");
  queries[2]?.answer(failure("ENOTFOUND"), []);
  await assert.rejects(third, { code: "ENOTFOUND" });
  const fourth = find("broker-1");
  queries[3]?.answer(failure("EAI_AGAIN"), []);
  await assert.rejects(fourth, { code: "EAI_AGAIN" });
});

test("callers get the requested address family and form", async () => {
  const { queries, find } = startSystem();
  const all = find("broker-1", { all: true });
  queries[0]?.answer(null, [at("2001:db8::1"), at("192.0.2.1")]);
  assert.equal(await all, "2001:db8::1,192.0.2.1");
  assert.equal(await find("broker-1", { family: 4 }), "192.0.2.1");
  const none = find("only-six", { family: 4 });
  queries[1]?.answer(null, [at("2001:db8::1")]);
  await assert.rejects(none, { code: "ENOTFOUND" });
});
