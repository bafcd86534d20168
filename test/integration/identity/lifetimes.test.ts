/** Lifetime of sessions on a route, with a real provider. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, startInstallation } from "./installation.ts";

const everyone = { allow_any_authenticated_user: true };

test("a route with a shorter lifetime asks for a new sign-in, which succeeds, and other routes keep the session", async (t) => {
  const at = await startInstallation(t, ({ url, upstream }) => ({
    routes: [
      { from: url("app"), to: upstream, ...everyone },
      { from: url("strict"), to: upstream, ...everyone, session_lifetime: "3s" },
    ],
  }));
  const visitor = at.visitor();
  echoOf((await follow(visitor, at.url("app"))).end);
  echoOf((await follow(visitor, at.url("strict"))).end);
  const cookieOf = (host: string): string => visitor.cookieHeader(new URL(at.url(host)));
  const [atApp, atStrict] = [cookieOf("app"), cookieOf("strict")];
  await waitFor("the lifetime to pass", async () => (await visitor.request(at.url("strict"))).status === 302);
  const { hops, end } = await follow(visitor, at.url("strict"));
  echoOf(end);
  assert.ok(
    hops.some(({ hostname }) => hostname === "idp.localhost"),
    "the provider was asked again",
  );
  assert.notEqual(cookieOf("strict"), atStrict);
  assert.equal((await visitor.request(at.url("app"))).status, 200);
  assert.equal(cookieOf("app"), atApp);
});
