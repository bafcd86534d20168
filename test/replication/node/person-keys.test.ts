/** Person keys: unwrapping the keys of people, opening their data, and dropping keys. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type PersonKey, type Profile, seal, type WrappedKey, wrapKey } from "../../../src/events/index.ts";
import { createPersonKeys } from "../../../src/replication/node/index.ts";
import { personKeyWrap } from "../../../src/replication/wire/index.ts";
import { bytesOf, secret, userId } from "../support.ts";

const nonce = (n: number): Uint8Array => bytesOf(`nonce ${n}`).slice(0, 12);

function person(n: number): PersonKey {
  return { userId: userId(n), keyId: bytesOf(`id ${n}`).slice(0, 8), key: bytesOf(`key ${n}`) };
}
function wrapped(n: number, under = secret): WrappedKey {
  return wrapKey(person(n), personKeyWrap(under), nonce(n));
}
const profile: Profile = {
  issuer: "i",
  subject: "alice",
  email: "a@x",
  emailVerified: true,
  name: "Alice",
  claims: { a: [1] },
};
const sealed = (n: number): Uint8Array => seal(profile, person(n), nonce(100 + n));

test("personal data opens with the person's key, and is decrypted once", () => {
  const keys = createPersonKeys([secret]);
  keys.add([wrapped(1)]);
  const value = sealed(1);
  const opened = keys.open(value, userId(1));
  assert.deepEqual(opened, profile);
  assert.equal(keys.open(value, userId(1)), opened);
});

test("personal data opens neither without a key nor with another person's key", () => {
  const keys = createPersonKeys([secret]);
  assert.equal(keys.open(sealed(1), userId(1)), undefined);
  keys.add([wrapped(2)]);
  assert.equal(keys.open(sealed(1), userId(1)), undefined);
  assert.equal(keys.open(sealed(1), userId(2)), undefined);
});

test("dropping a key also drops the data opened with it", () => {
  const keys = createPersonKeys([secret]);
  keys.add([wrapped(1)]);
  const value = sealed(1);
  assert.notEqual(keys.open(value, userId(1)), undefined);
  keys.drop(userId(1));
  assert.equal(keys.open(value, userId(1)), undefined);
});

test("a key wrapped for another person is refused", () => {
  const keys = createPersonKeys([secret]);
  keys.add([{ ...wrapped(2), userId: userId(1) }]);
  assert.equal(keys.open(sealed(2), userId(1)), undefined);
  assert.equal(keys.counts().failures, 1);
});

test("during a change of the secret, keys wrapped under either secret are accepted", () => {
  const next = bytesOf("the next shared secret");
  const keys = createPersonKeys([next, secret]);
  keys.add([wrapped(1), wrapped(2, next)]);
  assert.deepEqual(keys.open(sealed(1), userId(1)), profile);
  assert.deepEqual(keys.open(sealed(2), userId(2)), profile);
});

test("data with a changed byte does not open, and the failure is counted", () => {
  const keys = createPersonKeys([secret]);
  keys.add([wrapped(1)]);
  const broken = Uint8Array.from(sealed(1));
  broken[30] = (broken[30] ?? 0) ^ 1;
  assert.equal(keys.open(broken, userId(1)), undefined);
  assert.equal(keys.counts().failures, 1);
});
