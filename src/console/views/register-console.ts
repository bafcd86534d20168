/**
 * Console: `/.pomerium/admin/…` on the authenticate host, for operators.
 *
 * - A reader without a session signs in and returns to the same address. One who is no operator, or has too low a role,
 *   gets a page that says so, and no menu.
 * - Pages are never stored, load scripts and styles of this host alone, and cannot be framed.
 * - What a page shows comes from the operator API, asked with the reader's own rights (operation-call.ts).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import {
  cookieValue,
  type Page,
  type PageReader,
  pageHeaders,
  type RenderPage,
  type SignInLoop,
  type SignInLoopPage,
} from "../../auth/index.ts";
import type { Replica } from "../../replication/index.ts";
import { standingOf } from "../api/live/standing.ts";
import { callHeaders, createOperationCall } from "../api/operation-call.ts";
import type { OperatorCaller } from "../api/operator-caller.ts";
import type { OperatorApiDeps } from "../api/operator-route.ts";
import { highestRole, scopeFor } from "../api/roles/operator-roles.ts";
import { html } from "../pages/html.ts";
import { isolateValue, linkButton, type PageFrame, renderFrame } from "../pages/layout.ts";
import type { PageLook } from "../pages/look.ts";
import { type PageText, textFor, texts } from "../text/texts.ts";
import { actionLink, consolePath } from "./components/values.ts";
import { configurationsView, configurationView } from "./configurations/configurations-view.ts";
import { configurationDiffView } from "./configurations/diff-view.ts";
import { renderConsole, type Theme, themes } from "./frame.ts";
import { heldChangeView, heldView } from "./identity/held-view.ts";
import { identityView } from "./identity/identity-view.ts";
import { labView } from "./lab/lab-view.ts";
import { overviewView } from "./overview/overview-view.ts";
import { groupsView, groupView } from "./people/groups-view.ts";
import { peopleView } from "./people/people-view.ts";
import { personTabView, personView } from "./people/person-view.ts";
import { sessionsView, sessionView } from "./people/sessions-view.ts";
import { receiptsView, receiptView } from "./receipts/receipts-view.ts";
import { accessView } from "./record/access-view.ts";
import { auditView } from "./record/audit-view.ts";
import { changesView, changeView } from "./record/changes-view.ts";
import { decisionView } from "./record/decision-view.ts";
import { decisionsView } from "./record/decisions-view.ts";
import { requestsView, requestView } from "./requests/requests-view.ts";
import { roleEntries, settingsView } from "./settings/settings-view.ts";
import {
  hasRole,
  isLimited,
  type OperatorRole,
  type View,
  type ViewContext,
  type ViewPage,
  type ViewReader,
} from "./view.ts";

/** The views of the console, one line for each area. The menu shows them in this order within its groups. */
export const consoleViews: readonly View[] = [
  overviewView,
  accessView,
  decisionsView,
  decisionView,
  changesView,
  changeView,
  auditView,
  labView,
  configurationsView,
  configurationView,
  configurationDiffView,
  identityView,
  heldView,
  heldChangeView,
  settingsView,
  sessionsView,
  sessionView,
  peopleView,
  personView,
  personTabView,
  groupsView,
  groupView,
  receiptsView,
  receiptView,
  requestsView,
  requestView,
];

export type ConsoleDeps = Pick<OperatorApiDeps, "access" | "callerIp" | "fresh" | "now"> &
  Readonly<{
    callerOf: (request: FastifyRequest) => Promise<OperatorCaller>;
    look: PageLook;
    /** The path of a script or style sheet; null: there is none of that name. */
    assetPath: (name: string) => string | null;
    render: RenderPage;
    /** Where a browser signs in to return to a path of this host, or why that led nowhere before. */
    signIn: (
      path: string,
      reader: Readonly<{ cookie: string | undefined; account: "current" | "another" }>,
    ) => Readonly<{ url: URL }> | Readonly<{ loop: SignInLoop; page: SignInLoopPage }>;
    authenticateUrl: URL;
    cluster: string;
    replica: Pick<Replica, "applied" | "behind">;
    /** The languages to choose from; absent: those of the program. */
    texts?: readonly [PageText, ...PageText[]];
    /** Absent: the views of the program. */
    views?: readonly View[];
  }>;

export const themeCookie = "cardea-console-theme";

/** The content security policy of the console: this host alone, nothing inline. */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");
const consoleHeaders: Readonly<Record<string, string>> = {
  ...pageHeaders,
  "cache-control": "no-store",
  "content-security-policy": policy,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "same-origin",
  "x-frame-options": "DENY",
};

