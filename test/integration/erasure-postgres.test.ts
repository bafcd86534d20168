/**
 * Erasure in Postgres: what dumps of the log and of the key table hold before and after. A dump of the key table from
 * before opens the person's data together with `shared_secret`; without that table, no copy does.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { open, type Profile, seal, type UserId, unwrapKey, wrapKey } from "../../src/events/index.ts";
import { verifyLog } from "../../src/replication/log/index.ts";
import { aSession, LogWriter } from "../support/log-writer.ts";
import { findPostgresBinaries, startPostgres } from "../support/postgres.ts";
import type { PostgresServer } from "../support/service.ts";
import { ownStore } from "./postgres-log-support.ts";

const run = promisify(execFile);
const binaries = findPostgresBinaries();
const skip = binaries === undefined ? "no local binaries of Postgres" : false;
let server: PostgresServer;

before(async () => {
  if (skip === false) server = await startPostgres();
});
after(() => server?.stop());

const secret = new Uint8Array(32).fill(7);
const profile: Profile = {
  issuer: "https://idp.example",
  subject: "carol-subject",
  email: "carol@example.com",
  emailVerified: true,
  name: "Carol Clark",
  claims: {},
};

test("a dump after the erasure has no key; a dump from before opens only with its key table", { skip }, async (t) => {
  const store = await ownStore(server);
  t.after(() => store.close());
  const log = await store.open();
  const writer = await LogWriter.open(log);
  const session = aSession();
  const userId = session.userId as UserId;
  const person = { userId, keyId: randomBytes(8), key: randomBytes(32) };
  const wrapped = wrapKey(person, secret, randomBytes(12));
  const sealed = seal(profile, person, randomBytes(12));
  const created = { ...session, profile: sealed };
  await writer.append([{ events: [{ type: "UserUpserted", userId, profile: sealed }, created] }], {
    newKeys: [wrapped],
  });
  const dump = async (...more: string[]): Promise<string> => {
    const args = ["--dbname", store.connectionString, ...more];
    return (await run(join(binaries ?? "", "pg_dump"), args, { maxBuffer: 64 * 1024 * 1024 })).stdout;
  };
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

  const whole = await dump();
  const withoutKeys = await dump("--exclude-table-data", `${store.schema}.person_key`);
  for (const text of [whole, withoutKeys])
    for (const clear of [profile.email, profile.name, profile.subject]) assert.ok(!text.includes(clear), clear);
  assert.ok(whole.includes(hex(sealed)) && whole.includes(hex(wrapped.wrapped)));
  assert.ok(withoutKeys.includes(hex(sealed)) && !withoutKeys.includes(hex(wrapped.wrapped)));
  // What a backup of the key table means: with shared_secret it opens what every copy of the log holds.
  assert.deepEqual(open(sealed, unwrapKey(wrapped, secret)), profile);
  assert.throws(() => unwrapKey(wrapped, new Uint8Array(32).fill(8)), "and not without the secret");

  await writer.append([{ events: [{ type: "UserErased", userId }] }], { erasedKeys: [userId] });
  const afterwards = await dump();
  assert.ok(afterwards.includes(hex(sealed)), "the log keeps the sealed bytes: the chain covers them");
  assert.ok(!afterwards.includes(hex(wrapped.wrapped)) && !afterwards.includes(hex(person.key)));
  assert.equal((await verifyLog(log)).type, "intact");
  assert.deepEqual(await log.keysAfter(null, 10), []);
  await writer.append([{ events: [{ type: "UserRestored", userId }] }], { newKeys: [wrapped] }).catch(() => undefined);
  assert.deepEqual(await log.keysAfter(null, 10), [], "a key that was destroyed is not stored again");
});
