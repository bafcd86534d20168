/** The HTML pages: their content, and that no text in them can become markup. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { denialJson, type ErrorPage, handlerErrorJson, type Page, pageHeaders } from "../../src/auth/index.ts";
import { describeReasons, escapeHtml, html, renderPage, safeUrl } from "../../src/console/index.ts";
import { timeElement } from "../../src/console/pages/layout.ts";
import { parseUnixMs } from "../../src/events/index.ts";
import { fc } from "../support/property.ts";

const at = parseUnixMs(Date.UTC(2025, 10, 25, 14, 3, 22));

const denial: ErrorPage = {
  type: "error",
  status: 403,
  title: "Access denied",
  description: "You may not use eng.localhost.",
  reasons: ["groups-unauthorized"],
  requestId: "0f3c9d52",
  at,
  explain: ["Members of the group eng may use this."],
  user: { name: "Bob Baker", email: "bob@example.com" },
  host: "eng.localhost",
  contact: "it@example.com",
  signInUrl: "/.pomerium/sign_in",
  signOutUrl: "/.pomerium/sign_out",
};

test("a time reads as in British English", () => {
  const format = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "medium", timeZone: "UTC" });
  fc.assert(
    fc.property(fc.date({ min: new Date(0), max: new Date("9999-12-31"), noInvalidDate: true }), (date) => {
      assert.ok(timeElement(parseUnixMs(date.getTime())).markup.includes(`>${format.format(date)} UTC<`));
    }),
  );
});

test("a denial shows the user, the reason, the contact and the request id", () => {
  const page = renderPage(denial);
  for (const part of [
    "Access denied",
    "Bob Baker",
    "bob@example.com",
    "You are not a member of a group that has access.",
    "Members of the group eng may use this.",
    "it@example.com",
    "0f3c9d52",
    "groups-unauthorized",
    "25 November 2025",
    'href="/.pomerium/sign_in"',
    'href="/.pomerium/sign_out"',
    "Sign in with another account",
    'data-page="error"',
    'data-status="403"',
  ]) {
    assert.ok(page.includes(part), part);
  }
});

test("a denial without a user offers sign-in and shows no user", () => {
  const page = renderPage({ ...denial, user: null });
  assert.ok(page.includes(">Sign in</a>"));
  assert.ok(!page.includes("You are signed in as"));
});

test("an outage offers a retry with a time, and no contact for access", () => {
  const page = renderPage({
    ...denial,
    status: 503,
    title: "Not available right now",
    reasons: [],
    explain: [],
    signInUrl: null,
    signOutUrl: null,
    retryUrl: "/",
    retryAfterS: 5,
  });
  assert.ok(page.includes("Try again in 5 seconds."));
  assert.ok(page.includes('<a class="button first" href="/">Try again</a>'));
  assert.ok(!page.includes("for access"));
});

test("details are shown only if given", () => {
  assert.ok(!renderPage(denial).includes("<details>"));
  const page = renderPage({ ...denial, details: [{ name: "allow[0]", value: "groups has eng: false" }] });
  assert.ok(page.includes("groups has eng: false"));
});

test("the user info page shows session and claims, or that no user is signed in", () => {
  const page = renderPage({
    type: "user-info",
    at,
    user: { name: "Alice", email: "alice@example.com", emailVerified: true, userId: "u1", subject: "alice" },
    session: {
      sessionId: "s1",
      idpId: "demo",
      issuedAt: at,
      expiresAt: parseUnixMs(at + 14 * 3_600_000),
      refreshedAt: null,
    },
    claims: { groups: ["eng", "admins"] },
    groups: [{ id: "eng", name: "" }],
    routes: [{ name: "Wiki", url: "http://app.localhost:8080/", description: "" }],
    signOutUrl: "/.pomerium/sign_out",
  });
  for (const part of ["(verified)", "s1", "(in 14 h 0 min)", "eng, admins", 'href="http://app.localhost:8080/"']) {
    assert.ok(page.includes(part), part);
  }
  const signedOut = renderPage({ type: "user-info", at, user: null, session: null, claims: null, groups: [] });
  assert.ok(signedOut.includes("You are not signed in"));
});

test("sign-out asks for confirmation, with a form that posts to the signed URL", () => {
  const page = renderPage({ type: "sign-out-confirm", action: "/.pomerium/sign_out?pomerium_signature=x&a=1" });
  assert.ok(page.includes('<form method="post" action="/.pomerium/sign_out?pomerium_signature=x&amp;a=1">'));
  assert.ok(
    renderPage({ type: "signed-out", continueUrl: "https://example.com/" }).includes('href="https://example.com/"'),
  );
});

test("a failed sign-in quotes the identity provider and starts again", () => {
  const page = renderPage({
    type: "sign-in-error",
    status: 400,
    title: "Signing in did not work",
    description: "The sign-in took too long.",
    requestId: "r1",
    at,
    providerSays: "access_denied",
    retryUrl: "http://app.localhost:8080/",
  });
  for (const part of ["<q><bdi>access_denied</bdi></q>", "Sign in again", "r1"]) assert.ok(page.includes(part), part);
});

test("the JSON forms have Pomerium's keys", () => {
  assert.deepEqual(JSON.parse(denialJson(denial, null)), { error: "Access denied", request_id: "0f3c9d52" });
  assert.deepEqual(JSON.parse(handlerErrorJson(denial)), {
    Status: 403,
    description: "You may not use eng.localhost.",
    RequestID: "0f3c9d52",
  });
});

test("pages run no script, load nothing from elsewhere and are not stored", () => {
  const policy = pageHeaders["content-security-policy"] ?? "";
  assert.ok(policy.startsWith("default-src 'none'"));
  assert.ok(!policy.includes("script-src"));
  assert.equal(pageHeaders["cache-control"], "no-store");
  assert.ok(!/<script|src=|@import|url\(/.test(renderPage(denial)));
});

test("a reason is shown once, and an unknown reason is not interpreted", () => {
  assert.deepEqual(describeReasons(["groups-unauthorized", "groups-unauthorized", "groups-ok", "toString"]), [
    "You are not a member of a group that has access.",
  ]);
});

test("the template escapes text, passes numbers and its own markup, and renders null as nothing", () => {
  assert.equal(
    html`<p a="${`"'<&>\``}">${1}${null}${false}${undefined}</p>`.markup,
    '<p a="&quot;&#39;&lt;&amp;&gt;&#96;">1</p>',
  );
  assert.equal(html`${[html`<b>${"<"}</b>`, "<"]}`.markup, "<b>&lt;</b>&lt;");
  assert.equal(escapeHtml("\u0000\ud800\u009f\n"), "\ufffd\ufffd\ufffd\n");
});

test("an object that only resembles markup is escaped", () => {
  const forged = JSON.parse('{"markup":"<script>","made":true}');
  assert.throws(() => html`${forged}`);
});

test("only paths of the same host and http(s) URLs are linked", () => {
  for (const url of ["/", "/a?b=c#d", "https://example.com/", "http://app.localhost:8080/x"])
    assert.equal(safeUrl(url), url);
  for (const url of [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,x",
    "//evil.example",
    "/\\evil.example",
    "/\t/evil.example",
    "\\\\evil.example",
    "https://app.example.com@evil.example/",
    " https://example.com/",
    "vbscript:x",
    "blob:x",
    "",
    "relative",
    null,
    undefined,
  ]) {
    assert.equal(safeUrl(url), null, String(url));
  }
});

/** The structure that a browser would build: the tags in order, with their attribute names. */
function skeleton(document: string): string {
  return document.replace(/="[^"]*"/g, '=""').replace(/>[^<]*/g, ">");
}

