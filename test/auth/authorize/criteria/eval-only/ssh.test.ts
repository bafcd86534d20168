/** SSH criteria, on real keys and certificates created by ssh-keygen. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  parsePresentedKey,
  readUserCertificate,
} from "../../../../../src/auth/authorize/criteria/eval-only/ssh-keys.ts";
import { TemporaryFolder } from "../../../../support/child.ts";
import { decideOn, outcomeOf, source, type Who } from "../../support.ts";

const folder = new TemporaryFolder("ssh-criteria");
after(() => folder[Symbol.dispose]());
const path = (name: string): string => join(folder.path, name);
const keygen = (...args: string[]): void => {
  execFileSync("ssh-keygen", ["-q", ...args], { cwd: folder.path, stdio: "pipe" });
};
const line = (name: string): string => readFileSync(path(name), "utf8").trim();
const wire = (name: string): string => parsePresentedKey(line(name)) ?? assert.fail(name);

for (const [name, ...kind] of [
  ["user", "-t", "ed25519"],
  ["other", "-t", "ed25519"],
  ["ca-ed25519", "-t", "ed25519"],
  ["ca-p256", "-t", "ecdsa", "-b", "256"],
  ["ca-p384", "-t", "ecdsa", "-b", "384"],
  ["ca-p521", "-t", "ecdsa", "-b", "521"],
  ["ca-rsa", "-t", "rsa", "-b", "2048"],
] as const)
  keygen(...kind, "-N", "", "-C", `${name}@test`, "-f", path(name));

/** Signs the user's key. @returns the file name of the certificate */
function certify(ca: string, as: string, ...options: string[]): string {
  execFileSync("cp", [path("user.pub"), path(`${as}.pub`)]);
  keygen("-s", path(ca), "-I", "id", ...options, path(`${as}.pub`));
  return `${as}-cert.pub`;
}
const moment = Temporal.Instant.from("2026-06-15T12:00:00Z").epochMilliseconds;
const validity = ["-V", "20260601000000Z:20260701000000Z"];
const login = (username: string, key: string | null = null) => ({
  ssh: { username, publicKey: key === null ? null : wire(key) },
});
const outcomeWith = (criterion: object, what: object, who: Who = null, when = moment): string =>
  outcomeOf({ allow: { and: [criterion] } }, who, what, when);
const keyOk = "permit ssh-publickey-ok";
const keyNo = "deny 403 ssh-publickey-unauthorized";
const nameOk = "permit ssh-username-ok";
const nameNo = "deny 403 ssh-username-unauthorized";

test("the requested user name is compared as text, and a request that is no login has an empty one", () => {
  assert.equal(outcomeWith({ ssh_username: "root" }, login("root")), nameOk);
  assert.equal(outcomeWith({ ssh_username: { in: ["a", "b"] } }, login("root")), nameNo);
  assert.equal(outcomeWith({ ssh_username: "root" }, {}), nameNo);
});

test("a policy can require the user name to match the user's e-mail address or a claim", () => {
  const alice: Who = {
    expiresAt: moment + 1,
    email: "alice@example.com",
    claims: { logins: ["al", "root"], level: [5] },
  };
  assert.equal(outcomeWith({ ssh_username_matches_email: true }, login("alice"), alice), nameOk);
  assert.equal(outcomeWith({ ssh_username_matches_email: true }, login("bob"), alice), nameNo);
  assert.equal(
    outcomeWith({ ssh_username_matches_email: true }, login(""), { expiresAt: moment + 1, email: "" }),
    nameNo,
  );
  assert.equal(
    outcomeWith({ ssh_username_matches_email: true }, {}, { expiresAt: moment + 1, email: "@example.com" }),
    nameNo,
  );
  assert.equal(outcomeWith({ ssh_username_matches_email: true }, login("alice")), "signin user-unauthenticated");
  assert.equal(outcomeWith({ ssh_username_matches_claim: "logins" }, login("root"), alice), nameOk);
  assert.equal(outcomeWith({ ssh_username_matches_claim: "logins" }, login("bob"), alice), nameNo);
  assert.equal(outcomeWith({ ssh_username_matches_claim: "level" }, login("5"), alice), nameNo);
  assert.equal(outcomeWith({ ssh_username_matches_claim: "logins" }, login("root")), "signin user-unauthenticated");
});

