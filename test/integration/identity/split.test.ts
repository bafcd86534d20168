// biome-ignore-all lint/suspicious/noTemplateCurlyInString: header templates look so
/** A separate proxy: it has no client secret, and calls brokers over the network. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt } from "jose";
import { bearing, echoOf, follow, retryUndecided, startInstallation } from "./installation.ts";

test("routes with their own client, bearer tokens and tokens for upstreams work with a separate proxy", async (t) => {
  const forwards = { set_request_headers: { "X-Access": "${pomerium.access_token}", "X-Id": "${pomerium.id_token}" } };
  const everyone = { allow_any_authenticated_user: true };
  const at = await startInstallation(
    t,
    ({ url, upstream }) => ({
      jwt_claims_headers: { "X-Email": "email" },
      pass_identity_headers: true,
      routes: [
        {
          from: url("own"),
          to: upstream,
          ...everyone,
          ...forwards,
          idp_client_id: "second",
          idp_client_secret: "the client secret of second",
          depends_on: [url("app")],
        },
        { from: url("app"), to: upstream, ...everyone },
        { from: url("access"), to: upstream, bearer_token_format: "idp_access_token", ...everyone },
      ],
    }),
    "split",
  );
  const visitor = at.visitor();
  const { headers } = echoOf((await follow(visitor, at.url("own"))).end);
  assert.equal(decodeJwt(String(headers["x-id"])).aud, "second");
  echoOf(await retryUndecided(() => visitor.request(at.url("app"))));
  const cli = at.visitor();
  const bearer = echoOf(
    await retryUndecided(() => cli.request(at.url("access"), bearing(String(headers["x-access"])))),
  );
  assert.equal(bearer.headers["x-email"], "alice@example.com");
  assert.equal(bearer.headers.authorization, undefined);
  assert.equal((await cli.request(at.url("access"), bearing("made-up"))).status, 403);
});
