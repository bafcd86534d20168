/** Attached policies, as a console writes them, through a whole process: they decide, and explain a denial. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { echoOf, follow, startInstallation } from "./installation.ts";

test("attached policies permit and deny, and the error page shows their explanation and remediation", async (t) => {
  const staff = {
    id: "6f1c",
    name: "Staff only",
    rego: ["package pomerium.policy"],
    source_ppl: "allow:\n  and:\n    - email:\n        ends_with: '@example.com'\n    - groups: staff\n",
    explanation: "Only staff may come in.",
    remediation: "Ask the help desk.",
  };
  const at = await startInstallation(t, ({ url, upstream }) => ({
    groups_from_claim: "groups",
    routes: [
      { from: url("app"), to: upstream, show_error_details: true, sub_policies: [staff] },
      { from: url("quiet"), to: upstream, sub_policies: [staff] },
      { from: url("named"), to: upstream, sub_policies: [{ name: "Guests", allowed_users: ["carol@example.com"] }] },
    ],
  }));
  at.provider.person.claims = { groups: ["staff"] };
  echoOf((await follow(at.visitor(), at.url("app"))).end);

  at.provider.person.name = "carol";
  at.provider.person.claims = {};
  const carol = at.visitor();
  const { end } = await follow(carol, at.url("app"));
  assert.equal(end.status, 403);
  assert.match(end.body, /Staff only/);
  assert.match(end.body, /Only staff may come in\. Ask the help desk\./);
  const quiet = (await follow(carol, at.url("quiet"))).end;
  assert.equal(quiet.status, 403);
  assert.doesNotMatch(quiet.body, /help desk/);
  echoOf((await follow(carol, at.url("named"))).end);
});
