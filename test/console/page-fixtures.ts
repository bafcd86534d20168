/** Pages for tests in a browser: one of each kind and condition, with values as people have them. */
import type {
  ConditionalRequirement,
  ErrorPage,
  Page,
  PageCondition,
  Requirement,
  SignInErrorPage,
  UserInfoPage,
} from "../../src/auth/index.ts";
import { en } from "../../src/console/text/en.ts";
import { parseUnixMs } from "../../src/events/index.ts";

const at = parseUnixMs(Date.UTC(2026, 10, 25, 14, 2, 11));
const bob = { name: "Bob Baker", email: "bob@example.com" };
const requestId = "776a36a9-c802-4c1e-9f0e-5f5c0e3c8a51";

const signInConditions: ReadonlySet<string> = new Set<PageCondition>([
  ...([
    "page-not-found",
    "handler-method",
    "handler-failed",
    "handler-unreadable",
    "sign-in-link",
    "callback",
  ] as const),
  ...(["other-browser", "used-sign-in", "wrong-provider", "too-many-sign-ins", "suspended"] as const),
  ...(["signed-out-meanwhile", "not-recorded", "no-provider", "needs-window", "provider-silent"] as const),
  ...(["provider-untrue", "provider-refused", "provider-cancelled", "redirect-refused"] as const),
  ...(["sign-out-elsewhere", "still-signed-in", "account-form"] as const),
]);

export const denial: ErrorPage = {
  type: "error",
  status: 403,
  condition: "denied",
  title: "Access denied",
  description: "",
  reasons: ["groups-unauthorized"],
  requestId,
  at,
  explain: {
    allow: [{ operator: "or", requirements: [{ type: "groups", operators: [{ operator: "has", operand: "hr" }] }] }],
    deny: [],
  },
  user: bob,
  app: "Payroll",
  owner: "the payroll team",
  host: "payroll.example.com",
  signInUrl: "/.pomerium/sign_in",
  signOutUrl: "/.pomerium/sign_out",
  appsUrl: "/.pomerium/routes",
  details: [
    { type: "route", id: "payroll" },
    { type: "decided-by", rule: null },
  ],
};

const statuses: Readonly<Partial<Record<PageCondition, number>>> = {
  unauthenticated: 401,
  unsent: 401,
  denied: 403,
  "no-route": 404,
  lease: 503,
  behind: 503,
  provider: 503,
  data: 503,
  audit: 503,
  busy: 503,
  unhealthy: 503,
  draining: 503,
  "sign-in-paused": 503,
  "upstream-unreachable": 503,
  "upstream-broke": 502,
  "upstream-timeout": 504,
  internal: 500,
};

function pageOf(condition: PageCondition): Page {
  if (!signInConditions.has(condition)) {
    const status = statuses[condition] ?? 400;
    if (status === 403) return { ...denial, condition };
    const { details: _, owner: _owner, user: _user, signOutUrl: _signOut, ...known } = denial;
    const way = status >= 500 ? { signInUrl: null, retryUrl: "/", retryAfterS: 1 } : {};
    const signIn = status === 401 ? {} : { signInUrl: null };
    return { ...known, condition, status, reasons: [], explain: null, ...signIn, ...way };
  }
  const page: SignInErrorPage = {
    type: "sign-in-error",
    status: 400,
    condition,
    title: "",
    description: "The identity provider's discovery document could not be read.",
    requestId,
    at,
    provider: "Okta",
    providerSays: condition === "provider-refused" ? "access_denied: not assigned to this app" : null,
    retryUrl: "/",
  };
  return page;
}

const conditions = Object.keys(en.conditions) as PageCondition[];

