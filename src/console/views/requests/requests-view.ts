/** Access requests: who is asking for what, and what becomes of it? Pure. */

import type { RequestDetail, RequestView } from "../../api/requests/request-schemas.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { definitionList, isolateText } from "../../pages/layout.ts";
import { actButton, actScripts } from "../components/act.ts";
import { contentOf, emptyState, failedPage } from "../components/states.ts";
import { dataTable, linkWith } from "../components/table.ts";
import {
  actionLink,
  consolePath,
  copyableId,
  formatCount,
  groupChip,
  personChip,
  statusPill,
  timeValue,
} from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";

const pageMax = 100;
const pills = { pending: "waiting", approved: "good", denied: "bad" } as const;

export const requestsView: View = {
  id: "requests",
  path: "/requests",
  menu: { group: "access", label: ({ requests }) => requests.title, key: "q" },
  role: "viewer",
  scoped: true,
  approver: true,
  async render(context) {
    const { words, call, query, path } = context;
    const said = words.requests;
    const status = query.get("status") === "over" ? "over" : "open";
    const after = query.get("after");
    const answer = await call("GET /access-requests", {
      query: { status, limit: pageMax, ...(after === null ? {} : { after }) },
    });
    const tab = (of: "open" | "over"): Html =>
      html`<a class="button" href="${linkWith(path, new URLSearchParams(), of === "open" ? {} : { status: of })}"${of === status && html` aria-current="page"`}>${said.views[of]}</a>`;
    return {
      title: said.title,
      lead: answer.type === "failed" ? words.frame.failed : said.lead(answer.body.pending),
      actions: html`${tab("open")}${tab("over")}`,
      content: contentOf(
        answer,
        context,
        ({ requests, next }) =>
          html`<p class="muted">${said.explain}</p>${dataTable(
            {
              id: "requests",
              caption: said.title,
              columns: [
                { key: "person", label: said.columns.person },
                { key: "route", label: said.columns.route },
                { key: "status", label: said.columns.status },
                { key: "asked", label: said.columns.asked, wide: true },
                { key: "at", label: said.columns.at, wide: true },
                { key: "until", label: said.columns.until, wide: true },
              ],
              rows: requests.map((request) => rowOf(request, context)),
              next,
              empty: emptyState(said.empty),
            },
            context,
          )}`,
      ),
      command: `cardea requests list${status === "over" ? " --status over" : ""}`,
    };
  },
};

function rowOf(request: RequestView, context: ViewContext) {
  const { id, until, requestedAt, durationMs } = request;
  return {
    id,
    href: `${consolePath}/requests/${id}`,
    cells: [
      isolateText(nameOf(request)),
      isolateText(routeOf(request)),
      pillOf(request, context),
      context.text.access.duration(durationMs),
      timeValue(requestedAt, context, { style: "relative" }),
      until === null ? "" : timeValue(until, context, { style: "relative" }),
    ],
  };
}

const nameOf = ({ person }: RequestView): string => person.name || person.email || person.id.slice(0, 8);
const routeOf = ({ route }: RequestView): string => route.name || route.from || route.id;

function pillOf({ status }: RequestView, { words }: ViewContext): Html {
  const kind = status === "pending" || status === "approved" || status === "denied" ? pills[status] : "off";
  return statusPill(kind, words.requests.statuses[status]);
}

export const requestView: View = {
  id: "request",
  path: "/requests/:request",
  menu: null,
  within: "requests",
  role: "viewer",
  scoped: true,
  approver: true,
  scripts: [...actScripts],
  async render(context): Promise<ViewPage> {
    const { words, call, params } = context;
    const said = words.requests;
    const answer = await call("GET /access-requests/:request", { params: { request: params["request"] ?? "" } });
    if (answer.type === "failed") return failedPage(answer, context, { ...said, list: `${consolePath}/requests` });
    const { body } = answer;
    return {
      title: said.one(nameOf(body), routeOf(body)),
      lead: html`${pillOf(body, context)}`,
      actions: buttonsOf(body, context),
      content: html`${factsOf(body, context)}${opensOf(body, context)}${actionLink(`${consolePath}/requests`, said.back)}`,
      command: `cardea requests show ${body.id}`,
    };
  },
};

