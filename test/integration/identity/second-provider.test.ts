/** Two identity providers of independent implementations at once: oidc-provider and better-auth. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type BetterAuthProvider, startBetterAuth } from "../../support/better-auth-provider.ts";
import type { Visitor, VisitorResponse } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, shared, startInstallation } from "./installation.ts";

const everyone = { allow_any_authenticated_user: true, pass_identity_headers: true };
const started: { second?: BetterAuthProvider } = {};
const second = (): BetterAuthProvider => started.second ?? assert.fail("not started");

const installation = shared((t) =>
  startInstallation(t, async ({ url, upstream }) => {
    const provider = await startBetterAuth(t, url("authenticate", "/oauth2/callback/second"));
    started.second = provider;
    const { issuer, clientId, clientSecret } = provider;
    return {
      jwt_claims_headers: ["email", "name"],
      refresh_interval: "1s",
      sign_in_providers: {
        second: {
          ...{ provider: "oidc", provider_url: issuer.href, client_id: clientId, client_secret: clientSecret },
          // It announces several methods, and insists on the one for which the client is registered.
          client_auth: "client_secret_basic",
        },
      },
      routes: [
        { from: url("app"), to: upstream, ...everyone },
        { from: url("wiki"), to: upstream, ...everyone, sign_in_providers: ["second"] },
      ],
    };
  }),
);

/** Signs in at the provider, as a person does there before they are sent on. */
async function signInThere(visitor: Visitor): Promise<void> {
  const { person, signInUrl } = second();
  const { status, body } = await visitor.request(signInUrl, {
    method: "POST",
    headers: { "content-type": "application/json", origin: signInUrl.origin },
    body: JSON.stringify({ email: person.email, password: person.password }),
  });
  assert.equal(status, 200, body);
}

test("people sign in at either, and each provider's claims arrive", async () => {
  const at = installation();
  const visitor = at.visitor();
  await signInThere(visitor);
  const { hops, end } = await follow(visitor, at.url("wiki"));
  const back = hops.find(({ pathname }) => pathname === "/oauth2/callback/second");
  assert.equal(back?.searchParams.get("iss"), second().issuer.href, "RFC 9207");
  const nameOf = (answer: VisitorResponse) => echoOf(answer).headers["x-pomerium-claim-name"];
  assert.equal(nameOf(end), "Sam Second");
  assert.equal(nameOf((await follow(at.visitor(), at.url("app"))).end), "alice");
});

test("an address that the provider itself calls unverified is no e-mail of the person", async () => {
  const at = installation();
  const visitor = at.visitor();
  await signInThere(visitor);
  const { headers } = echoOf((await follow(visitor, at.url("wiki"))).end);
  const assertion = String(headers["x-pomerium-jwt-assertion"]).split(".")[1] ?? "";
  assert.equal(JSON.parse(Buffer.from(assertion, "base64url").toString()).email ?? "", "");
});

test("its sessions are refreshed with its rotating tokens, and continue", async () => {
  const at = installation();
  const visitor = at.visitor();
  await signInThere(visitor);
  echoOf((await follow(visitor, at.url("wiki"))).end);
  const before = second().requestedPaths.filter((path) => path.endsWith("/token")).length;
  const tokens = () => second().requestedPaths.filter((path) => path.endsWith("/token")).length;
  await waitFor("three refreshes", () => tokens() >= before + 3, { withinMs: 60_000 });
  assert.equal((await visitor.request(at.url("wiki"))).status, 200);
});

test("an answer with the issuer of the other provider is refused", async () => {
  const at = installation();
  const visitor = at.visitor();
  await signInThere(visitor);
  const honest = await visitor.navigate(at.url("wiki"), { until: at.url("authenticate", "/oauth2") });
  const answer = new URL(honest.location ?? assert.fail(honest.body));
  answer.searchParams.set("iss", at.provider.issuer.origin);
  assert.equal((await visitor.request(answer)).status, 502);
});