export function registerConsole(app: FastifyInstance, deps: ConsoleDeps): void {
  const { views = consoleViews } = deps;
  void app.register(
    (scope, _options, done) => {
      for (const view of views)
        scope.route({
          method: ["GET", "HEAD"],
          url: view.path,
          handler: (request, reply) => sendView({ app, deps, request, reply, views }, view),
        });
      scope.setNotFoundHandler((request, reply) => sendView({ app, deps, request, reply, views }, notFoundView));
      done();
    },
    { prefix: consolePath },
  );
}

type ConsoleCall = Readonly<{
  app: FastifyInstance;
  deps: ConsoleDeps;
  request: FastifyRequest;
  reply: FastifyReply;
  views: readonly View[];
}>;

async function sendView(exchange: ConsoleCall, view: View): Promise<FastifyReply> {
  const { deps, request, reply, views } = exchange;
  const text = textFor(request.headers["accept-language"] ?? "", deps.texts ?? texts);
  reply.headers(consoleHeaders).type("text/html; charset=utf-8");
  const caller = await deps.callerOf(asOwnPage(request));
  if (caller.type === "refused") return sendRefused(exchange, caller, text);
  const reader = readerOf(caller);
  const context = contextOf(exchange, { text, reader });
  const { look, cluster, replica } = deps;
  const { position } = replica.applied; // what comes during the rendering may be on the page, and is not promised
  if (reader.isApprover && view.path === "/") return reply.redirect(`${consolePath}/requests`, 302);
  const shown = viewsFor(reader, views);
  const mayOpen = hasRole(reader, view.role) && (!reader.isApprover || view.approver === true);
  const isOutside = mayOpen && isLimited(reader) && view.scoped !== true;
  const page = isOutside
    ? limitedPage(view, context, shown)
    : mayOpen
      ? await view.render(context)
      : await roleNeeded(view, context);
  const status = mayOpen && (!isOutside || view.path === "/") ? (page.status ?? 200) : 403;
  // The right to read may have ended while the page was made.
  const still = await deps.callerOf(asOwnPage(request));
  if (still.type === "refused") return sendRefused(exchange, still, text);
  const theme = themeOf(request);
  const applied = { position, standing: standingOf(deps) };
  return reply.code(status).send(
    renderConsole({
      view: isOutside ? { id: view.id } : view,
      page,
      context,
      look,
      views: shown,
      cluster,
      applied,
      theme,
    }),
  );
}

/** The menu of an approver without a role, or of a limited role, has no other entries. */
function viewsFor(reader: ViewReader, views: readonly View[]): readonly View[] {
  if (reader.isApprover) return views.filter(({ approver }) => approver === true);
  return isLimited(reader) ? views.filter(({ scoped, path }) => scoped === true || path === "/") : views;
}

function contextOf(
  { app, deps, request }: ConsoleCall,
  { text, reader }: Readonly<{ text: PageText; reader: ViewReader }>,
): ViewContext {
  const [path = "", query = ""] = (request.raw.url ?? "").split("?", 2);
  return {
    text,
    words: text.console,
    reader,
    params: (request.params ?? {}) as Readonly<Record<string, string>>,
    query: new URLSearchParams(query),
    path,
    now: deps.now(),
    call: createOperationCall(app, request),
    asset: deps.assetPath,
  };
}

/** A document that a person opens is this installation's own page, also from a link on another site. */
function asOwnPage(request: FastifyRequest): FastifyRequest {
  return Object.create(request, { headers: { value: callHeaders(request) } }) as FastifyRequest;
}

function readerOf({ grants, person, actor, until }: Admitted): ViewReader {
  const role = highestRole(grants) ?? "viewer";
  const limitOf = (each: OperatorRole): readonly string[] | null => {
    const scope = scopeFor(grants, each) ?? null;
    return scope === null ? null : [...scope].sort();
  };
  return {
    role,
    limits: { viewer: limitOf("viewer"), operator: limitOf("operator"), administrator: limitOf("administrator") },
    isApprover: grants.length === 0,
    userId: person?.userId ?? null,
    name: person?.name ?? /^operator:(.*)#/.exec(actor)?.[1] ?? "",
    email: person?.email ?? "",
    until,
  };
}

type Refused = Extract<OperatorCaller, { type: "refused" }>;
type Admitted = Extract<OperatorCaller, { type: "operator" }>;

