import assert from "node:assert/strict";
import { test } from "node:test";
import {
  dnKey,
  idOf,
  idValue,
  type LdapEntry,
  markOf,
  relativeIdOf,
  siblingSid,
  textOf,
  valuesOf,
} from "../../../../src/auth/directory/sources/ldap/ldap-entry.ts";

const entry = (attributes: Readonly<Record<string, readonly (string | Buffer)[]>>): LdapEntry => ({
  dn: "cn=x",
  attributes: new Map(
    Object.entries(attributes).map(([name, values]) => [
      name.toLowerCase(),
      values.map((value) => (Buffer.isBuffer(value) ? value : Buffer.from(value))),
    ]),
  ),
});

test("names that are equal have one key, and others do not", () => {
  const equal = [
    ["CN=Ada,OU=People,DC=example", "cn=ada, ou = people ,dc=EXAMPLE"],
    ["cn=Smith\\, Ada,ou=x", "cn=Smith\\2c Ada,ou=x", "cn=smith\\2C ada,ou=x"],
    ["cn=\\C3\\A9va,ou=x", "cn=éva,ou=x", "CN=\\c3\\89VA,ou=x"],
    ["cn=a+uid=b,ou=x", "cn=a + uid=b,ou=x"],
    ["cn=Ada  Lovelace,ou=x", "cn=ada lovelace;ou=x"],
    ["cn=ΟΔΟΣ,ou=x", "cn=\\CE\\9F\\CE\\94\\CE\\9F\\CE\\A3, ou=x", "CN=οδος,OU=x"],
    ["cn=a\\=b,ou=x", "cn=a\\3Db,ou=x"],
  ];
  for (const names of equal) assert.equal(new Set(names.map(dnKey)).size, 1, names.join());
  const different = [
    "cn=a,cn=b",
    "cn=a\\,cn\\=b",
    "cn=a\\,cn=b",
    "cn=ab",
    "cn=a b",
    "cn=a,cn=b,cn=c",
    "cn=a\\+cn\\=b",
    "cn=a+cn=b",
    "",
  ];
  assert.equal(new Set(different.map(dnKey)).size, different.length);
});

test("a GUID is text as Windows shows it, and comes back as the same bytes", () => {
  const bytes = Buffer.from("33221100554477668899aabbccddeeff", "hex");
  const text = idOf(entry({ objectGUID: [bytes] }), "objectGUID");
  assert.equal(text, "00112233-4455-6677-8899-aabbccddeeff");
  assert.deepEqual(idValue(text, "objectGUID"), bytes);
  assert.equal(idValue("00112233", "objectGUID"), undefined);
  assert.deepEqual(idValue("a*)(b", "uid"), Buffer.from("a*)(b"));
  assert.throws(() => idOf(entry({ objectGUID: ["short"] }), "objectGUID"), /16 bytes/);
});

test("a relative id is the last number of a SID, and names a sibling", () => {
  const sid = Buffer.from("010500000000000515000000010000000200000003000000e8030000", "hex");
  const user = entry({ objectSid: [sid] });
  assert.equal(relativeIdOf(user), 1_000);
  assert.equal(siblingSid(user, 513)?.readUInt32LE(24), 513);
  for (const wrong of [Buffer.alloc(4), sid.subarray(0, 24)])
    assert.equal(relativeIdOf(entry({ objectSid: [wrong] })), null);
});

test("ranges of members are in order, and end with a star", () => {
  assert.deepEqual(valuesOf(entry({ member: ["a", "b"] }), "member", 0).values.map(String), ["a", "b"]);
  assert.equal(valuesOf(entry({ member: [], "member;range=0-1": ["a", "b"] }), "member", 0).next, 2);
  assert.equal(valuesOf(entry({ "member;range=2-*": ["c"] }), "member", 2).next, null);
  assert.throws(() => valuesOf(entry({ "member;range=0-1": ["a"] }), "member", 0), /another length/);
  assert.throws(() => valuesOf(entry({ "member;range=0-1": ["a", "b"] }), "member", 2), /not the one asked for/);
  assert.throws(() => valuesOf(entry({ member: ["a"] }), "member", 2), /did not send the range/);
});

test("marks sort by time, texts are one line", () => {
  assert.equal(markOf(entry({ m: ["20260102030405.123Z"] }), "m"), "20260102030405");
  assert.equal(markOf(entry({ m: ["20260102030405+0100"] }), "m"), "");
  assert.ok(markOf(entry({ m: ["99"] }), "m") < markOf(entry({ m: ["100"] }), "m"));
  assert.equal(textOf(entry({ cn: ["A\u0000da\nX"] }), "cn"), "A da X");
  assert.equal(textOf(entry({ cn: [Buffer.from([0xff, 0x41])] }), "cn"), "\ufffdA");
});
