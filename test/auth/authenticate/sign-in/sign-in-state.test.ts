/**
 * Sign-in state that travels through the browser and the provider: sealed, bound to one browser, valid for half an
 * hour.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { isProgrammaticRedirect } from "../../../../src/auth/authenticate/context.ts";
import { ownCookie } from "../../../../src/auth/authenticate/credentials/cookie-names.ts";
import { isRedirectable } from "../../../../src/auth/authenticate/route-host-server.ts";
import { isFromElsewhere } from "../../../../src/auth/authenticate/same-origin.ts";
import type { SignInRequest } from "../../../../src/auth/authenticate/sign-in/sign-in-request.ts";
import { beginningAt, openState, sealState } from "../../../../src/auth/authenticate/sign-in/sign-in-state.ts";
import { createValueCipher } from "../../../../src/auth/index.ts";
import { type Epoch, type Hash, type Position, parseIncarnationTag } from "../../../../src/events/index.ts";

let now = 1_700_000_000;
const nowS = (): number => now;
const key = new Uint8Array(32).fill(1);
const box = createValueCipher({ keys: [key], nowS });
const browser = "b".repeat(32);
const request: SignInRequest = {
  redirectUri: new URL("https://app.example.com/x?a=1"),
  callbackUri: null,
  idpIds: ["demo"],
  chosenIdpId: null,
  programmatic: "browser",
  nonceHash: "hash",
  account: "current",
  returns: 2,
  seen: null,
  additionalHosts: ["api.example.com"],
  trace: null,
};
const secrets = { nonce: "n".repeat(43), verifier: "v".repeat(43), idpId: "demo" };

test("a state opens only for the browser that started, with its full content", async () => {
  const sealed = await sealState(box, { ...secrets, request }, browser);
  assert.deepEqual(await openState(box, sealed, browser), { type: "ours", state: { ...secrets, request } });
  const callbackUri = new URL("https://app.example.com/.pomerium/callback/");
  const programmatic = { ...request, programmatic: "programmatic", callbackUri, nonceHash: "" } as const;
  const opened = await openState(box, await sealState(box, { ...secrets, request: programmatic }, browser), browser);
  assert.deepEqual(opened, { type: "ours", state: { ...secrets, request: programmatic } });
});

test("a state names the provider that was sent it, and the others among which the person may choose again", async () => {
  const state = { ...secrets, idpId: "second", request: { ...request, idpIds: ["demo", "second"] } };
  assert.deepEqual(await openState(box, await sealState(box, state, browser), browser), { type: "ours", state });
});

test("a state says where the sign-in began, as an older build may have sealed it too", async () => {
  const link = { epoch: 3 as Epoch, position: 700 as Position, hash: "a".repeat(64) as Hash };
  for (const begunLink of [link, { ...link, incarnation: parseIncarnationTag("a1b2c3d4") }]) {
    const state = { ...secrets, request, ...beginningAt(begunLink) };
    assert.equal(state.begunAt, 700);
    assert.deepEqual(await openState(box, await sealState(box, state, browser), browser), { type: "ours", state });
  }
  const older = { ...secrets, request, begunAt: link.position };
  assert.deepEqual(await openState(box, await sealState(box, older, browser), browser), { type: "ours", state: older });
});

test("a state cannot be read on the way", async () => {
  const sealed = await sealState(box, { ...secrets, request }, browser);
  const readable = sealed.split(".").map((part) => Buffer.from(part, "base64url").toString("latin1"));
  for (const part of [sealed, ...readable]) assert.ok(!/app\.example\.com|vvvv|nnnn/.test(part));
});

test("another browser learns only where to restart sign-in, and none of the secrets", async () => {
  const sealed = await sealState(box, { ...secrets, request }, browser);
  for (const other of [undefined, "", "c".repeat(32)]) {
    assert.deepEqual(await openState(box, sealed, other), { type: "of-another-browser", request });
  }
});

test("a state is refused when it is old, changed, from the future, of another key or of another purpose", async () => {
  const sealed = await sealState(box, { ...secrets, request }, browser);
  const unknown = { type: "unknown" };
  now += 30 * 60;
  assert.equal((await openState(box, sealed, browser)).type, "ours");
  now += 1;
  assert.deepEqual(await openState(box, sealed, browser), unknown);
  now -= 30 * 60 + 1 + 61;
  assert.deepEqual(await openState(box, sealed, browser), unknown, "from the future");
  now += 61;
  const other = createValueCipher({ keys: [new Uint8Array(32).fill(9)], nowS });
  assert.deepEqual(await openState(other, sealed, browser), unknown);
  assert.deepEqual(await openState(box, `${sealed.slice(0, -2)}AA`, browser), unknown);
  assert.deepEqual(await openState(box, "", browser), unknown);
  assert.deepEqual(
    await openState(box, await box.seal("session handle", { to: "https://a.example" }), browser),
    unknown,
  );
  const rotated = createValueCipher({ keys: [new Uint8Array(32).fill(9), key], nowS });
  assert.equal((await openState(rotated, sealed, browser)).type, "ours", "the previous key still opens");
});

test("an address too long for a state loses its query, then its path, and the state stays short", async () => {
  const at = async (redirectUri: URL): Promise<string> => {
    const sealed = await sealState(box, { ...secrets, request: { ...request, redirectUri } }, browser);
    assert.ok(sealed.length <= 7_000, `${sealed.length} characters`);
    const opened = await openState(box, sealed, browser);
    return opened.type === "ours" ? opened.state.request.redirectUri.href : opened.type;
  };
  const long = "q".repeat(2_000);
  assert.equal(await at(new URL(`https://app.example.com/x?${long}`)), `https://app.example.com/x?${long}`);
  assert.equal(
    await at(new URL(`https://app.example.com/x?${long}${long}`)),
    `https://app.example.com/x?${long}${long}`,
  );
  assert.equal(await at(new URL(`https://app.example.com/x?${long}${long}${long}`)), "https://app.example.com/x");
  assert.equal(await at(new URL(`https://app.example.com/${long}${long}${long}?a=1`)), "https://app.example.com/");
});

test("cookies of the proxy are bound to their host wherever browsers allow it", () => {
  const https = new URL("https://app.example.com");
  const http = new URL("http://app.localhost:8080");
  assert.equal(ownCookie("_pomerium", "nonce", https), "__Host-_pomerium_nonce");
  assert.equal(ownCookie("__Host-id", "csrf", https), "__Host-id_csrf");
  assert.equal(ownCookie("__Secure-id", "authenticate", https), "__Host-id_authenticate");
  assert.equal(ownCookie("_pomerium", "nonce", http), "_pomerium_nonce");
  assert.equal(ownCookie("__Host-id", "nonce", http), "id_nonce");
});

test("only browser navigations are redirected to sign-in", () => {
  const at = (headers: Record<string, string>, more: { method?: string; query?: string } = {}): boolean =>
    isRedirectable({ method: "GET", query: "", headers, ...more });
  const html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
  const mozilla = { "user-agent": "Mozilla/4.0 (compatible; MSIE 8.0)" };
  assert.ok(!at({}), "a program: no Accept");
  assert.ok(!at({ accept: "*/*", "user-agent": "git/2.47.3" }));
  assert.ok(!at({ accept: "image/png" }));
  assert.ok(at(mozilla), "an old browser");
  assert.ok(at({ ...mozilla, accept: "*/*" }));
  assert.ok(at({ accept: "*/*", "sec-fetch-mode": "navigate" }));
  assert.ok(at({ accept: html, "sec-fetch-mode": "navigate" }));
  assert.ok(at({ ...mozilla, accept: "image/png" }), "an Accept without any type that is available");
  assert.ok(at({ ...mozilla, accept: "nonsense" }));
  assert.ok(at({ accept: "text/html;q=0.5, application/json;q=0.4" }));
  assert.ok(!at({ accept: html, "sec-fetch-mode": "cors" }));
  assert.ok(!at({ accept: html, "sec-fetch-mode": "no-cors" }));
  assert.ok(!at({ accept: "application/json" }));
  assert.ok(!at({ accept: "application/json, text/html" }));
  assert.ok(!at({ accept: "text/html;q=0.5, application/json" }));
  assert.ok(!at({ accept: "text/html;q=0, */*" }));
  assert.ok(!at({ accept: html }, { method: "POST" }));
  assert.ok(!at({ ...mozilla, "content-type": "application/grpc" }));
  assert.ok(!at({ ...mozilla, "content-type": "application/grpc-web+proto" }));
  assert.ok(!at({ ...mozilla, authorization: "Pomerium abc" }));
  assert.ok(!at({ ...mozilla, authorization: "bearer pomerium-abc" }));
  assert.ok(at({ ...mozilla, authorization: "Basic abc" }), "the application's own credential");
  assert.ok(!at({ ...mozilla, "x-pomerium-authorization": "abc" }));
  assert.ok(!at(mozilla, { query: "a=1&pomerium_session=abc" }));
  assert.ok(at(mozilla, { query: "not_pomerium_session=abc" }));
});

