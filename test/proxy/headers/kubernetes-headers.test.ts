/** Headers for a Kubernetes API server, from a caller that tries to impersonate another user. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { impersonationLines, mayImpersonate } from "../../../src/proxy/headers/kubernetes.ts";
import {
  buildUpstreamHeaders,
  compileHeaderRules,
  forwardedTrailers,
} from "../../../src/proxy/headers/upstream-headers.ts";
import { canonicaliseRequest } from "../../../src/proxy/message/canonical-request.ts";
import { ownCookies } from "../../../src/proxy/message/cookies.ts";
import { route } from "../../auth/authorize/support.ts";

const rules = { token: () => "ours" };
const email = "alice@example.com";
const groupsOf = (groups: readonly string[]): readonly string[] =>
  impersonationLines(rules, { email, groups })
    .slice(4)
    .filter((_, i) => i % 2 === 1);

test("a group whose name would change in transit is dropped", () => {
  const tricks = [
    "\u0001system:masters",
    "\u007fSystem:masters",
    "\tsystem:masters",
    " system:masters",
    "system:masters",
  ];
  assert.deepEqual(groupsOf([...tricks, " eng", "eng ", "eng\u0000", "e\nng", "\ud800", ""]), []);
  assert.deepEqual(groupsOf(["eng", "data science", "größe"]), [
    "eng",
    "data science",
    Buffer.from("größe").toString("latin1"),
  ]);
});

test("an e-mail that would change in transit is refused", () => {
  for (const trick of ["\u0001system:admin", " system:admin", ` ${email}`, `${email}\u0000`, ""])
    assert.equal(mayImpersonate({ email: trick }), false, JSON.stringify(trick));
  assert.equal(mayImpersonate({ email }), true);
});

describe("the caller's own headers", () => {
  const compiled = compileHeaderRules(
    route({}),
    { jwtClaimsHeaders: {}, xffNumTrustedHops: 0, skipXffAppend: false },
    ownCookies("_pomerium"),
    rules,
  );
  function claims(sent: readonly string[]): readonly string[] {
    const rawHeaders = ["Host", "kube.example", ...sent];
    const canonical = canonicaliseRequest({ method: "GET", url: "/api", httpVersion: "1.1", rawHeaders });
    assert.ok(canonical.type === "canonical", JSON.stringify(canonical));
    return buildUpstreamHeaders(compiled, {
      request: canonical.request,
      ...{ authority: "kube.example", scheme: "https", peer: "192.0.2.1", upstreamHost: "api" },
      sessionId: "s1",
      identity: { assertion: "", claimHeaders: [], email, groups: ["eng"] },
    });
  }
  const names = [
    "Authorization",
    "Impersonate-User",
    "impersonate-group",
    "Impersonate-Uid",
    "Impersonate-Extra-scopes",
  ].concat(["X-Remote-User", "x-remote-group", "X.Remote.Extra-Scopes"]);

  test("never identify the caller, in the head or in trailers", () => {
    const lines = names.flatMap((name) => [name, "mallory"]);
    assert.ok(!claims(lines).includes("mallory"), claims(lines).join("\n"));
    assert.deepEqual(forwardedTrailers(compiled, { headers: {} }, lines), []);
  });

  test("lose a token among the subprotocols of a WebSocket, and keep the other subprotocols", () => {
    const bearer = "base64url.bearer.authorization.k8s.io.bWFsbG9yeQ";
    const protocols = (value: string): string | undefined => {
      const lines = claims(["Sec-WebSocket-Protocol", value]);
      const at = lines.indexOf("Sec-WebSocket-Protocol");
      return at < 0 ? undefined : lines[at + 1];
    };
    assert.equal(protocols(`${bearer}, v5.channel.k8s.io,v4.channel.k8s.io`), "v5.channel.k8s.io,v4.channel.k8s.io");
    assert.equal(protocols(`v4.channel.k8s.io, ${bearer.toUpperCase()}`), "v4.channel.k8s.io");
    assert.equal(protocols(bearer), undefined);
    assert.equal(protocols("v5.channel.k8s.io"), "v5.channel.k8s.io");
  });
});