/** What the caller may do is the API's word, so a button needs no role. */
function buttonsOf(request: RequestDetail, context: ViewContext): HtmlValue {
  const said = context.words.requests;
  const { id, may, group, durations, durationMs } = request;
  const person = nameOf(request);
  const path = `/access-requests/${id}`;
  const note = { name: "note", label: said.note, type: "text" } as const;
  const { duration } = context.text.access;
  const choices = [...new Set([durationMs, ...durations])].map((ms) => [String(ms), duration(ms)] as const);
  const open = { role: "viewer" } as const;
  return html`${
    may.decide &&
    actButton(
      {
        title: said.approveTitle(person),
        text: said.approveText(group),
        verb: said.approveVerb,
        look: "first",
        path: `${path}/approve`,
        body: {},
        fields: [
          {
            name: "durationMs",
            label: said.length,
            type: "number",
            value: String(durationMs),
            choices,
            required: true,
          },
          note,
        ],
      },
      said.approve,
      context,
      open,
    )
  }${
    may.decide &&
    actButton(
      {
        title: said.denyTitle(person),
        text: said.denyText,
        verb: said.denyVerb,
        path: `${path}/deny`,
        body: {},
        fields: [note],
        receipt: false,
      },
      said.deny,
      context,
      open,
    )
  }${
    may.end &&
    actButton(
      {
        title: said.endTitle(person),
        text: said.endText,
        verb: said.endVerb,
        look: "bad",
        path: `${path}/end`,
        body: {},
      },
      said.end,
      context,
      { ...open, primary: true },
    )
  }`;
}

function factsOf(request: RequestDetail, context: ViewContext): Html {
  const { facts } = context.words.requests;
  // The pages of people and groups are closed to an approver without a role.
  const { isApprover } = context.reader;
  const { reason, note, until, decidedAt, decidedBy, endedAt, expiresAt, status, refusal, person, group, id } = request;
  const time = (at: string | null): HtmlValue => at !== null && timeValue(at, context, { style: "relative" });
  return html`${definitionList([
    [context.words.requests.columns.person, isApprover ? isolateText(nameOf(request)) : personChip(person, context)],
    [facts.reason, reason === null ? facts.none : isolateText(reason)],
    [facts.group, isApprover ? isolateText(group) : groupChip({ id: group })],
    [facts.asked, context.text.access.duration(request.durationMs)],
    [facts.at, time(request.requestedAt)],
    [facts.lapses, status === "pending" && time(expiresAt)],
    [facts.decided, decidedAt !== null && html`${time(decidedAt)} ${decidedBy !== null && facts.by(decidedBy.name)}`],
    [facts.note, note !== null && isolateText(note)],
    [facts.until, time(until)],
    [facts.ended, time(endedAt)],
    [facts.refusal, refusal !== null && copyableId(refusal, context)],
    [facts.id, copyableId(id, context)],
  ])}`;
}

function opensOf({ group, opens, openCount }: RequestDetail, context: ViewContext): Html {
  const said = context.words.requests;
  const more = openCount - opens.length;
  return html`<section><h2>${said.opens(group)}</h2>${dataTable(
    {
      id: "opens",
      caption: said.opens(group),
      columns: [
        { key: "route", label: said.route },
        { key: "address", label: said.address, wide: true },
      ],
      rows: opens.map(({ id, name, from }) => ({
        id,
        href: null,
        cells: [isolateText(name || id), isolateText(from)],
      })),
      next: null,
      empty: emptyState(said.opensNothing),
    },
    context,
  )}${more > 0 && html`<p class="muted">${said.more(formatCount(more, context))}</p>`}</section>`;
}