const attacks = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(1)>',
  "' onmouseover='alert(1)",
  "</style><script>alert(1)</script>",
  "</title><script>",
  "<!--",
  "]]>",
  "&lt;script&gt;",
  "\u2028\u202e$`{alert(1)}`",
];
/** Never empty, so that a page's parts depend only on its shape. */
const text = fc.oneof(
  fc.constantFrom(...attacks),
  fc.string({ unit: "binary", minLength: 1, maxLength: 40 }),
  fc.string({ minLength: 1 }),
);
const url = fc.oneof(
  fc.webUrl({ withQueryParameters: true, withFragments: true }),
  fc.constantFrom("/", '/a?b="><script>', "https://example.com/?q='x'<y>", "/`onload=1"),
);
const time = fc.nat().map(parseUnixMs);
const claimNames = ["a", "b"];
const pages: fc.Arbitrary<Page> = fc.oneof(
  fc.record({
    type: fc.constant("error" as const),
    status: fc.constant(403),
    title: text,
    description: text,
    reasons: fc.tuple(text, text).map(([a, b]) => [`x${a}`, `x${b}`]),
    requestId: text,
    at: time,
    explain: fc.tuple(text),
    user: fc.record({ name: text, email: text.map((email) => `${email}@`) }),
    host: text,
    contact: text,
    signInUrl: url,
    signOutUrl: url,
    retryUrl: url,
    details: fc.tuple(fc.record({ name: text, value: text })),
  }),
  fc.record({
    type: fc.constant("user-info" as const),
    at: time,
    user: fc.record({
      name: text,
      email: text.map((email) => `${email}@`),
      emailVerified: fc.boolean(),
      userId: text,
      subject: text,
    }),
    session: fc.record({
      sessionId: text,
      idpId: text,
      issuedAt: time,
      expiresAt: time,
      refreshedAt: fc.constant(null),
    }),
    claims: fc.tuple(text, text).map(([a, b]) => Object.fromEntries(claimNames.map((name) => [name, [a, b]]))),
    groups: fc.tuple(fc.record({ id: text, name: text })),
    routes: fc.tuple(fc.record({ name: text, url, description: text })),
    signInUrl: url,
    signOutUrl: url,
  }),
  fc.record({
    type: fc.constant("sign-out-confirm" as const),
    action: url,
    user: fc.record({ name: text, email: text.map((email) => `${email}@`) }),
    cancelUrl: url,
  }),
  fc.record({ type: fc.constant("signed-out" as const), continueUrl: url }),
  fc.record({
    type: fc.constant("sign-in-error" as const),
    status: fc.constant(502),
    title: text,
    description: text,
    requestId: text,
    at: time,
    providerSays: text,
    retryUrl: url,
    contact: text,
  }),
);

test("no text in any field of any page changes its markup", () => {
  const skeletons = new Map<string, string>();
  fc.assert(
    fc.property(pages, (page) => {
      const tags = skeleton(renderPage(page));
      const first = skeletons.get(page.type) ?? tags;
      skeletons.set(page.type, first);
      assert.equal(tags, first);
    }),
    { numRuns: 500 },
  );
  assert.equal(skeletons.size, 5);
});

test("an unsafe link is omitted everywhere", () => {
  const bad = "javascript:alert(1)";
  const all: Page[] = [
    { ...denial, signInUrl: bad, signOutUrl: bad, retryUrl: bad },
    {
      type: "user-info",
      at,
      user: null,
      session: null,
      claims: null,
      groups: [],
      routes: [{ name: "x", url: bad, description: "" }],
      signInUrl: bad,
    },
    { type: "sign-out-confirm", action: bad, cancelUrl: bad },
    { type: "signed-out", continueUrl: bad },
  ];
  for (const page of all) assert.ok(!renderPage(page).includes("javascript:"), page.type);
});