const app = {
  id: "grafana",
  name: "Grafana",
  type: "http",
  from: "https://grafana.example.com",
  description: "Dashboards and alerts",
  logo_url: "",
  owner: "Observability",
  kind: "web",
  url: "https://grafana.example.com/",
  command: null,
} as const;
const portal: Page = {
  type: "routes",
  user: bob,
  text: "grafana",
  show: "permitted",
  view: "list",
  isFirst: false,
  routes: [
    app,
    { ...app, id: "db", kind: "tcp", type: "tcp", url: null, command: "cardea tcp grafana.example.com:5432" },
  ],
  refused: [{ ...app, id: "payroll", reasons: ["groups-unauthorized"], explain: null }],
  next: "db",
  moreRefused: true,
};

const session = {
  isCurrent: false,
  isToken: false,
  provider: "Okta",
  issuedAt: at,
  seenAt: parseUnixMs(at + 3_600_000),
};
const expiresAt = parseUnixMs(at + 11 * 3_600_000);
const signOutUrl = "/.pomerium/account/sign-out?pomerium_scope=one";
const account: UserInfoPage = {
  type: "user-info",
  at: parseUnixMs(at + 7_200_000),
  user: { ...bob, emailVerified: true, userId: "bdcadce6-2c0b-4a6e-8a0e-3a8f0c1a0d44", subject: "bob" },
  session: {
    sessionId: "8ba9c0de-1111-4222-8333-444455556666",
    idpId: "Okta",
    issuedAt: at,
    expiresAt,
    refreshedAt: parseUnixMs(at + 60_000),
  },
  claims: { groups: ["sales", "eng"], locale: ["en-GB"] },
  groups: [
    { id: "sales", name: "Sales" },
    { id: "eng", name: "Engineering" },
  ],
  signInUrl: "/.pomerium/sign_in",
  signOutUrl: "/.pomerium/sign_out",
};
const ownAccount: UserInfoPage = {
  ...account,
  sessions: {
    list: [
      { ...session, isCurrent: true, expiresAt, signOutUrl: null },
      { ...session, expiresAt, signOutUrl },
      { ...session, isToken: true, seenAt: null, expiresAt, signOutUrl },
    ],
    count: 5,
    othersUrl: "/.pomerium/account/sign-out?pomerium_scope=others",
    everywhereUrl: "/.pomerium/account/sign-out",
  },
  ended: { what: "one", count: 1, reach: { type: "everywhere", at } },
};

/** What a page can say about what has just ended. */
export const endedPages: readonly Page[] = [
  ...(
    [
      { type: "everywhere", at },
      { type: "spreading", confirmed: 5, servers: 6, withinMs: 41_000 },
      { type: "region", complete: true },
      { type: "region", complete: false },
      { type: "already" },
      { type: "unknown" },
    ] as const
  ).map((reach): Page => ({ ...ownAccount, ended: { what: "one", count: 1, reach } })),
  ...(["this", "others", "all"] as const).flatMap((what) =>
    [1, 3].map((count): Page => ({ type: "signed-out", ended: { what, count, reach: { type: "everywhere", at } } })),
  ),
  { type: "sign-out-confirm", action: "/x", sessions: 1 },
];

