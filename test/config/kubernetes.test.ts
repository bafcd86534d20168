/** Routes to Kubernetes API servers: their keys, and refused settings that would let a caller act as another user. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { base, config, errors, warnings } from "./support.ts";

const route = (more: string): string => `${base}routes:
  - from: https://kube.example.com
    to: https://10.0.0.1:6443
    policy: {allow: {or: [authenticated_user: true]}}
${more
  .split("\n")
  .map((line) => `    ${line}\n`)
  .join("")}`;
const token = "kubernetes_service_account_token: eyJhbGciOi.abc.def";

suite("a route to an API server", () => {
  test("has a token and no time-outs", () => {
    const [found] = config(route(token)).routes;
    assert.deepEqual(found?.kubernetes, { token: "eyJhbGciOi.abc.def", tokenFile: null });
    assert.deepEqual([found?.timeoutMs, found?.idleTimeoutMs], [0, 0]);
    assert.equal(config(route("name: x")).routes[0]?.kubernetes, null);
  });
  test("may have its token in a file; another token there is the same configuration", () => {
    const written = route("kubernetes_service_account_token_file: /token");
    const [one, other] = ["a.b.c\n", "d.e.f"].map((text) => config(written, { files: { "/token": text } }));
    assert.deepEqual(one?.routes[0]?.kubernetes, { token: "a.b.c", tokenFile: "/token" });
    assert.equal(one?.hash, other?.hash);
    const inline = [token, token.replace("def", "xyz")].map((line) => config(route(line)).hash);
    assert.notEqual(inline[0], inline[1]);
  });
  const refused = [
    ["a token file that does not exist", "kubernetes_service_account_token_file: /none", /\/none cannot be read/],
    ["a token with a space", 'kubernetes_service_account_token: "two words"', /is not a token/],
    ["a header that names a user", `${token}\nset_request_headers: {Impersonate-User: root}`, /which user to act for/],
    [
      "an authorization header of its own",
      `${token}\nset_request_headers: {authorization: x}`,
      /which user to act for/,
    ],
  ] as const;
  for (const [name, lines, problem] of refused)
    test(`is refused with ${name}`, () => assert.match(errors(route(lines)).join("\n"), problem));
  test("is refused with public access: no user could be named", () => {
    const open = route(`${token}\nallow_public_unauthenticated_access: true`).replace(/ {4}policy:.*\n/, "");
    assert.match(errors(open).join(), /allow_public_unauthenticated_access: would let anyone act/);
  });
  test("without an upstream is refused", () => {
    const fixed = route(`${token}\nresponse: {status: 200}`).replace(/ {4}to:.*\n/, "");
    assert.match(errors(fixed).join(), /kubernetes_service_account_token: has no API server to call/);
  });
  test("in plain HTTP is a warning", () => {
    const plain = route(token).replace("https://10.0.0.1", "http://10.0.0.1");
    assert.match(
      warnings(plain).join(),
      /is plain HTTP, so anyone on the network path can read the service account's token/,
    );
  });
});
