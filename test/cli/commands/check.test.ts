/** `cardea check`: validation of a configuration file or of environment variables. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "../../support/child.ts";
import { run } from "../support.ts";

const secret = (label: string): string => createHash("sha256").update(label).digest("base64");
const good = `services: [proxy]
authenticate_service_url: https://authenticate.example.com
idp_provider: oidc
idp_provider_url: https://idp.example.com
idp_client_id: cardea
shared_secret: ${secret("shared")}
cookie_secret: ${secret("cookies")}
address: 127.0.0.1:8000
insecure_server: true
broker: { urls: [https://broker.example.com:5443] }
nats: { servers: [tls://nats.example.com:4222] }
routes:
  - from: https://app.example.com
    to: http://127.0.0.1:9000
    policy: { allow: { and: [groups: { has: eng }] } }
`;

function written(text: string): Readonly<{ path: string } & Disposable> {
  const folder = new TemporaryFolder("check");
  const path = join(folder.path, "cardea.yaml");
  writeFileSync(path, text, { mode: 0o600 });
  return { path, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

test("a correct configuration is reported as valid", async () => {
  using file = written(good);
  assert.deepEqual(await run(["check", "-c", file.path]), { code: 0, out: `${file.path}: valid\n`, err: "" });
});

test("a note says that processes will collect garbage on the main thread, and a wrong setting starts none", async () => {
  using file = written(good);
  const { code, err } = await run(["check", "-c", file.path], { CARDEA_SINGLE_THREADED_GC: "true" });
  assert.equal(code, 0);
  assert.match(err, /^note: .*`cardea run` collects garbage on the main thread \(docs\/deploy\.md\)\n$/);
  for (const args of [["check", "-c", file.path], ["run", "-c", file.path], ["dev"]]) {
    const refused = await run(args, { CARDEA_SINGLE_THREADED_GC: "maybe" });
    assert.equal(refused.code, 2);
    assert.match(refused.err, /CARDEA_SINGLE_THREADED_GC must be auto, true or false/);
  }
});

test("problems of policies and of other keys are reported together, in the order of the file", async () => {
  using file = written(`nat: {}\n${good.replace("groups:", "gruops:")}    polcy: []\n`);
  const { code, out, err } = await run(["check", "-c", file.path]);
  assert.equal(code, 1);
  assert.equal(out, "");
  assert.deepEqual(
    err
      .trimEnd()
      .split("\n")
      .map((line) => line.slice(file.path.length).split(";")[0]),
    [
      ":1:1: error: nat: is not a known key",
      ":16:30: error: routes[0].policy.allow.and[0].gruops: unknown criterion `gruops`",
      ":17:5: error: routes[0].polcy: is not a known key",
      ": not valid, 3 errors",
    ],
  );
});

test("the policy of a route that is otherwise invalid is still checked, and --json reports the same problems", async () => {
  using file = written(good.replace("to: http://127.0.0.1:9000", "to: 5").replace("groups:", "gruops:"));
  const { code, out } = await run(["check", "-c", file.path, "--json"]);
  assert.equal(code, 1);
  const problems: { key: string; severity: string }[] = JSON.parse(out);
  assert.deepEqual(
    problems.map(({ key }) => key),
    ["routes[0].to", "routes[0].policy.allow.and[0].gruops"],
  );
});

test("without a file all settings come from environment variables", async () => {
  const routes = "- {from: https://a.example.com, to: http://127.0.0.1:1, allow_public_unauthenticated_access: true}";
  const env = {
    SHARED_SECRET: secret("shared"),
    COOKIE_SECRET: secret("cookies"),
    ADDRESS: "127.0.0.1:8000",
    INSECURE_SERVER: "true",
    ROUTES: Buffer.from(routes).toString("base64"),
  };
  assert.deepEqual(await run(["check"], env), { code: 0, out: "environment: valid\n", err: "" });
  const broken = await run(["check"], {
    ...env,
    ROUTES: Buffer.from(`${routes.slice(0, -1)}, polcy: 1}`).toString("base64"),
  });
  assert.equal(broken.code, 1);
  assert.match(broken.err, /^env ROUTES:1:\d+: error: routes\[0\]\.polcy: is not a known key/);
});

test("a missing argument is a usage error; a missing file is a problem", async () => {
  assert.equal((await run(["check"])).code, 2);
  assert.equal((await run(["check", "-c", "/nowhere/cardea.yaml"])).code, 1);
});

test("errors and warnings are labelled and counted, and a warning alone leaves the file valid", async () => {
  using file = written(`${good}    prefix: /a\n  - from: https://b.example.com\n    to: http://127.0.0.1:1\n`);
  const { code, out, err } = await run(["check", "-c", file.path]);
  assert.deepEqual([code, out], [0, `${file.path}: valid, 1 warning\n`]);
  assert.match(err, /:17:5: warning: routes\[1\]\.policy: is missing, so no one may use this route; /);
});

test("an RSA certificate is valid, and an ECDSA one is recommended", async () => {
  using folder = new TemporaryFolder("check-rsa");
  const names = ["-subj", "/CN=a", "-addext", "subjectAltName=DNS:*.example.com"];
  const lines = (kind: string, key: readonly string[]): string => {
    const [keyFile, certFile] = [join(folder.path, `${kind}.key`), join(folder.path, `${kind}.crt`)];
    const how = ["req", "-x509", "-newkey", ...key, "-nodes", "-days", "9", "-keyout", keyFile, "-out", certFile];
    execFileSync("openssl", [...how, ...names], { stdio: "ignore" });
    return `  - { cert: ${certFile}, key: ${keyFile} }\n`;
  };
  const ecdsa = lines("ecdsa", ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
  using both = written(`${good}certificates:\n${ecdsa}${lines("rsa", ["rsa:2048"])}`);
  assert.deepEqual(await run(["check", "-c", both.path]), {
    ...{ code: 0, out: `${both.path}: valid\n` },
    err: "advice: an ECDSA P-256 key makes each new TLS connection cheaper than the RSA key of DNS:*.example.com\n",
  });
  using one = written(`${good}certificates:\n${ecdsa}`);
  assert.equal((await run(["check", "-c", one.path])).err, "");
});

test("for a mistyped key beside the correct one the advice is to remove it", async () => {
  using file = written(`${good}    polciy: { allow: { and: [groups: { has: ops }] } }\n`);
  const { err } = await run(["check", "-c", file.path]);
  assert.match(err, /routes\[0\]\.polciy: is not a known key; remove it: policy is already set here\n/);
  using alone = written(good.replace("policy:", "polciy:"));
  assert.match((await run(["check", "-c", alone.path])).err, /polciy: is not a known key; did you mean policy\?\n/);
});

test("access requests that would not open their route, or whose members approve each other, are warned of", async () => {
  const access = (group: string, approver: string) =>
    `${good}    request_access: { group: ${group}, approvers: [${approver}] }\n`;
  using opens = written(access("eng", "group:leads"));
  assert.deepEqual(await run(["check", "-c", opens.path]), { code: 0, out: `${opens.path}: valid\n`, err: "" });
  using shut = written(access("hr", "group:hr"));
  const { code, err } = await run(["check", "-c", shut.path]);
  assert.equal(code, 0);
  assert.match(err, /:13:5: warning: request_access\.group: the policy of this route does not let members of hr in/);
  assert.match(err, /warning: request_access\.approvers: members of hr approve requests for hr/);
});