/** By name; each condition has one of its own name. */
export const pages: ReadonlyMap<string, Page> = new Map<string, Page>([
  ...conditions.map((condition) => [condition, pageOf(condition)] as const),
  ["account", ownAccount],
  [
    "account-on-route",
    { ...account, appsUrl: "/.pomerium/routes", accountUrl: "https://authenticate.example.com/.pomerium/" },
  ],
  [
    "account-waiting",
    {
      ...ownAccount,
      ended: { what: "others", count: 3, reach: { type: "spreading", confirmed: 5, servers: 6, withinMs: 41_000 } },
    },
  ],
  ["sign-out-all", { type: "sign-out-confirm", action: "/x", user: bob, cancelUrl: "/.pomerium/", sessions: 3 }],
  [
    "account-anonymous",
    { type: "user-info", at, user: null, session: null, claims: null, groups: [], signInUrl: "/x" },
  ],
  ["portal", portal],
  ["sign-out", { type: "sign-out-confirm", action: "/.pomerium/sign_out?x=1", user: bob, cancelUrl: "/.pomerium/" }],
  [
    "signed-out",
    {
      type: "signed-out",
      continueUrl: "https://www.example.com/",
      ended: { what: "all", count: 3, reach: { type: "everywhere", at } },
    },
  ],
  [
    "choose-provider",
    {
      type: "choose-provider",
      host: "payroll.example.com",
      providers: [
        { title: "Okta", url: "/a", isDown: false },
        { title: "Google Workspace", url: "/b", isDown: true },
      ],
    },
  ],
  [
    "sign-in-loop",
    {
      type: "sign-in-loop",
      status: 401,
      title: "",
      host: "payroll.example.com",
      sessionCookie: "missing",
      uncoveredBy: "example.org",
      requestId,
      at,
      retryUrl: "/.pomerium/sign_in",
    },
  ],
]);

const one = (requirement: Requirement): ConditionalRequirement => ({ operator: "or", requirements: [requirement] });
const every: readonly Requirement[] = [
  { type: "groups", operators: [{ operator: "has", operand: "hr" }] },
  {
    type: "groups",
    operators: [
      { operator: "is", operand: "hr" },
      { operator: "exclude", operand: "eng" },
    ],
  },
  ...(["method", "path", "email-domain", "mcp-tool", "ssh-user"] as const).map(
    (subject): Requirement => ({
      type: "text",
      subject,
      operators: [
        { operator: "starts_with", operands: ["/api"] },
        { operator: "not_in", operands: ["/x", "/y"] },
      ],
    }),
  ),
  { type: "people", count: 1 },
  { type: "people", count: 3 },
  { type: "person", others: true },
  { type: "person", others: false },
  { type: "claim", claim: "dept", values: [{ operator: "has", value: "eng" }] },
  { type: "claim", claim: "dept", values: [{ operator: "is", value: null }] },
  { type: "days", days: [1, 5] },
  { type: "device", approved: true },
  { type: "device", approved: false },
  { type: "record", recordType: "example.com/hr" },
  { type: "ssh-user-claim", claim: "dept" },
  ...(["sign-in", "nothing", "impossible", "cors-preflight", "network", "certificate", "bad-certificate"] as const).map(
    (type): Requirement => ({ type }),
  ),
  ...(["date", "time-of-day", "ssh-user-email", "ssh-key", "ssh-authority"] as const).map(
    (type): Requirement => ({ type }),
  ),
];

/** A denial with each kind of requirement, in each place of a sentence, and each row of details. */
export const explainedDenials: readonly ErrorPage[] = [
  ...every.map(
    (requirement): ErrorPage => ({
      ...denial,
      explain: { allow: [one(requirement), one(requirement)], deny: [one(requirement)] },
    }),
  ),
  ...(["or", "and", "not", "nor"] as const).map((operator): ErrorPage => {
    const rule = { operator, requirements: every };
    return { ...denial, explain: { allow: [rule, rule], deny: [rule] } };
  }),
  {
    ...denial,
    explain: { allow: [], deny: [] },
    details: [
      { type: "decided-at", epoch: 3, position: 41_207 },
      { type: "node", node: "proxy-eu-1" },
      { type: "configuration", hash: "0529ab" },
      { type: "decided-by", rule: "policy.allow.or" },
      { type: "policy", name: "", words: "Ask hr." },
      { type: "rule", rule: "policy.allow.or", met: true, criteria: ["+groups"] },
      { type: "rule", rule: "policy.deny.or", met: false, criteria: ["-groups"] },
      ...(["session", "user", "group", "device", "configuration", "record"] as const).map((fact, index) => ({
        type: "fact" as const,
        fact,
        position: [null, 0, 7][index % 3] ?? null,
        exact: index < 3,
      })),
    ],
  },
];
