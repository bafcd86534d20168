/** Binary arrays for Postgres: a real server reads back every array that is encoded here. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import pg from "pg";
import {
  encodeBigints,
  encodeIntegers,
  encodeTexts,
  encodeUuids,
} from "../../../../src/replication/log/postgres/array.ts";
import { startPostgres } from "../../../support/postgres.ts";
import type { PostgresServer } from "../../../support/service.ts";

let server: PostgresServer;
let client: pg.Client;
before(async () => {
  server = await startPostgres();
  client = new pg.Client({ connectionString: await server.newDatabase() });
  await client.connect();
});
after(async () => {
  await client.end();
  await server.stop();
});

async function readBack(type: string, array: Buffer): Promise<unknown> {
  const { rows } = await client.query(`select array(select x::text from unnest($1::${type}[]) as x) as list`, [array]);
  return rows[0]?.list;
}

test("integers come back unchanged, beyond 32 bits too, and so do empty arrays", async () => {
  assert.deepEqual(await readBack("integer", encodeIntegers([0, 1, 2_147_483_647])), ["0", "1", "2147483647"]);
  const large = [0, 1, 4_294_967_295, 4_294_967_296, Number.MAX_SAFE_INTEGER];
  assert.deepEqual(await readBack("bigint", encodeBigints(large)), large.map(String));
  assert.deepEqual(await readBack("integer", encodeIntegers([])), []);
  assert.deepEqual(await readBack("bigint", encodeBigints([])), []);
});

test("texts of any characters come back unchanged", async () => {
  const list = ["", "plain", 'quoted "and" \\escaped', "{a,b}", "NULL", "naïve 北京 🗝️", "x".repeat(70_000)];
  assert.deepEqual(await readBack("text", encodeTexts(list)), list);
  assert.deepEqual(await readBack("text", encodeTexts([])), []);
});

test("UUIDs come back unchanged, with nulls among them", async () => {
  const list = [randomUUID(), null, "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
  assert.deepEqual(await readBack("uuid", encodeUuids(list)), list);
  assert.deepEqual(await readBack("uuid", encodeUuids([null])), [null]);
  assert.deepEqual(await readBack("uuid", encodeUuids([])), []);
});

test("a malformed UUID is refused, wherever the error is", () => {
  const good = "0123abcd-0123-4123-8123-0123456789ab";
  assert.equal(encodeUuids([good]).length, 40);
  for (const wrong of [good.slice(1), `${good}0`, good.replace("a", "g"), good.replace("b", "é"), ""])
    assert.throws(() => encodeUuids([wrong]), RangeError, wrong);
});
