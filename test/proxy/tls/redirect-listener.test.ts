/** Redirect listener: plain HTTP that redirects to HTTPS, answers ACME challenges, and does nothing else. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type RedirectListener, startRedirectListener } from "../../../src/proxy/tls/redirect-listener.ts";
import { sendRaw, sendRequest } from "../support.ts";

const listen = { host: "127.0.0.1", port: 0 };
let redirect: RedirectListener;
let proxied: RedirectListener;
const refused: string[] = [];
before(async () => {
  const options = {
    listen,
    useProxyProtocol: false,
    portOf: (hostname: string) => (hostname === "odd.example" ? 8443 : null),
    challengeAnswer: (token: string) => (token === "tok_en-1" ? "tok_en-1.print" : undefined),
    onRefused: (code: string) => void refused.push(code),
  };
  redirect = await startRedirectListener(options);
  proxied = await startRedirectListener({ ...options, useProxyProtocol: true });
});
after(async () => {
  await redirect.close();
  await proxied.close();
});

for (const [host, path, location] of [
  ["app.example", "/", "https://app.example/"],
  ["APP.example:80", "/a%2Fb?x=1&y=%20", "https://app.example/a%2Fb?x=1&y=%20"],
  ["odd.example", "/x", "https://odd.example:8443/x"],
  ["[2001:db8::1]:8080", "//evil.example/", "https://[2001:db8::1]//evil.example/"],
] as const)
  test(`${host}${path} is redirected to ${location}, and the connection closes`, async () => {
    for (const method of ["GET", "POST"]) {
      const answer = await sendRequest(redirect.address.port, { host, path, method });
      assert.equal(answer.status, 301);
      assert.equal(answer.headers.location, location);
      assert.equal(answer.headers.connection, "close");
      assert.equal(answer.headers["set-cookie"], undefined);
    }
  });

test("a request without a valid host or path is 400", async () => {
  for (const head of [
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: app.example\r\nHost: other.example\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: user@app.example\r\n\r\n",
    "GET http://other.example/ HTTP/1.1\r\nHost: app.example\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: app.example\r\n\r\n",
  ]) {
    const answer = await sendRaw(redirect.address.port, head, 20_000);
    assert.match(answer, /^HTTP\/1\.1 400 /, head);
    assert.doesNotMatch(answer, /^location:/im);
  }
  assert.ok(refused.includes("redirect-target"));
});

test("a pending ACME challenge is answered on any host; any other is redirected", async () => {
  const path = "/.well-known/acme-challenge/tok_en-1";
  const answer = await sendRequest(redirect.address.port, { host: "10.0.0.1", path });
  assert.deepEqual([answer.status, answer.body], [200, "tok_en-1.print"]);
  for (const other of ["/.well-known/acme-challenge/other", `${path}/x`, `${path}?x`, "/.well-known/acme-challenge/"])
    assert.equal((await sendRequest(redirect.address.port, { path: other })).status, 301);
});

test("with use_proxy_protocol, it expects the same PROXY header", async () => {
  const request = "GET /x HTTP/1.1\r\nHost: app.example\r\n\r\n";
  assert.match(
    await sendRaw(proxied.address.port, `PROXY TCP4 192.0.2.9 10.0.0.1 1 80\r\n${request}`),
    /https:\/\/app\.example\/x/,
  );
  assert.equal(await sendRaw(proxied.address.port, request, 20_000), "");
});
