/**
 * The policy commands accept a configuration that cannot run on this machine: certificates, secrets and identity
 * provider are not needed.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { run } from "./support.ts";

const unrunnable = `services: [proxy]
authenticate_service_url: https://authenticate.pomerium.app
certificate_file: /nowhere/cert.pem
certificate_key_file: /nowhere/key.pem
shared_secret_file: /nowhere/secret
nats: {servers: "not a url"}
routes:
  - from: https://app.example.com
    to: https://127.0.0.1:9000
    tls_custom_ca_file: /nowhere/ca.pem
    kubernetes_service_account_token_file: /nowhere/token
    idp_client_id: own
    policy: {allow: {and: [domain: {is: example.com}]}}
`;

function written(text: string): Readonly<{ path: string } & Disposable> {
  const folder = new TemporaryFolder("policy-parts");
  const path = join(folder.path, "cardea.yaml");
  writeFileSync(path, text, { mode: 0o600 });
  return { path, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

const caseFor = (email: string): object => ({
  request: { method: "GET", url: "https://app.example.com/" },
  session: { id: "s", user_id: "u", claims: {} },
  user: { id: "u", email, name: "A" },
});

test("policy eval and policy lint use only the policies of an invalid configuration, and say so", async () => {
  using file = written(unrunnable);
  const cases = join(file.path, "..", "cases.jsonl");
  writeFileSync(cases, ["a@example.com", "a@example.org"].map((email) => JSON.stringify(caseFor(email))).join("\n"));
  const evaluated = await run(["policy", "eval", "-c", file.path, "--input", cases]);
  assert.equal(evaluated.code, 0, evaluated.err);
  assert.match(evaluated.err, /the configuration is invalid; evaluating its policies only/);
  const results = evaluated.out
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { result: string }).result);
  assert.deepEqual(results, ["permit", "deny"]);
  const linted = await run(["policy", "lint", "-c", file.path]);
  assert.equal(linted.code, 0, linted.err);
});

test("a mistake in a policy or a client authority remains an error", async () => {
  for (const text of [
    unrunnable.replace("domain:", "dommain:"),
    `${unrunnable}downstream_mtls: {ca_file: /nowhere/ca.pem}\n`,
  ]) {
    using file = written(text);
    const { code, err } = await run(["policy", "lint", "-c", file.path]);
    assert.equal(code, 1);
    assert.match(err, /dommain|downstream_mtls\.ca_file/);
    assert.doesNotMatch(err, /certificate_file|nats|authenticate_service_url/);
  }
});
