/**
 * The rewrap duty: brings people's keys under the current secret while the previous one is configured, and reports when
 * the previous one may be removed.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import type { DutyContext } from "../../../src/broker/core/duty.ts";
import { rewrapDuty } from "../../../src/broker/leader/rewrap-duty.ts";
import { type UnixMs, type UserId, unwrapKey, type WrappedKey, wrapKey } from "../../../src/events/index.ts";
import { personKeyWrap } from "../../../src/replication/wire/index.ts";

const [before, now, lost] = [randomBytes(32), randomBytes(32), randomBytes(32)];
const person = (n: number) => ({
  userId: `user-${String(n).padStart(5, "0")}` as UserId,
  keyId: randomBytes(8),
  key: randomBytes(32),
});
const wrapped = (n: number, secret: Uint8Array): WrappedKey =>
  wrapKey(person(n), personKeyWrap(secret), randomBytes(12));
const under = (key: WrappedKey, secret: Uint8Array): boolean => {
  try {
    return unwrapKey(key, personKeyWrap(secret)).key.length === 32;
  } catch {
    return false;
  }
};

/** A table of keys with a rewrap duty. */
function bench(keys: readonly WrappedKey[], secrets = { secret: now, previousSecret: before }) {
  const table = new Map(keys.map((key) => [key.userId, key]));
  const said: string[] = [];
  const writes: number[] = [];
  const tell = (_fields: object, message?: string): void => void said.push(message ?? "");
  const duty = rewrapDuty({
    ...secrets,
    random: (size) => randomBytes(size),
    logger: { debug() {}, info: tell, warn: tell, error: tell },
    log: {
      keysAfter: async (after, limit) =>
        [...table.values()]
          .filter(({ userId }) => after === null || userId > after)
          .sort((a, b) => (a.userId < b.userId ? -1 : 1))
          .slice(0, limit),
      rewrapKeys: async (some) => {
        writes.push(some.length);
        for (const key of some) table.set(key.userId, key);
        return some.length;
      },
    },
  });
  const run = (at: number, signal = new AbortController().signal) =>
    duty.run({ signal, now: at as UnixMs } as DutyContext);
  return { table, said, writes, duty, run };
}

test("rewraps every key under the previous secret, and no other, page by page; then reports that the secret may be removed", async () => {
  const keys = [
    ...Array.from({ length: 1_200 }, (_, n) => wrapped(n, before)),
    ...Array.from({ length: 30 }, (_, n) => wrapped(2_000 + n, now)),
  ];
  const { table, said, writes, duty, run } = bench(keys);
  assert.equal(duty.progress().keysLeft, undefined);
  await run(0);
  assert.ok([...table.values()].every((key) => under(key, now) && !under(key, before)));
  assert.deepEqual(writes, [500, 500, 200]);
  assert.deepEqual(duty.progress(), { keysSeen: 1_230, keysRewrapped: 1_200, keysLeft: 1_200, keysUnreadable: 0 });
  assert.ok(!said.join().includes("no personal key"), "another broker may be wrapping some the other way round");
  await run(10_000);
  assert.equal(duty.progress().keysLeft, 0);
  assert.match(said.at(-1) ?? "", /no personal key needs shared_secret_previous/);
  const count = said.length;
  await run(20_000);
  await run(200_000);
  assert.equal(said.length, count, "once");
});

test("the keys themselves stay, so sealed data still opens", async () => {
  const one = person(1);
  const { table, run } = bench([wrapKey(one, personKeyWrap(before), randomBytes(12))]);
  await run(0);
  const [key] = table.values();
  assert.ok(key !== undefined);
  assert.deepEqual(Buffer.from(unwrapKey(key, personKeyWrap(now)).key), one.key);
  assert.deepEqual(Buffer.from(key.keyId), one.keyId);
});

test("a key that opens under neither secret is left unchanged, counted and logged once", async () => {
  const { table, said, duty, run } = bench([wrapped(1, lost), wrapped(2, before)]);
  const [strange] = table.values();
  await run(0);
  await run(10_000);
  assert.equal([...table.values()][0], strange);
  assert.equal(duty.progress().keysUnreadable, 1);
  assert.equal(said.filter((one) => one.includes("either secret")).length, 1);
});

test("two brokers with swapped secrets converge once both have the same configuration", async () => {
  const one = bench([wrapped(1, before), wrapped(2, before)]);
  await one.run(0);
  const turned = bench([...one.table.values()], { secret: before, previousSecret: now });
  await turned.run(0);
  assert.ok(
    [...turned.table.values()].every((key) => under(key, before)),
    "still readable by both",
  );
  const again = bench([...turned.table.values()]);
  await again.run(0);
  await again.run(10_000);
  assert.equal(again.duty.progress().keysLeft, 0);
  assert.ok([...again.table.values()].every((key) => under(key, now)));
});

test("a deposed broker stops between two pages", async () => {
  const over = new AbortController();
  over.abort();
  const { writes, duty, run } = bench([wrapped(1, before)]);
  await run(0, over.signal);
  assert.deepEqual([writes, duty.progress().keysLeft], [[], undefined]);
});
