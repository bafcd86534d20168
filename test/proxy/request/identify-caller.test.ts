/**
 * Caller identification: a handle is verified once per configuration, and its holder is looked up for each request.
 * holder now.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { readCredential, type SessionHandle } from "../../../src/auth/index.ts";

import type { UnixMs } from "../../../src/events/index.ts";
import type { ProxyDeps } from "../../../src/proxy/request/dependencies.ts";
import {
  anonymous,
  type CallerIdentifier,
  type CredentialHolder,
  createCallerIdentifier,
  ReachedHandles,
} from "../../../src/proxy/request/identify-caller.ts";
import { sessionId, userId } from "../../events/support.ts";
import { cookieOf, routeTo } from "../support.ts";

const route = routeTo(0);

function createCounters() {
  const seen = { read: 0, verified: 0, resolved: 0 };
  const verify = (token: string): SessionHandle | "invalid" => {
    seen.verified++;
    if (!token.startsWith("s")) return "invalid";
    return { sessionId: sessionId(1), userId: userId(1), idpId: "idp", needs: null, audience: [route.host] };
  };
  const credentials = (): ProxyDeps["credentials"] => ({
    read(headers, query) {
      seen.read++;
      return readCredential(headers, query, "_pomerium");
    },
    verify,
  });
  const make = (): CallerIdentifier =>
    createCallerIdentifier(
      {
        config: { cookie: { domain: null } } as ProxyDeps["config"],
        credentials: credentials(),
        bearerTokens: { identify: () => ({ type: "refused" }), accepts: () => false },
        catchUp: async () => "reached",
        resolveCaller: (handle) => {
          seen.resolved++;
          return {
            type: "anonymous",
            why: handle === undefined ? "nobody" : "session-revoked",
            credentialInHeader: false,
          };
        },
        signInOf: () => ({ idpIds: ["idp"], allows: new Set(["idp"]), bearerIdpId: "idp" }),
        replica: {} as ProxyDeps["replica"],
      },
      new ReachedHandles(),
    );
  return { seen, make };
}

function identify(
  identifier: CallerIdentifier,
  lines: readonly [name: string, value: string],
  more: Readonly<{ hostname?: string; search?: string }> = {},
): CredentialHolder {
  const [name, value] = lines;
  const headers = { [name.toLowerCase()]: value };
  const holder = identifier.identify({ headers, hostname: route.host, search: "", ...more }, route, "192.0.2.1");
  assert.ok(typeof holder === "object" && !(holder instanceof Promise));
  return holder;
}

for (const [where, lines, credentialInHeader] of [
  ["a cookie", ["Cookie", cookieOf(1)], false],
  ["a header", ["Authorization", "Pomerium s1"], true],
] as const) {
  test(`the holder of a handle in ${where} is looked up each time`, () => {
    const { seen, make } = createCounters();
    const identifier = make();
    const [first, again] = [identify(identifier, lines), identify(identifier, lines)];
    assert.deepEqual(again, first);
    assert.equal(first.credentialInHeader, credentialInHeader);
    assert.equal(first.handle?.sessionId, sessionId(1));
    for (const holder of [first, again]) identifier.resolve(holder, route, 0 as UnixMs);
    assert.equal(seen.resolved, 2);
  });
}

test("a handle is valid only for the hosts in its audience", () => {
  const identifier = createCounters().make();
  assert.ok(identify(identifier, ["Cookie", cookieOf(1)]).handle);
  assert.equal(identify(identifier, ["Cookie", cookieOf(1)], { hostname: "other.localhost" }).handle, undefined);
});

test("each configuration verifies a handle itself", () => {
  const { seen, make } = createCounters();
  for (const identifier of [make(), make()]) assert.ok(identify(identifier, ["Cookie", cookieOf(1)]).handle);
  assert.equal(seen.verified, 2);
});

test("a handle in the query is valid for its own request only", () => {
  const identifier = createCounters().make();
  assert.ok(identify(identifier, ["Accept", "*/*"], { search: "?pomerium_session=s1" }).handle);
  assert.equal(identify(identifier, ["Accept", "*/*"]), anonymous);
  assert.equal(identify(identifier, ["Cookie", "_pomerium=x"]).handle, undefined);
});