test("keys are compared by their key data; options, comments and line endings do not count", () => {
  const key = line("user.pub");
  for (const data of [key, [line("other.pub"), key], `# mine\n\nno-pty ${key.replace("user@test", "")}\r\n`]) {
    assert.equal(outcomeWith({ ssh_publickey: data }, login("root", "user.pub")), keyOk, JSON.stringify(data));
    assert.equal(outcomeWith({ ssh_publickey: data }, login("root", "ca-rsa.pub")), keyNo);
    assert.equal(outcomeWith({ ssh_publickey: data }, login("root")), keyNo);
    assert.equal(outcomeWith({ ssh_publickey: data }, {}), keyNo);
  }
});

for (const ca of ["ca-ed25519", "ca-p256", "ca-p384", "ca-p521", "ca-rsa"]) {
  test(`a certificate of ${ca} is accepted only for its names, within its validity and for that authority`, () => {
    const certificate = certify(ca, `of-${ca}`, "-n", "root,deploy", ...validity);
    const criterion = { ssh_ca: [line(`${ca}.pub`)] };
    assert.equal(outcomeWith(criterion, login("root", certificate)), keyOk);
    assert.equal(outcomeWith(criterion, login("deploy", certificate)), keyOk);
    assert.equal(outcomeWith(criterion, login("mallory", certificate)), keyNo);
    assert.equal(outcomeWith(criterion, login("", certificate)), keyNo);
    const other = ca === "ca-p256" ? "ca-p384" : "ca-p256";
    assert.equal(outcomeWith({ ssh_ca: line(`${other}.pub`) }, login("root", certificate)), keyNo);
    const edges = [Date.UTC(2026, 5, 1) - 1, Date.UTC(2026, 5, 1), Date.UTC(2026, 6, 1) - 1, Date.UTC(2026, 6, 1)];
    assert.deepEqual(
      edges.map((when) => outcomeWith(criterion, login("root", certificate), null, when)),
      [keyNo, keyOk, keyOk, keyNo],
    );
  });
}

test("a decision expires with the certificate", () => {
  const certificate = certify("ca-ed25519", "bounded", "-n", "root", ...validity);
  const on = { policy: source({ allow: { and: [{ ssh_ca: line("ca-ed25519.pub") }] } }) };
  const until = (at: number): number | null => decideOn(on, null, login("root", certificate), { at }).until;
  assert.equal(until(Date.UTC(2026, 4, 1)), Date.UTC(2026, 5, 1));
  assert.equal(until(moment), Date.UTC(2026, 6, 1));
  assert.equal(until(Date.UTC(2026, 7, 1)), null);
});

test("a plain key, a host certificate, one without names and one with an unknown critical option are not user certificates", () => {
  const criterion = { ssh_ca: line("ca-ed25519.pub") };
  const host = certify("ca-ed25519", "host", "-h", "-n", "root", ...validity);
  const withoutNames = certify("ca-ed25519", "no-names", ...validity);
  const forced = certify("ca-ed25519", "forced", "-n", "root", "-O", "critical:new@example.com=x", ...validity);
  for (const key of ["user.pub", host, withoutNames, forced])
    assert.equal(outcomeWith(criterion, login("root", key)), keyNo, key);
});

test("a certificate that is limited to some addresses is refused from others", () => {
  const certificate = certify(
    "ca-ed25519",
    "addressed",
    "-n",
    "root",
    "-O",
    "source-address=192.0.2.0/24",
    ...validity,
  );
  const criterion = { ssh_ca: line("ca-ed25519.pub") };
  assert.equal(outcomeWith(criterion, { ...login("root", certificate), ip: "192.0.2.9" }), keyOk);
  assert.equal(outcomeWith(criterion, { ...login("root", certificate), ip: "198.51.100.9" }), keyNo);
});

test("changing any byte of a certificate invalidates it", () => {
  const bytes = Buffer.from(wire(certify("ca-p256", "changed", "-n", "root", ...validity)), "base64");
  const authority = wire("ca-p256.pub");
  assert.equal(readUserCertificate(bytes.toString("base64"))?.authority, authority);
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed.writeUInt8((changed[at] ?? 0) ^ 0x01, at);
    assert.notEqual(readUserCertificate(changed.toString("base64"))?.authority, authority, `byte ${at}`);
  }
  for (let length = 0; length < bytes.length; length += 7)
    assert.equal(readUserCertificate(bytes.subarray(0, length).toString("base64")), undefined);
});