function sendRefused({ deps, request, reply }: ConsoleCall, refused: Refused, text: PageText): FastifyReply {
  const path = request.raw.url ?? consolePath;
  const { cookie } = request.headers;
  if (refused.status === 401 && request.headers.authorization === undefined) {
    const begun = deps.signIn(path, { cookie, account: "current" });
    if ("url" in begun) return reply.header("referrer-policy", "no-referrer").redirect(begun.url.href, 302);
    return sendPage({ deps, request, reply }, begun.page.status, begun.page, { "set-cookie": begun.loop.setCookie });
  }
  if (refused.status === 403) {
    const actor = refused.userId === undefined ? "anonymous" : `user:${refused.userId}`;
    deps.access.refused({ operation: "GET console", actor, status: 403, ip: deps.callerIp() });
  }
  if (refused.status === 503) reply.header("retry-after", "1");
  const rendered = renderFrame(refusedFrame(deps, refused, { text, path }), deps.look, pageReader(deps, request), text);
  return reply.code(refused.status).headers(rendered.headers).send(rendered.html);
}

function refusedFrame(
  deps: ConsoleDeps,
  { status }: Refused,
  { text, path }: Readonly<{ text: PageText; path: string }>,
): PageFrame {
  const { refusal } = text.console;
  const another = deps.signIn(path, { cookie: undefined, account: "another" });
  const lease = text.conditions.lease({ app: null, support: null, provider: null });
  const said = status === 503 ? lease : { title: refusal.title, text: refusal.text };
  return {
    page: "console-refused",
    title: said.title,
    aside: html`<span data-status="${status}">${status}</span>`,
    body: html`<h1>${said.title}</h1><p>${said.text}</p><div class="actions">${
      status === 503
        ? linkButton(path, text.pages.tryAgain, "first")
        : "url" in another && linkButton(another.url.href, text.pages.switchAccount, "first")
    }${linkButton("/.pomerium/", text.account.title, "second")}</div>`,
  };
}

function sendPage(
  { deps, request, reply }: Pick<ConsoleCall, "deps" | "request" | "reply">,
  status: number,
  page: Page,
  headers: Readonly<Record<string, string>>,
): FastifyReply {
  const rendered = deps.render(page, pageReader(deps, request));
  return reply
    .code(status)
    .headers({ ...rendered.headers, ...headers })
    .send(rendered.html);
}

function pageReader({ authenticateUrl }: ConsoleDeps, request: FastifyRequest): PageReader {
  return { host: authenticateUrl.host, language: request.headers["accept-language"] ?? "" };
}

/** Says which role the page needs, and who has it by the configuration of this server. */
async function roleNeeded(view: View, { words, reader, call }: ViewContext): Promise<ViewPage> {
  const { refusal, frame } = words;
  const settings = await call("GET /settings");
  const keys = view.role === "administrator" ? ["administrators"] : ["administrators", "operators"];
  const holders = settings.type === "failed" ? [] : keys.flatMap((key) => roleEntries(settings.body, key, words));
  return {
    title: refusal.role(frame.roles[view.role]),
    lead: refusal.roleText(frame.roles[reader.role]),
    content: html`${
      holders.length > 0 &&
      html`<section><h2>${refusal.holders}</h2><ul>${holders.slice(0, 20).map((holder) => html`<li><code>${holder}</code></li>`)}</ul></section>`
    }${actionLink(`${consolePath}/`, refusal.toOverview)}`,
    command: "cardea operator whoami",
  };
}

/** What a limited role sees, in place of a page about more than its routes. */
function limitedPage(view: View, { words, reader }: ViewContext, shown: readonly View[]): ViewPage {
  const { refusal, overview } = words;
  const groups = (reader.limits.viewer ?? []).map(isolateValue).join(", ");
  const isHome = view.path === "/";
  const links = shown.flatMap(({ menu, path, role }) =>
    menu !== null && path !== "/" && hasRole(reader, role)
      ? [actionLink(`${consolePath}${path}`, menu.label(words))]
      : [],
  );
  return {
    title: isHome ? overview.title : refusal.limited,
    lead: refusal.limitedText(groups),
    content: html`<section data-limited><h2>${refusal.limitedViews}</h2><p class="actions">${links}</p>${!isHome && html`<p class="muted">${refusal.limitedWhy}</p>`}</section>`,
    command: "cardea operator whoami",
  };
}

const notFoundView: View = {
  id: "not-found",
  path: "*",
  menu: null,
  role: "viewer",
  scoped: true,
  render: async ({ words }) => ({
    status: 404,
    title: words.refusal.notFound,
    lead: words.refusal.notFoundText,
    content: actionLink(`${consolePath}/`, words.refusal.toOverview),
    command: null,
  }),
};

function themeOf(request: FastifyRequest): Theme {
  const said = cookieValue(request.headers.cookie, themeCookie);
  return themes.find((theme) => theme === said) ?? "auto";
}