test("a request from a page of another site is recognised", () => {
  const origin = "https://app.example.com";
  const from = (headers: Record<string, string>): boolean => isFromElsewhere(headers, origin);
  assert.ok(!from({}), "not a browser");
  assert.ok(!from({ "sec-fetch-site": "same-origin" }));
  assert.ok(!from({ "sec-fetch-site": "none" }), "a typed address");
  assert.ok(from({ "sec-fetch-site": "cross-site" }));
  assert.ok(from({ "sec-fetch-site": "same-site" }), "a sibling host counts as another site");
  assert.ok(from({ "sec-fetch-site": "cross-site", origin }), "Fetch Metadata cannot be forged by a page");
  assert.ok(!from({ origin }));
  assert.ok(from({ origin: "null" }));
  assert.ok(from({ origin: "https://app.example.com:8443" }));
  assert.ok(!from({ referer: `${origin}/page` }));
  assert.ok(from({ referer: "https://evil.example/https://app.example.com" }));
  assert.ok(from({ referer: "nonsense" }));
});

test("a programmatic redirect must be exactly a listed host, and unencrypted only on the loopback", () => {
  const allowed = (url: string, hosts = ["localhost", "cli.example.com"]): boolean =>
    isProgrammaticRedirect(new URL(url), hosts);
  assert.ok(allowed("http://localhost:4000/x"));
  assert.ok(allowed("http://127.0.0.1:4000/"));
  assert.ok(allowed("http://127.8.8.8/"));
  assert.ok(allowed("http://[::1]:4000/"));
  assert.ok(allowed("https://cli.example.com/done"));
  assert.ok(!allowed("http://cli.example.com/done"), "unencrypted");
  assert.ok(!allowed("https://evil.cli.example.com/"), "below a listed host");
  assert.ok(!allowed("https://example.com/"));
  assert.ok(!allowed("https://localhost.evil.example/"));
  assert.ok(!allowed("http://127.0.0.1.evil.example/"));
  assert.ok(!allowed("http://app.localhost/"));
  assert.ok(!allowed("http://127.0.0.1/", ["cli.example.com"]));
});
