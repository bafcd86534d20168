/** The HTML pages: their content, and that no text in them can become markup. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { criterionDescriptors, denialJson, type ErrorPage, handlerErrorJson, type Page } from "../../src/auth/index.ts";
import { describeReasons, escapeHtml, html, safeUrl } from "../../src/console/index.ts";
import { timeElement } from "../../src/console/pages/layout.ts";
import { parseUnixMs } from "../../src/events/index.ts";
import { anyReader, htmlOf, pageRenderer, renderPage } from "../support/pages.ts";
import { fc } from "../support/property.ts";

const at = parseUnixMs(Date.UTC(2025, 10, 25, 14, 3, 22));

const denial: ErrorPage = {
  type: "error",
  status: 403,
  condition: "denied",
  title: "Access denied",
  description: "You may not use eng.localhost.",
  reasons: ["groups-unauthorized"],
  requestId: "0f3c9d52",
  at,
  explain: {
    allow: [{ operator: "or", requirements: [{ type: "groups", operators: [{ operator: "has", operand: "eng" }] }] }],
    deny: [],
  },
  user: { name: "Bob Baker", email: "bob@example.com" },
  host: "eng.localhost",
  app: "Payroll",
  owner: "the payroll team",
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

test("a denial shows the app, the user, the reason, who to ask, the request id and a way forward", () => {
  const page = htmlOf({ ...denial, appsUrl: "/.pomerium/routes" });
  for (const part of [
    "You don&#39;t have access to Payroll",
    "<title>You don&#39;t have access to Payroll (403)</title>",
    "Bob Baker",
    "bob@example.com",
    "Only members of eng have access.",
    "Ask the payroll team for access.",
    "0f3c9d52",
    "groups-unauthorized",
    "25 November 2025",
    '<a class="button first" href="/.pomerium/sign_in">Switch account</a>',
    '<a class="button" href="/.pomerium/routes">My apps</a>',
    'href="/.pomerium/sign_out"',
    'data-copy="0f3c9d52"',
    'data-page="error"',
    'data-status="403"',
  ]) {
    assert.ok(page.includes(part), part);
  }
  // The policy's own sentence says more than the general reason, which is left out.
  assert.ok(!page.includes("in a group that has access"));
  assert.ok(htmlOf({ ...denial, explain: null }).includes("You&#39;re not in a group that has access."));
});

test("request access is offered only where there is a place for it, and is then the first action", () => {
  assert.ok(!htmlOf(denial).includes("Request access"));
  const page = htmlOf({ ...denial, requestAccessUrl: "/.pomerium/access" });
  assert.ok(page.includes('<a class="button first" href="/.pomerium/access">Request access</a>'));
  assert.equal(page.match(/class="button first"/g)?.length, 1);
});

test("without an owner the configured contact is named, with its link", () => {
  const render = pageRenderer({ support: { label: "the help desk", url: "mailto:help@example.com" } });
  const asked = render({ ...denial, owner: null }, anyReader).html;
  assert.ok(asked.includes('Ask <a href="mailto:help@example.com"><bdi>the help desk</bdi></a> for access'));
  assert.ok(htmlOf({ ...denial, owner: null }).includes("Ask your administrator for access"));
});

test("a denial without a user offers sign-in and shows no user", () => {
  const page = htmlOf({ ...denial, user: null });
  assert.ok(page.includes(">Sign in</a>"));
  assert.ok(!page.includes("Signed in as"));
});

test("an outage offers a retry with a time, and no contact for access", () => {
  const page = htmlOf({
    ...denial,
    status: 503,
    condition: "lease",
    title: "Not available right now",
    reasons: [],
    explain: null,
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
  assert.ok(!htmlOf(denial).includes("<details>"));
  const page = htmlOf({ ...denial, details: [{ type: "rule", rule: "allow[0]", met: false, criteria: ["-groups"] }] });
  assert.ok(page.includes("not met: -groups"));
});

test("the user info page shows session and claims, or that no user is signed in", () => {
  const page = htmlOf({
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
  const signedOut = htmlOf({ type: "user-info", at, user: null, session: null, claims: null, groups: [] });
  assert.ok(signedOut.includes("You&#39;re not signed in"));
});

test("a portal with 40 apps is at most 30 kB", () => {
  const routes = Array.from({ length: 40 }, (_, i) => ({
    id: `team-dashboards-${i}`,
    name: `Team dashboards ${i}`,
    type: "http" as const,
    from: `https://dashboards-${i}.internal.example.com`,
    description: "Charts, alerts and reports for the team",
    logo_url: `/.pomerium/assets/pictures/${"0123456789abcdef".repeat(2)}${i}`,
    owner: "Platform engineering",
    kind: "web" as const,
    url: `https://dashboards-${i}.internal.example.com/`,
    command: null,
  }));
  const portal = { type: "routes", text: "", show: "permitted", view: "tiles", isFirst: true } as const;
  const page = htmlOf({ ...portal, user: null, routes, refused: [], next: "team-dashboards-39", moreRefused: false });
  const bytes = Buffer.byteLength(page);
  assert.ok(bytes <= 30_000, `${bytes} bytes`);
});

test("sign-out asks for confirmation, with a form that posts to the signed URL", () => {
  const page = htmlOf({ type: "sign-out-confirm", action: "/.pomerium/sign_out?pomerium_signature=x&a=1" });
  assert.ok(page.includes('<form method="post" action="/.pomerium/sign_out?pomerium_signature=x&amp;a=1">'));
  assert.ok(
    htmlOf({ type: "signed-out", continueUrl: "https://example.com/" }).includes('href="https://example.com/"'),
  );
});

test("a failed sign-in quotes the identity provider and starts again", () => {
  const page = htmlOf({
    type: "sign-in-error",
    status: 400,
    condition: "provider-refused",
    provider: "Okta",
    title: "Signing in did not work",
    description: "The sign-in took too long.",
    requestId: "r1",
    at,
    providerSays: "access_denied",
    retryUrl: "http://app.localhost:8080/",
  });
  for (const part of [
    "<q><bdi>access_denied</bdi></q>",
    "Okta didn&#39;t sign you in",
    "Start again",
    "The sign-in took too long.",
    "r1",
  ])
    assert.ok(page.includes(part), part);
});

test("every failed sign-in has a way forward: again, with another account, or to the apps", () => {
  const failed = {
    type: "sign-in-error",
    status: 403,
    condition: "suspended",
    title: "",
    description: "",
    requestId: "r1",
    at,
  } as const;
  assert.ok(
    htmlOf({ ...failed, retryUrl: "/again" }).includes('<a class="button first" href="/again">Switch account</a>'),
  );
  const lost = htmlOf({ ...failed, status: 404, condition: "page-not-found", appsUrl: "/.pomerium/routes" });
  assert.ok(lost.includes('<a class="button first" href="/.pomerium/routes">Go to my apps</a>'));
});

test("a page that a header leads on from leaves the address that the tab has stored", () => {
  const page = { type: "return", fallbackUrl: "/x" } as const;
  assert.ok(htmlOf({ ...page, continues: "script" }).includes("/.pomerium/address.js"));
  assert.ok(!htmlOf({ ...page, continues: "header" }).includes("<script"));
});

test("the JSON forms have Pomerium's keys", () => {
  assert.deepEqual(JSON.parse(denialJson(denial, null)), { error: "Access denied", request_id: "0f3c9d52" });
  assert.deepEqual(JSON.parse(handlerErrorJson(denial)), {
    Status: 403,
    description: "You may not use eng.localhost.",
    RequestID: "0f3c9d52",
  });
});

test("the policy of a page allows its style sheet by its hash, its own scripts, and nothing else", () => {
  const render = pageRenderer({}, undefined, {
    page: "/.pomerium/assets/page.x.js",
    portal: null,
    portalSheet: null,
  });
  const { html: page, headers } = render(denial, { host: "app.example.com:8443", language: "" });
  const sheet = /<style>([^<]*)<\/style>/.exec(page)?.[1] ?? "";
  const policy = new Map(
    (headers["content-security-policy"] ?? "").split("; ").map((directive) => {
      const [name = "", ...sources] = directive.split(" ");
      return [name, sources.join(" ")] as const;
    }),
  );
  assert.deepEqual(Object.fromEntries(policy), {
    "default-src": "'none'",
    "style-src": `'sha256-${createHash("sha256").update(sheet).digest("base64")}'`,
    "img-src": "data: app.example.com:8443/.pomerium/assets/",
    "base-uri": "'none'",
    "frame-ancestors": "'self'",
    "script-src": "app.example.com:8443/.pomerium/assets/page.x.js",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
    "form-action": "'none'",
  });
  assert.equal(headers["cache-control"], "no-store");
  assert.ok(!/style="|@import|url\(/.test(page));
});

test("a host that could end a directive of the policy gets a page without scripts", () => {
  const render = pageRenderer({}, undefined, {
    page: "/.pomerium/assets/page.x.js",
    portal: null,
    portalSheet: null,
  });
  for (const host of ["x;script-src", "a b", "x'y", "", null]) {
    const { html: page, headers } = render(denial, { host, language: "" });
    assert.ok(!page.includes("<script"), String(host));
    assert.ok(!headers["content-security-policy"]?.includes("script-src"), String(host));
  }
});

test("sign-out posts to the identity provider's redirects, so its page does not restrict forms", () => {
  const { headers } = renderPage({ type: "sign-out-confirm", action: "/x" }, anyReader);
  assert.ok(!headers["content-security-policy"]?.includes("form-action"));
});

test("a reason is shown once, and an unknown reason is not interpreted", () => {
  assert.deepEqual(describeReasons(["groups-unauthorized", "groups-unauthorized", "groups-ok", "toString"]), [
    "You're not in a group that has access.",
  ]);
});

test("every reason that a policy can refuse with has a sentence", () => {
  for (const { name, reasons } of criterionDescriptors)
    for (const reason of [reasons.fail, ...(reasons.others ?? [])])
      assert.equal(describeReasons([reason]).length, 1, `${name}: ${reason}`);
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
    condition: fc.constant("denied" as const),
    title: text,
    description: text,
    reasons: fc.tuple(text, text).map(([a, b]) => [`x${a}`, `x${b}`]),
    requestId: text,
    at: time,
    explain: text.map((operand) => ({
      allow: [
        {
          operator: "or" as const,
          requirements: [{ type: "groups" as const, operators: [{ operator: "has" as const, operand }] }],
        },
      ],
      deny: [],
    })),
    user: fc.record({ name: text, email: text.map((email) => `${email}@`) }),
    host: text,
    app: text,
    owner: text,
    signInUrl: url,
    signOutUrl: url,
    retryUrl: url,
    details: fc.tuple(fc.record({ type: fc.constant("policy" as const), name: text, words: text })),
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
    sessions: fc.record({
      list: fc.tuple(
        fc.record({
          isCurrent: fc.constant(false),
          isToken: fc.constant(false),
          provider: text,
          issuedAt: time,
          seenAt: time,
          expiresAt: time,
          signOutUrl: url,
        }),
      ),
      count: fc.constant(1),
      othersUrl: url,
      everywhereUrl: url,
    }),
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
    condition: fc.constant("provider-silent" as const),
    title: text,
    description: text,
    requestId: text,
    at: time,
    providerSays: text,
    retryUrl: url,
    provider: text,
  }),
);

test("no text in any field of any page changes its markup", () => {
  const skeletons = new Map<string, string>();
  fc.assert(
    fc.property(pages, (page) => {
      const tags = skeleton(htmlOf(page));
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
  for (const page of all) assert.ok(!htmlOf(page).includes("javascript:"), page.type);
});
