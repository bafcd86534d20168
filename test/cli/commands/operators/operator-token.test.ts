/** `cardea operator token` and `cardea operator whoami`: a token with a role, and what it may do. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { decodeJwt } from "jose";
import { verifyOperatorToken } from "../../../../src/console/index.ts";
import { startOperatorWorld } from "../../../console/api/operator-support.ts";
import { TemporaryFolder } from "../../../support/child.ts";
import { run } from "../../support.ts";

test("a token has the role, the limit and the life that were asked for, and whoami says so", async (t) => {
  using folder = new TemporaryFolder("operator-token");
  const file = join(folder.path, "cardea.yaml");
  const secret = randomBytes(32);
  const config = {
    authenticate_service_url: "https://authenticate.example.com",
    ...{
      idp_provider: "oidc",
      idp_provider_url: "https://idp.example.com",
      idp_client_id: "a",
      idp_client_secret: "b",
    },
    ...{ shared_secret: secret.toString("base64"), cookie_secret: randomBytes(32).toString("base64") },
    ...{ insecure_server: true, address: "127.0.0.1:8080", broker: { cluster_name: "test" }, routes: [] },
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  const at = await startOperatorWorld(t);
  const env = { CARDEA_URL: at.world.url("authenticate") };
  const made = await run(["operator", "token", "-c", file, "--role", "viewer", "--name", "ci", "--valid", "8h"]);
  assert.equal(made.code, 0, made.err);
  const token = made.out.trim();
  const { exp = 0, iat = 0 } = decodeJwt(token);
  assert.equal(exp - iat, 8 * 3_600);
  const viewer = { ...env, CARDEA_TOKEN: await at.token({ role: "viewer" }) };
  const me = await run(["operator", "whoami"], viewer);
  assert.match(me.out, /who +token tester\nrole +viewer, all routes\n/, me.err);
  const refused = await run(["users", "suspend", "x"], viewer);
  assert.deepEqual([refused.code, /this needs the role operator; yours is viewer/.test(refused.err)], [3, true]);
  const limited = await run([
    "operator",
    "token",
    "-c",
    file,
    "--role",
    "operator",
    "--route-groups",
    "hr,it",
    "--json",
  ]);
  const json = JSON.parse(limited.out);
  assert.deepEqual([json.role, json.routeGroups], ["operator", ["hr", "it"]]);
  const whoami = await run(["operator", "whoami"], { ...env, CARDEA_TOKEN: await at.token(json) });
  assert.match(whoami.out, /role +operator, routes of hr, it\n/);
  const whole = (await run(["operator", "token", "-c", file])).out.trim();
  const verified = await verifyOperatorToken(whole, { secrets: [secret], cluster: "test", nowS: Date.now() / 1_000 });
  assert.deepEqual([verified?.role, verified?.routeGroups], ["administrator", null]);
  for (const wrong of [
    ["--role", "root"],
    ["--valid", "2y"],
    ["--valid", "0s"],
    ["--route-groups", "A b"],
    ["--name", "a b"],
  ])
    assert.equal((await run(["operator", "token", "-c", file, ...wrong])).code, 2, wrong.join(" "));
  assert.equal((await run(["operator", "token"])).code, 2, "without a configuration");
});
