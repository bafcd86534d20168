// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** Old tokens: a valid credential does not restore groups that its owner has left since. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { bearing, echoOf, shared, startInstallation } from "./installation.ts";

const installation = shared((t) =>
  startInstallation(t, ({ url, upstream }) => ({
    groups_from_claim: "groups",
    routes: [
      {
        from: url("app"),
        to: upstream,
        set_request_headers: { "X-Id": "${pomerium.id_token}" },
        allow_any_authenticated_user: true,
      },
      { from: url("id"), to: upstream, bearer_token_format: "idp_identity_token", allow_any_authenticated_user: true },
      {
        from: url("audience"),
        to: upstream,
        bearer_token_format: "idp_access_token",
        idp_access_token_allowed_audiences: ["https://api.example.com"],
        allow_any_authenticated_user: true,
      },
      { from: url("staff"), to: upstream, policy: { allow: { and: [{ groups: "staff" }] } } },
    ],
  })),
);

test("a token from before its owner left a group does not restore the membership; one from after joining adds it", async () => {
  const at = installation();
  const { person } = at.provider;
  const signIn = async () => {
    const visitor = at.visitor();
    return { visitor, id: String(echoOf(await visitor.navigate(at.url("app"))).headers["x-id"]) };
  };
  const cli = at.visitor();
  person.claims = { groups: ["staff"] };
  const before = await signIn();
  assert.equal((await before.visitor.navigate(at.url("staff"))).status, 200);
  await sleep(1_100); // times in tokens have a resolution of 1 s

  person.claims = { groups: [] };
  const after = await signIn();
  assert.equal((await after.visitor.navigate(at.url("staff"))).status, 403);
  assert.equal((await cli.request(at.url("id"), bearing(before.id))).status, 200, "it is still a valid credential");
  assert.equal((await after.visitor.navigate(at.url("staff"))).status, 403);
  await sleep(1_100);

  const newer = await at.provider.accessTokenFor("https://api.example.com", { groups: ["staff"] });
  assert.equal((await cli.request(at.url("audience"), bearing(newer))).status, 200);
  assert.equal((await after.visitor.navigate(at.url("staff"))).status, 200);
});
