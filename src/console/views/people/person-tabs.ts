/** Person tabs: access, sessions, decisions and history of one person. Pure. */
import { type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { actButton } from "../components/act.ts";
import { type TimelineEntry, timelineOf } from "../components/history.ts";
import { contentOf, emptyState } from "../components/states.ts";
import { dataTable, type TableRow } from "../components/table.ts";
import { actionLink, consolePath, formatCount, timeValue } from "../components/values.ts";
import type { ViewContext } from "../view.ts";
import { type ListedUser, pageRows } from "./people-parts.ts";
import { type ListedSession, revokeAct, sessionStatus } from "./session-parts.ts";

const decisionsShown = 50;

/** What the person would lose by a suspension is what they can reach. */
export async function accessTab(user: ListedUser, context: ViewContext): Promise<HtmlValue> {
  const { words, call } = context;
  const said = words.people.person;
  const isSuspended = user.status === "suspended";
  if (user.status === "erased") return emptyState(said.reachNone);
  const type = isSuspended ? "restoreUser" : "suspendUser";
  const answer = await call("POST /preview", { body: { command: { type, user: user.id } } });
  const query = String(new URLSearchParams({ person: user.id }));
  const why = html`<p>${actionLink(`${consolePath}/access?${query}`, said.whyAccess)}</p>`;
  return contentOf(answer, context, ({ routes }) => {
    const { routes: reachable, moreRoutes } = isSuspended ? routes.gained : routes.lost;
    if (reachable.length === 0) return html`<p>${said.reachNone}</p>${why}`;
    const count = formatCount(reachable.length + moreRoutes, context);
    const rows = reachable.map(
      ({ route, conditional }): TableRow => ({
        id: route,
        href: null,
        cells: [isolateText(route), conditional > 0 ? said.sometimes : said.always],
      }),
    );
    const columns = [
      { key: "route", label: said.route },
      { key: "access", label: said.access },
    ];
    return html`<p>${isSuspended ? said.reachRestored(count) : said.reach(count)}</p>${dataTable(
      { id: "routes", caption: said.routesCaption, columns, rows, next: null, empty: null },
      context,
    )}${moreRoutes > 0 && html`<p class="muted">${said.moreRoutes(formatCount(moreRoutes, context))}</p>`}${why}`;
  });
}

export async function sessionsTab(user: ListedUser, context: ViewContext): Promise<HtmlValue> {
  const { words, call, query } = context;
  const { acts, sessions: said, person } = words.people;
  const after = query.get("after") ?? undefined;
  const sort = query.get("sort") ?? "-issued";
  const answer = await call("GET /sessions", {
    query: { user: user.id, status: "all", sort, after, limit: pageRows },
  });
  const act = revokeAct(acts, { selection: { table: "sessions", field: "sessionIds" } });
  return contentOf(answer, context, ({ sessions, next }) =>
    dataTable(
      {
        id: "sessions",
        caption: said.caption,
        columns: [
          { key: "issued", label: said.signedIn, sort: "issued" },
          { key: "status", label: said.state },
          { key: "seen", label: said.lastSeen, wide: true },
          { key: "via", label: said.via, wide: true },
          { key: "ends", label: said.ends, sort: "expires" },
        ],
        rows: sessions.map((session) => sessionRow(session, context)),
        next,
        selection: actButton(act, said.revokeSelected, context, { role: "operator" }) ?? undefined,
        empty: emptyState(person.noSessions),
      },
      context,
    ),
  );
}

function sessionRow(session: ListedSession, context: ViewContext): TableRow {
  const { words } = context;
  const said = words.people.sessions;
  const via = session.kind === "token" ? said.kinds.token : (session.provider ?? session.idpId ?? "");
  return {
    id: session.id,
    href: `${consolePath}/sessions/${encodeURIComponent(session.id)}`,
    cells: [
      timeValue(session.issuedAt, context, { style: "relative" }),
      sessionStatus(session, words),
      timeValue(session.lastSeenAt, context, { style: "relative", absent: said.notTracked }),
      via,
      timeValue(session.expiresAt, context, { style: "relative", absent: words.frame.never }),
    ],
    ...(session.status === "active" ? { select: { label: session.issuedAt ?? session.id } } : {}),
  };
}

export async function decisionsTab(user: ListedUser, context: ViewContext): Promise<HtmlValue> {
  const { words, call } = context;
  const said = words.people.person;
  const answer = await call("GET /decisions", { query: { user: user.id, kind: "decision", last: decisionsShown } });
  const query = String(new URLSearchParams({ person: user.id }));
  const all = html`<p>${actionLink(`${consolePath}/decisions?${query}`, said.allDecisions)}</p>`;
  return contentOf(answer, context, ({ decisions }) => {
    const rows = decisions.toReversed().map(({ cursor, record }): TableRow => {
      const { at, result, host, path, reasons, requestId } = record as Readonly<Record<string, unknown>>;
      const id = typeof requestId === "string" ? requestId : cursor;
      return {
        id: cursor,
        href: `${consolePath}/decisions/${encodeURIComponent(id)}`,
        cells: [
          timeValue(typeof at === "number" ? at : null, context, { style: "relative" }),
          String(result ?? ""),
          isolateText(`${String(host ?? "")}${String(path ?? "")}`),
          Array.isArray(reasons) ? reasons.join(", ") : "",
        ],
      };
    });
    return html`${dataTable(
      {
        id: "decisions",
        caption: said.decisions,
        columns: [
          { key: "time", label: said.time },
          { key: "result", label: said.result },
          { key: "route", label: said.route },
          { key: "reason", label: said.reason, wide: true },
        ],
        rows,
        next: null,
        empty: emptyState(said.noDecisions),
      },
      context,
    )}${all}`;
  });
}

export async function historyTab(user: ListedUser, context: ViewContext): Promise<HtmlValue> {
  return historyOf(`user:${user.id}`, context);
}

/** The changes about a person or a group, newest first. @param subject as `GET /changes` takes it */
export async function historyOf(subject: string, context: ViewContext): Promise<HtmlValue> {
  const { words, call, query } = context;
  const said = words.people.person;
  const before = Number(query.get("before"));
  const answer = await call("GET /changes", {
    query: { subject, limit: 50, ...(before > 0 ? { before } : {}) },
  });
  const search = String(new URLSearchParams({ subject }));
  return contentOf(answer, context, ({ changes }) => {
    const days = new Map<string, TimelineEntry[]>();
    for (const change of changes) {
      if (!("text" in change)) continue;
      const day = change.at.slice(0, 10);
      const entry: TimelineEntry = {
        id: String(change.position),
        time: timeValue(change.at, context, { style: "relative" }),
        sentence: isolateText(change.text),
        aside: formatCount(change.position, context),
        href: `${consolePath}/changes/${change.position}`,
      };
      days.set(day, [...(days.get(day) ?? []), entry]);
    }
    if (days.size === 0) return emptyState(said.noHistory);
    const link = actionLink(`${consolePath}/changes?${search}`, said.allChanges);
    return html`${timelineOf([...days].map(([day, entries]) => ({ day, entries })))}<p>${link}</p>`;
  });
}
