import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { run } from "./support.ts";

const secret = (of: string): string => createHash("sha256").update(of).digest("base64");
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

test("a configuration that is right is said to be valid", async () => {
  using file = written(good);
  assert.deepEqual(await run(["check", "-c", file.path]), { code: 0, out: `${file.path}: valid\n`, err: "" });
});

test("what is wrong in a policy is said together with what is wrong around it, in the order of the file", async () => {
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
      ":1:1: nat: is not a known key",
      ":16:30: routes[0].policy.allow.and[0].gruops: unknown criterion `gruops`",
      ":17:5: routes[0].polcy: is not a known key",
    ],
  );
});

test("the policy of a route that cannot be read is checked all the same, and --json has the same problems", async () => {
  using file = written(good.replace("to: http://127.0.0.1:9000", "to: 5").replace("groups:", "gruops:"));
  const { code, out } = await run(["check", "-c", file.path, "--json"]);
  assert.equal(code, 1);
  const problems: { key: string; severity: string }[] = JSON.parse(out);
  assert.deepEqual(
    problems.map(({ key }) => key),
    ["routes[0].to", "routes[0].policy.allow.and[0].gruops"],
  );
});

test("without a file everything comes from environment variables", async () => {
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
  assert.match(broken.err, /^env ROUTES:1:\d+: routes\[0\]\.polcy: is not a known key/);
});

test("no file named is wrong use; a file that is not there is a problem", async () => {
  assert.equal((await run(["check"])).code, 2);
  assert.equal((await run(["check", "-c", "/nowhere/cardea.yaml"])).code, 1);
});
