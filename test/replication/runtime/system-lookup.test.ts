import assert from "node:assert/strict";
import type { LookupAddress } from "node:dns";
import { test } from "node:test";
import { createSystemLookup } from "../../../src/replication/index.ts";

type Answer = (error: NodeJS.ErrnoException | null, addresses: readonly LookupAddress[]) => void;

/** A system that answers when the test says so, on a clock that the test sets. */
function startSystem() {
  const asked: { name: string; answer: Answer }[] = [];
  let now = 0;
  const lookup = createSystemLookup(
    (name, _options, answer) => void asked.push({ name, answer }),
    () => now,
  );
  return {
    asked,
    later: (ms: number) => {
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

test("any number of callers ask the system once for a name", async () => {
  const { asked, find } = startSystem();
  const found = Promise.all([find("broker-1"), find("BROKER-1"), find("broker-1")]);
  const other = find("postgres");
  assert.deepEqual(
    asked.map(({ name }) => name),
    ["broker-1", "postgres"],
  );
  asked[1]?.answer(null, [at("192.0.2.2")]);
  assert.equal(await other, "192.0.2.2", "while the first is still waiting");
  asked[0]?.answer(null, [at("192.0.2.1")]);
  assert.deepEqual(await found, ["192.0.2.1", "192.0.2.1", "192.0.2.1"]);
});

test("an answer is fresh for a second, then the system is asked again", async () => {
  const { asked, find, later } = startSystem();
  const first = find("broker-1");
  asked[0]?.answer(null, [at("192.0.2.1")]);
  await first;
  later(900);
  assert.equal(await find("broker-1"), "192.0.2.1");
  assert.equal(asked.length, 1);
  later(200);
  const second = find("broker-1");
  asked[1]?.answer(null, [at("192.0.2.9")]);
  assert.equal(await second, "192.0.2.9");
});

test("while the system is silent, its last answer serves; without one there is nothing to serve", async () => {
  const { asked, find, later } = startSystem();
  const first = find("broker-1");
  asked[0]?.answer(null, [at("192.0.2.1")]);
  await first;
  later(5_000);
  assert.equal(await find("broker-1"), "192.0.2.1");
  const unknown = find("broker-2");
  asked.at(-1)?.answer(failure("ENOTFOUND"), []);
  await assert.rejects(unknown, { code: "ENOTFOUND" });
});

test("a system that is at a loss for the moment changes nothing, one that knows the name is gone does", async () => {
  const { asked, find, later } = startSystem();
  const first = find("broker-1");
  asked[0]?.answer(null, [at("192.0.2.1")]);
  await first;
  later(5_000);
  const second = find("broker-1");
  asked[1]?.answer(failure("EAI_AGAIN"), []);
  assert.equal(await second, "192.0.2.1");
  const third = find("broker-1");
  asked[2]?.answer(failure("ENOTFOUND"), []);
  await assert.rejects(third, { code: "ENOTFOUND" });
  const fourth = find("broker-1");
  asked[3]?.answer(failure("EAI_AGAIN"), []);
  await assert.rejects(fourth, { code: "EAI_AGAIN" });
});

test("callers get the family and the form that they asked for", async () => {
  const { asked, find } = startSystem();
  const all = find("broker-1", { all: true });
  asked[0]?.answer(null, [at("2001:db8::1"), at("192.0.2.1")]);
  assert.equal(await all, "2001:db8::1,192.0.2.1");
  assert.equal(await find("broker-1", { family: 4 }), "192.0.2.1");
  const none = find("only-six", { family: 4 });
  asked[1]?.answer(null, [at("2001:db8::1")]);
  await assert.rejects(none, { code: "ENOTFOUND" });
});
