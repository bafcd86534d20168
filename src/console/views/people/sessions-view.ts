/** Sessions: who is signed in, from when, until when; and one session. Pure. */
import { type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { actButton } from "../components/act.ts";
import { type FilterChip, filterBar } from "../components/filter-bar.ts";
import { emptyState, errorState, failedPage, noneMatch } from "../components/states.ts";
import { csvPath, dataTable, type TableRow } from "../components/table.ts";
import { actionLink, consolePath, copyableId, formatCount, personChip, timeValue } from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";
import { changeScripts, pageRows, peopleStyles, shellWord, shortenName, utcTime } from "./people-parts.ts";
import { type ListedSession, revokeAct, sessionStatus } from "./session-parts.ts";

export const sessionsView: View = {
  id: "sessions",
  path: "/sessions",
  menu: { group: "who", label: ({ people }) => people.sessions.title, key: "s" },
  role: "viewer",
  scripts: changeScripts,
  styles: peopleStyles,
  render,
};

export const sessionView: View = {
  id: "session",
  path: "/sessions/:id",
  menu: null,
  within: "sessions",
  role: "viewer",
  scripts: changeScripts,
  styles: peopleStyles,
  render: renderOne,
};

const statuses = ["active", "revoked", "expired", "all"] as const;

async function render(context: ViewContext): Promise<ViewPage> {
  const { query, words, call } = context;
  const said = words.people.sessions;
  if (!query.has("sort")) query.set("sort", "-issued");
  const status = statuses.find((each) => each === query.get("status")) ?? "active";
  const given = (name: string): string | undefined => query.get(name) || undefined;
  const endsBefore = utcTime(query.get("before"));
  const filters = { q: given("q"), user: given("person"), group: given("group"), idpId: given("idp") };
  const asked = { ...filters, kind: given("kind"), endsBefore, status, sort: given("sort"), after: given("after") };
  const answer = await call("GET /sessions", { query: { ...asked, limit: pageRows } });
  const command = `cardea sessions list${commandFilters(query, status)}`;
  const base = { title: said.title, command, filters: filtersOf(context, status) };
  if (answer.type === "failed") return { ...base, lead: words.frame.failed, content: errorState(answer, context) };
  const { sessions, next, total } = answer.body;
  const count = formatCount(total.count, context);
  const isFiltered = [...query.keys()].some((name) => !["sort", "after"].includes(name) && query.get(name) !== "");
  const short = next !== null && sessions.length < pageRows;
  return {
    ...base,
    lead: said.lead(count, total.exact),
    filters: filtersOf(context, status, said.found(formatCount(sessions.length, context), count, total.exact)),
    actions: revokeFilter(context, status),
    content: html`${short && html`<p class="muted">${said.short}</p>`}${dataTable(
      {
        id: "sessions",
        caption: said.caption,
        columns: [
          { key: "person", label: said.person, sort: "person" },
          { key: "issued", label: said.signedIn, sort: "issued" },
          { key: "seen", label: said.lastSeen, wide: true },
          { key: "via", label: said.via, wide: true },
          { key: "ends", label: said.ends, sort: "expires" },
          ...(status === "active" ? [] : [{ key: "status", label: said.state }]),
        ],
        rows: sessions.map((session) => rowOf(session, context, status !== "active")),
        next,
        csv: csvPath("/sessions", { ...asked, after: undefined }),
        selection: selectionOf(context),
        empty: isFiltered ? noneMatch(context) : emptyState(said.empty),
      },
      context,
    )}`,
  };
}

function rowOf(session: ListedSession, context: ViewContext, withStatus: boolean): TableRow {
  const { words } = context;
  const said = words.people.sessions;
  const { id, name, email, userId, provider, idpId, kind, status } = session;
  const shown = shortenName(name || email || userId?.slice(0, 8) || said.noPerson);
  const via = kind === "token" ? said.kinds.token : (provider ?? (idpId === null ? "" : said.unknownProvider));
  return {
    id,
    href: `${consolePath}/sessions/${encodeURIComponent(id)}`,
    cells: [
      html`${isolateText(shown)}${email !== "" && email !== shown && html` <small class="muted">${isolateText(shortenName(email))}</small>`}`,
      timeValue(session.issuedAt, context, { style: "relative" }),
      timeValue(session.lastSeenAt, context, { style: "relative", absent: said.notTracked }),
      html`<span title="${idpId ?? ""}">${via}</span>`,
      timeValue(session.expiresAt, context, { style: "relative", absent: words.frame.never }),
      ...(withStatus ? [sessionStatus(session, words)] : []),
    ],
    ...(status === "active" ? { select: { label: shown } } : {}),
  };
}

function selectionOf(context: ViewContext): HtmlValue {
  const { acts, sessions } = context.words.people;
  const act = revokeAct(acts, { selection: { table: "sessions", field: "sessionIds" } });
  const button = actButton(act, sessions.revokeSelected, context, { role: "operator", primary: true });
  return button ?? undefined;
}

/** Only where the filters of this page are those that a revocation knows: else other sessions would end. */
function revokeFilter(context: ViewContext, status: string): HtmlValue {
  const { query, words } = context;
  const { acts, sessions } = words.people;
  const [group, idpId] = [query.get("group"), query.get("idp")];
  const others = ["q", "person", "kind", "before"].some((name) => (query.get(name) ?? "") !== "");
  if (status !== "active" || others) return null;
  const filter = group || idpId ? { ...(group ? { group } : {}), ...(idpId ? { idpId } : {}) } : { all: true };
  return actButton(
    {
      title: acts.revokeFilter,
      text: acts.revokeFilterText,
      verb: acts.revokeFilter,
      look: "bad",
      path: "/sessions/revoke",
      body: { filter },
      preview: { type: "revokeSessions", filter },
    },
    sessions.revokeAll,
    context,
    { role: "operator" },
  );
}

function filtersOf(context: ViewContext, status: string, found: HtmlValue = null): HtmlValue {
  const { query, words } = context;
  const said = words.people.sessions;
  const chip = (name: string, label: (value: string) => string): FilterChip[] => {
    const value = query.get(name);
    return value ? [{ name, label: label(value) }] : [];
  };
  return filterBar(
    {
      fields: [
        { name: "q", label: said.search, main: true },
        {
          name: "status",
          label: said.status,
          value: status,
          choices: statuses.map((each) => [each, said.states[each]]),
        },
        {
          name: "kind",
          label: said.kind,
          choices: [
            ["", said.anyKind],
            ["sign-in", said.kinds["sign-in"]],
            ["token", said.kinds.token],
          ],
        },
        { name: "before", label: said.before, type: "datetime-local" },
      ],
      chips: [
        ...chip("person", (id) => said.personFilter(id.slice(0, 8))),
        ...chip("group", said.groupFilter),
        ...chip("idp", (id) => said.idpFilter(id.slice(0, 8))),
      ],
      kept: ["person", "group", "idp", "sort"],
      found,
    },
    context,
  );
}

function commandFilters(query: URLSearchParams, status: string): string {
  const options = { q: "--search", person: "--user", group: "--group", idp: "--idp", kind: "--kind" } as const;
  const words = Object.entries(options).flatMap(([name, option]) => {
    const value = query.get(name);
    return value ? [option, shellWord(value)] : [];
  });
  const before = utcTime(query.get("before"));
  const rest = [...(before === undefined ? [] : ["--ends-before", before]), "--status", status];
  return ` ${[...words, ...rest].join(" ")}`;
}

async function renderOne(context: ViewContext): Promise<ViewPage> {
  const { params, words, call } = context;
  const said = words.people.session;
  const id = params["id"] ?? "";
  const answer = await call("GET /sessions/:id", { params: { id } });
  const command = `cardea sessions show ${shellWord(id)}`;
  if (answer.type === "failed") {
    const back = words.people.sessions.title;
    return { ...failedPage(answer, context, { ...said, back, list: `${consolePath}/sessions` }), command };
  }
  const { session } = answer.body;
  return {
    title: said.title,
    lead: html`${sessionStatus(session, words)} ${said.lead[session.status]}${session.reason !== null && html` ${said.why(session.reason)}`}`,
    actions: session.status === "active" ? revokeOne(session, context) : null,
    content: factsOf(session, context),
    command,
  };
}

function revokeOne({ id }: ListedSession, context: ViewContext): HtmlValue {
  const { acts, session } = context.words.people;
  return actButton(
    {
      title: acts.revokeOne,
      text: acts.revokeOneText,
      verb: acts.revokeOne,
      look: "bad",
      path: `/sessions/${encodeURIComponent(id)}/revoke`,
      body: {},
      preview: { type: "revokeSessions", sessionIds: [id] },
    },
    session.revoke,
    context,
    { role: "operator", primary: true },
  );
}

function factsOf(session: ListedSession, context: ViewContext): HtmlValue {
  const { words } = context;
  const said = words.people.session;
  const at = (time: string | null, absent?: string): HtmlValue =>
    timeValue(time, context, { style: "absolute", ...(absent === undefined ? {} : { absent }) });
  const seen = session.lastSeenBy === null ? "" : ` (${said.seenBy[session.lastSeenBy]})`;
  const person = { id: session.userId, name: shortenName(session.name), email: shortenName(session.email) };
  return html`<dl class="facts"><dt>${said.id}</dt><dd>${copyableId(session.id, context)}</dd><dt>${said.person}</dt><dd>${personChip(person, context)}${
    session.email !== "" && html` <span class="muted">${isolateText(shortenName(session.email))}</span>`
  }</dd><dt>${said.provider}</dt><dd>${session.provider ?? session.idpId ?? words.frame.unknown}</dd><dt>${said.signedIn}</dt><dd>${at(session.issuedAt)}</dd><dt>${said.refreshed}</dt><dd>${at(session.refreshedAt)}</dd><dt>${said.lastSeen}</dt><dd>${at(session.lastSeenAt, words.people.sessions.notTracked)}${seen}</dd>${
    session.idleAt !== null && html`<dt>${said.idle}</dt><dd>${at(session.idleAt)}</dd>`
  }<dt>${said.ends}</dt><dd>${at(session.expiresAt, words.frame.never)}</dd></dl>${
    session.userId !== null &&
    html`<p>${actionLink(`${consolePath}/decisions?${String(new URLSearchParams({ person: session.userId }))}`, said.decisions)}</p>`
  }`;
}
