/**
 * `shadow_policy` for policy authors: it is checked like any policy, and the `cardea policy` commands evaluate it with
 * --shadow.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { run } from "./support.ts";

const folder = new TemporaryFolder("policy-shadow");
after(() => folder[Symbol.dispose]());
let files = 0;
function write(content: object): string {
  const path = join(folder.path, `file-${files++}.yaml`);
  writeFileSync(path, JSON.stringify(content), { mode: 0o600 });
  return path;
}
const configured = (shadow: object) =>
  write({
    authenticate_service_url: "https://auth.example.com",
    insecure_server: true,
    idp_provider: "oidc",
    ...{ idp_provider_url: "https://idp.example.com", idp_client_id: "id", idp_client_secret: "s" },
    data_dir: join(folder.path, "data"),
    routes: [
      {
        ...{ id: "wiki", from: "https://wiki.example.com", to: "http://127.0.0.1:9" },
        policy: { allow: { or: [{ groups: "staff" }] } },
        shadow_policy: shadow,
      },
    ],
  });
const ann = {
  session: { id: "s", user_id: "ann", claims: {} },
  user: { id: "ann", email: "ann@example.com", name: "" },
};
const onlyEng = { allow: { or: [{ groups: "eng" }] } };

test("policy eval uses the live policy, or the shadow policy with --shadow", async () => {
  const config = configured(onlyEng);
  const one = {
    ...ann,
    groups: ["staff"],
    request: { method: "GET", url: "https://wiki.example.com/", headers: {}, ip: "192.0.2.1" },
  };
  const evaluate = async (...args: string[]) =>
    JSON.parse((await run(["policy", "eval", "-c", config, "--input", write(one), ...args])).out) as {
      result: string;
      rule: string;
    };
  assert.deepEqual([(await evaluate()).result, (await evaluate()).rule], ["permit", "policy.allow.or"]);
  assert.equal((await evaluate("--shadow")).result, "deny");
  assert.equal((await run(["policy", "eval", "--policy", write(onlyEng), "--shadow"])).code, 2);
});

test("policy test --shadow runs its tables against the shadow policy, and coverage counts its rules", async () => {
  const people = { ann: { ...ann, groups: ["eng"] } };
  const cases = [{ name: "engineers", as: "ann", url: "https://wiki.example.com/", expect: "permit" }];
  const table = write({ config: configured(onlyEng), people, cases });
  assert.equal((await run(["policy", "test", table])).code, 1);
  const shadow = await run(["policy", "test", table, "--shadow", "--json"]);
  assert.equal(shadow.code, 0, shadow.out);
  assert.equal((JSON.parse(shadow.out) as { coverage: { percent: number } }).coverage.percent, 100);
});

test("policy lint checks both policies", async () => {
  const { code, out } = await run([
    "policy",
    "lint",
    "-c",
    configured({ allow: { and: [{ email: "a@x.example" }, { email: "b@x.example" }] } }),
  ]);
  assert.equal(code, 1);
  assert.match(out, /wiki: shadow_policy\.allow\.and: this allow rule can never be met/);
});

test("a mistake in a shadow policy refuses the configuration, with its position and the nearest name", async () => {
  const { code, err } = await run(["check", "-c", configured({ allow: { or: [{ emial: "a@x.example" }] } })]);
  assert.equal(code, 1);
  assert.match(err, /:\d+:\d+: .*shadow_policy.*emial.*email/);
});
