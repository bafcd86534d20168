/** Client certificates in policy: fingerprints, names, and a name that tries to pass as two. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { outcomeOf, problemsOf } from "../support.ts";

/** Names: alice@example.com, laptop.example.com, other.example.com, spiffe://example.com/alice. */
const alice = `-----BEGIN CERTIFICATE-----
MIIB2jCCAYCgAwIBAgIUbcebyzQ/yZFsmuGz/Wdn5k322H8wCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFYWxpY2UwIBcNMjYxMTI1MDEwNzQ4WhgPMjEyNjExMDEwMTA3
NDhaMBAxDjAMBgNVBAMMBWFsaWNlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
mzL6kLdDD6QzCQGQDsHzS6VZ5ZTN7nDna/YejGrVM/2eDlp/dz3aGZaKMkH4kEM+
8ZeEtooW6LIeNAqsi6wnfaOBtTCBsjAdBgNVHQ4EFgQUJ9pULLZKFdeF/05663TI
p3Pj4powHwYDVR0jBBgwFoAUJ9pULLZKFdeF/05663TIp3Pj4powDwYDVR0TAQH/
BAUwAwEB/zBfBgNVHREEWDBWgRFhbGljZUBleGFtcGxlLmNvbYISbGFwdG9wLmV4
YW1wbGUuY29tghFvdGhlci5leGFtcGxlLmNvbYYac3BpZmZlOi8vZXhhbXBsZS5j
b20vYWxpY2UwCgYIKoZIzj0EAwIDSAAwRQIgWo4JVf3h6XOYCITdibdWvjuQehkg
H1WZAIODNGo8jKcCIQCutC9u7TOhVzPDdZTf/gfhL9vjE5q4ykQObE+BhFOAMA==
-----END CERTIFICATE-----
`;
/** Its only name is the URI `http://x/, email:alice@example.com`. */
const mallory = `-----BEGIN CERTIFICATE-----
MIIBeDCCAR6gAwIBAgIUdF0AxFhXyy3li3yseQXqWbRk/1owCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHbWFsbG9yeTAgFw0yNjExMjUwMTA3NDhaGA8yMTI2MTEwMTAx
MDc0OFowEjEQMA4GA1UEAwwHbWFsbG9yeTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABEJ/joBbVLbJHZrN5B0RSBWgMY73U1Q73I41omlnPA0QT00RlaXUM6haThVv
GhVK/F2budz1KKqj9+62a5uB6rWjUDBOMC0GA1UdEQQmMCSGImh0dHA6Ly94Lywg
ZW1haWw6YWxpY2VAZXhhbXBsZS5jb20wHQYDVR0OBBYEFIk5QatvfYGhkEMF7Ign
6/3zIrlvMAoGCCqGSM49BAMCA0gAMEUCIQCP3gpCB8S7nSXaq4ndFnpOvzZkj2S8
r224H8WmiJrz1AIgI/TZOA+hH0eo+bBH0mfwch1NJcOBUGZBdtLrNuOuASM=
-----END CERTIFICATE-----
`;
const fingerprint = "580a506de999f410e3435896bc65b19abb31a712e72ad574c1508d8106f73b69";
const colons = "58:0A:50:6D:E9:99:F4:10:E3:43:58:96:BC:65:B1:9A:BB:31:A7:12:E7:2A:D5:74:C1:50:8D:81:06:F7:3B:69";
const spki = "6iFfggjP3VAnb7CjrkE80A+aKzEx/LuvB0AffNC3fJE=";
const other = "0".repeat(64);
const ok = "permit client-certificate-ok";
const no = "deny 403 client-certificate-unauthorized";

const outcomeWith = (data: unknown, leafPem = alice, valid = true) =>
  outcomeOf({ allow: { and: [{ client_certificate: data }] } }, null, {
    clientCertificate: { presented: true, valid, leafPem },
  });

const cases: readonly (readonly [unknown, string])[] = [
  [{ fingerprint }, ok],
  [{ fingerprint: colons }, ok],
  [{ fingerprint: [other, fingerprint] }, ok],
  [{ fingerprint: other }, no],
  [{ spki_hash: spki }, ok],
  [{ spki_hash: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }, no],
  [{ san_email: "alice@example.com" }, ok],
  [{ san_email: { ends_with: "@other.example" } }, no],
  [{ san_dns: "other.example.com" }, ok],
  [{ san_dns: { starts_with: "desktop" } }, no],
  [{ san_uri: "spiffe://example.com/alice" }, ok],
  [{ san_uri: "spiffe://example.com/bob" }, no],
  [{ fingerprint, san_dns: { in: ["laptop.example.com"] } }, ok],
  [{ fingerprint, san_dns: "desktop.example.com" }, no],
];
for (const [data, expect] of cases) {
  test(`client_certificate ${JSON.stringify(data)} gives ${expect}`, () => assert.equal(outcomeWith(data), expect));
}

test("a certificate that the listener did not verify matches nothing, not even its own fingerprint", () => {
  assert.equal(outcomeWith({ fingerprint }, alice, false), no);
  assert.equal(outcomeWith({ san_email: "alice@example.com" }, alice, false), no);
});

test("without a certificate, or with an invalid one, nothing matches", () => {
  assert.equal(outcomeOf({ allow: { and: [{ client_certificate: { fingerprint } }] } }, null), no);
  assert.equal(outcomeWith({ fingerprint }, "not a certificate"), no);
});

test("a name that contains a comma does not count as two names", () => {
  assert.equal(outcomeWith({ san_email: "alice@example.com" }, mallory), no);
  assert.equal(outcomeWith({ san_uri: "http://x/, email:alice@example.com" }, mallory), ok);
});

test("an empty or unknown certificate matcher is refused", () => {
  for (const data of [
    null,
    "x",
    [],
    {},
    { fingerprints: other },
    { fingerprint: "12" },
    { fingerprint: [1] },
    { spki_hash: "x" },
    { san_dns: ["a"] },
  ]) {
    const problems = problemsOf({ allow: { and: [{ client_certificate: data }] } });
    assert.equal(problems.length, 1, JSON.stringify(data));
    assert.equal(problems[0]?.severity, "error");
  }
});
