/** Signed URLs: compatible with Pomerium's format, and which ones are refused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkSignedUrl, parameter, signUrl } from "../../../../src/auth/authenticate/sign-in/signed-url.ts";

const key = Buffer.from("test-key");
const now = 1_574_117_851;

test("Pomerium's test vector is reproduced exactly", () => {
  const signed = signUrl(new URL("https://pomerium.io"), key, now);
  assert.equal(
    signed.href.replace("pomerium.io/?", "pomerium.io?"), // the URL standard adds the root path
    "https://pomerium.io?pomerium_expiry=1574118151&pomerium_issued=1574117851&pomerium_signature=XtvM-Y-oPvoGGV2Q5G0vrQ_CgNeYhVyTG5dHIqLsBOU%3D",
  );
  assert.equal(checkSignedUrl(signed, [key], now), "valid");
});

const page = (): URL =>
  signUrl(
    new URL(
      "https://auth.example.com/.pomerium/sign_in?pomerium_redirect_uri=https%3A%2F%2Fapp.example.com%2F%3Fa%3D1",
    ),
    key,
    now,
  );

test("the query is sorted bytewise and escaped as Go does it", () => {
  const signed = signUrl(new URL("https://a.example/x?b=2&a=*~!'()+ü&B=1"), key, now);
  assert.match(signed.search, /^\?B=1&a=%2A~%21%27%28%29\+%C3%BC&b=2&pomerium_expiry=/);
  assert.equal(checkSignedUrl(signed, [key], now), "valid");
});

test("a signed URL is valid for five minutes, plus a minute of clock skew on both sides", () => {
  assert.equal(checkSignedUrl(page(), [key], now + 300), "valid");
  assert.equal(checkSignedUrl(page(), [key], now + 360), "valid");
  assert.equal(checkSignedUrl(page(), [key], now + 361), "expired");
  assert.equal(checkSignedUrl(page(), [key], now - 60), "valid");
  assert.equal(checkSignedUrl(page(), [key], now - 61), "from the future");
});

const changes: Readonly<Record<string, (url: URL) => void>> = {
  "another value": (url) => url.searchParams.set(parameter.redirectUri, "https://evil.example/"),
  "an extra parameter": (url) => url.searchParams.set(parameter.programmatic, "true"),
  "a missing parameter": (url) => url.searchParams.delete(parameter.redirectUri),
  "a doubled parameter": (url) => url.searchParams.append(parameter.redirectUri, "https://evil.example/"),
  "a doubled parameter with the same value": (url) =>
    url.searchParams.append(parameter.redirectUri, url.searchParams.get(parameter.redirectUri) ?? ""),
  "a doubled signature": (url) =>
    url.searchParams.append(parameter.signature, url.searchParams.get(parameter.signature) ?? ""),
  "a later expiry": (url) => url.searchParams.set(parameter.expiry, String(now + 10_000)),
  "another path": (url) => {
    url.pathname = "/.pomerium/sign_out";
  },
  "another host": (url) => {
    url.hostname = "other.example.com";
  },
  "another port": (url) => {
    url.port = "8443";
  },
  "another scheme": (url) => {
    url.protocol = "http:";
  },
};
for (const [what, change] of Object.entries(changes)) {
  test(`${what} invalidates the signature`, () => {
    const url = page();
    change(url);
    assert.equal(checkSignedUrl(url, [key], now), "bad signature");
  });
}

test("the order of parameters and the encoding of values do not affect the signature", () => {
  const url = page();
  const shuffled = new URL(`${url.origin}${url.pathname}?${[...url.search.slice(1).split("&")].reverse().join("&")}`);
  assert.equal(checkSignedUrl(shuffled, [key], now), "valid");
  assert.equal(checkSignedUrl(new URL(url.href.replace("app.example.com", "app%2eexample.com")), [key], now), "valid");
});

test("unsigned and incompletely signed URLs are distinguished from wrongly signed ones", () => {
  assert.equal(checkSignedUrl(new URL("https://auth.example.com/"), [key], now), "unsigned");
  for (const name of [parameter.signature, parameter.issued, parameter.expiry]) {
    const url = page();
    url.searchParams.delete(name);
    assert.equal(checkSignedUrl(url, [key], now), "unsigned", name);
  }
  for (const odd of ["", "1e99", "0x10", "-1", " 1", "99999999999999999999"]) {
    const url = page();
    url.searchParams.set(parameter.expiry, odd);
    assert.equal(checkSignedUrl(url, [key], now), "unsigned", odd);
  }
});

test("another key is refused; during a rotation the previous key is still accepted", () => {
  const other = Buffer.from("other-key");
  assert.equal(checkSignedUrl(page(), [other], now), "bad signature");
  assert.equal(checkSignedUrl(page(), [other, key], now), "valid");
});

test("signing again replaces the previous signature", () => {
  const again = signUrl(page(), key, now + 100);
  assert.equal(again.searchParams.getAll(parameter.signature).length, 1);
  assert.equal(again.searchParams.get(parameter.issued), String(now + 100));
  assert.equal(checkSignedUrl(again, [key], now + 400), "valid");
});
