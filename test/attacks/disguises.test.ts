/** Header and cookie names in spellings that upstreams or browsers read as others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { publicAccess, routeTo, signedIn, startRig, startUpstream, valuesOf } from "../proxy/support.ts";

test("an identity header spelled with special characters, which some servers read as underscores, is removed", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port, { passIdentityHeaders: true })]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  await rig.apply(signedIn(1));
  const spellings = [
    "X~Pomerium~Jwt~Assertion",
    "X+Pomerium-Claim-Email",
    "X!Pomerium|Claim^Email",
    "X-Pomerium-Claim-Email'",
    "X~Nick", // a claim header that the configuration names X-Nick
    "X*Forwarded*For",
    "Remote`User",
    "Proxy", // HTTP_PROXY in CGI
  ];

  const answer = await rig.request({
    session: 1,
    headers: { ...Object.fromEntries(spellings.map((name) => [name, "evil"])), "x-kept": "kept" },
  });

  const { rawHeaders } = JSON.parse(answer.body) as { rawHeaders: string[] };
  assert.deepEqual(
    rawHeaders.filter((_, i) => rawHeaders[i + 1] === "evil"),
    [],
  );
  assert.deepEqual(valuesOf(rawHeaders, "x-pomerium-claim-email"), ["user1@example.com"]);
  assert.deepEqual(valuesOf(rawHeaders, "x-kept"), ["kept"]);
});

test("an upstream cannot set the session cookie through a cookie without a name", async (t) => {
  const upstream = await startUpstream((_req, res) => {
    res.setHeader("set-cookie", [
      "=_pomerium=evil",
      " = _pomerium=evil; Path=/deep",
      "==_pomerium_nonce=evil",
      "=theirs=1",
      "theirs=2",
    ]);
    res.end();
  });
  const rig = await startRig([routeTo(upstream.port, publicAccess)]);
  t.after(() => rig.close());
  t.after(() => upstream.close());

  const { headers } = await rig.request({});

  assert.deepEqual(headers["set-cookie"], ["=theirs=1", "theirs=2"]);
});

test("a redirect route drops the session handle from the query", async (t) => {
  const redirect = {
    responseCode: 301,
    httpsRedirect: true,
    schemeRedirect: null,
    hostRedirect: "other.example.com",
    portRedirect: null,
    pathRedirect: null,
    prefixRewrite: null,
    stripQuery: false,
  } as const;
  const rig = await startRig([routeTo(0, { ...publicAccess, redirect })]);
  t.after(() => rig.close());

  const { headers } = await rig.request({ path: "/x?a=1&pomerium_session=SECRET&b=2" });

  assert.equal(headers.location, "https://other.example.com/x?a=1&b=2");
});

test("an X-Forwarded-For entry that is not an address does not make the entry before it trusted", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port, publicAccess)], { config: { xffNumTrustedHops: 1 } });
  t.after(() => rig.close());
  t.after(() => upstream.close());
  const cases: Readonly<Record<string, string>> = {
    "6.6.6.6, unknown": "127.0.0.1", // the connection's peer: no trusted entry is an address
    "6.6.6.6,": "127.0.0.1",
    "6.6.6.6, _hidden": "127.0.0.1",
    "6.6.6.6, 192.0.2.7:4711": "192.0.2.7",
    "6.6.6.6, [2001:db8::7]:4711": "2001:db8::7",
    "6.6.6.6, 192.0.2.7": "192.0.2.7",
  };

  for (const forwardedFor of Object.keys(cases)) await rig.request({ headers: { "x-forwarded-for": forwardedFor } });

  assert.deepEqual(
    rig.records.map(({ ip }) => ip),
    Object.values(cases),
  );
  assert.ok(
    upstream.seen.every(({ rawHeaders }) => !String(valuesOf(rawHeaders, "x-forwarded-for")).includes("6.6.6.6")),
  );
});

test("a session handle in the query of a Referer is not forwarded", async (t) => {
  const upstream = await startUpstream();
  const rig = await startRig([
    routeTo(upstream.port, {
      ...publicAccess,
      setRequestHeaders: { "X-From": `\${pomerium.request.headers["referer"]}` },
    }),
  ]);
  t.after(() => rig.close());
  t.after(() => upstream.close());
  const page = "http://app.localhost/page";

  for (const query of ["?a=1&pomerium_session=SECRET&b=%20", "?pomerium%5Fsession=SECRET", "?a=1", ""])
    await rig.request({ headers: { referer: page + query } });

  const expected = ["?a=1&b=%20", "", "?a=1", ""].map((query) => [page + query]);
  assert.deepEqual(
    upstream.seen.map(({ rawHeaders }) => valuesOf(rawHeaders, "referer")),
    expected,
  );
  assert.deepEqual(
    upstream.seen.map(({ rawHeaders }) => valuesOf(rawHeaders, "x-from")),
    expected,
  );
});
