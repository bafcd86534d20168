/** Held changes: which mass changes wait, which people do they concern, and what becomes of them? Pure. */
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { actButton, actScripts } from "../components/act.ts";
import { contentOf, emptyState, failedPage } from "../components/states.ts";
import { dataTable } from "../components/table.ts";
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
import type { CallAnswer, View, ViewContext, ViewPage } from "../view.ts";

type HeldAnswer = Extract<Awaited<ReturnType<typeof callHeld>>, { type: "answered" }>["body"];
const callHeld = ({ call, params }: ViewContext) => call("GET /held/:held", { params: { held: params["held"] ?? "" } });

export const heldView: View = {
  id: "held",
  path: "/held",
  menu: { group: "system", label: ({ held }) => held.title, key: "h" },
  role: "viewer",
  scoped: true,
  async render(context) {
    const { words, call } = context;
    const said = words.held;
    const answer = await call("GET /held");
    const waiting = answer.type === "answered" ? answer.body.held.filter(({ status }) => status === "held").length : 0;
    return {
      title: said.title,
      lead: answer.type === "failed" ? words.frame.failed : waiting === 0 ? said.nothing : said.lead(waiting),
      content: contentOf(
        answer,
        context,
        ({ held, allowed }) =>
          html`<p class="muted">${said.explain}</p>${allowed.map(
            ({ source, until }) =>
              html`<p class="notice">${said.allowed(source)} ${timeValue(until, context, { style: "relative" })}</p>`,
          )}${dataTable(
            {
              id: "held",
              caption: said.title,
              columns: [
                { key: "what", label: said.columns.what },
                { key: "people", label: said.columns.people, align: "end" },
                { key: "status", label: said.columns.status },
                { key: "source", label: said.columns.source, wide: true },
                { key: "since", label: said.columns.since, wide: true },
                { key: "until", label: said.columns.until, wide: true },
              ],
              rows: held.map(({ id, subject, people, status, source, heldAt, expiresAt }) => ({
                id,
                href: `${consolePath}/held/${id}`,
                cells: [
                  isolateText(subject),
                  formatCount(people, context),
                  statusPill(status === "held" ? "waiting" : "off", said.statuses[status]),
                  isolateText(source),
                  timeValue(heldAt, context, { style: "relative" }),
                  timeValue(expiresAt, context, { style: "relative" }),
                ],
              })),
              next: null,
              empty: emptyState(said.empty),
            },
            context,
          )}`,
      ),
      command: "cardea held list",
    };
  },
};

export const heldChangeView: View = {
  id: "held-change",
  path: "/held/:held",
  menu: null,
  within: "held",
  role: "viewer",
  scoped: true,
  scripts: [...actScripts],
  async render(context): Promise<ViewPage> {
    const { words } = context;
    const said = words.held;
    const answer: CallAnswer<HeldAnswer> = await callHeld(context);
    if (answer.type === "failed") return failedPage(answer, context, { ...said, list: `${consolePath}/held` });
    const { body } = answer;
    const number = (count: number): string => formatCount(count, context);
    return {
      title: said.one(body.subject),
      lead: html`<span>${said.oneLead(number(body.people), number(body.counted), number(body.limit))}</span>`,
      actions: body.status === "held" ? buttonsOf(body, context) : null,
      content: html`${body.now.refusal !== null && html`<p class="notice">${said.refusedNow(body.now.refusal)}</p>`}${radiusOf(body, context)}${factsOf(body, context)}${actionLink(`${consolePath}/held`, said.back)}`,
      command: `cardea held show ${body.id}`,
    };
  },
};

function buttonsOf({ id, version, people }: HeldAnswer, context: ViewContext): HtmlValue {
  const said = context.words.held;
  const count = formatCount(people, context);
  const own = { body: { version }, reason: "required" } as const;
  return html`${actButton(
    { title: said.dropTitle, text: said.dropText, verb: said.dropVerb, path: `/held/${id}/drop`, ...own },
    said.drop,
    context,
    { role: "operator" },
  )}${actButton(
    {
      title: said.releaseTitle(count),
      text: said.releaseText,
      verb: said.releaseVerb,
      look: "bad",
      path: `/held/${id}/release`,
      ...own,
      typed: String(people),
      fields: [
        {
          name: "allowForMs",
          label: said.allowFor,
          type: "number",
          choices: [
            ["", said.allowChoices.none],
            ["3600000", said.allowChoices.hour],
            ["86400000", said.allowChoices.day],
          ],
        },
      ],
    },
    said.release(count),
    context,
    { role: "administrator" },
  )}`;
}

function radiusOf({ now }: HeldAnswer, context: ViewContext): Html {
  const said = context.words.held;
  const number = (count: number): string => formatCount(count, context);
  const { lost, groups } = now;
  const rest = (count: number, say: (count: string) => string): HtmlValue =>
    count > 0 && html`<p class="muted">${say(number(count))}</p>`;
  return html`<section><h2>${said.now}</h2><p>${said.peopleNow(number(now.people))}</p>${
    groups.length > 0 &&
    html`<dl><dt>${said.groups}</dt><dd>${groups.slice(0, 20).map((id) => html`${groupChip({ id })} `)}</dd></dl>`
  }<h3>${said.routesTitle}</h3>${dataTable(
    {
      id: "routes",
      caption: said.routesTitle,
      columns: [
        { key: "route", label: said.routes.name },
        { key: "people", label: said.routes.people, align: "end" },
        { key: "conditional", label: said.routes.conditional, align: "end" },
      ],
      rows: lost.routes.map(({ route, people, conditional }) => ({
        id: route,
        href: null,
        cells: [isolateText(route), number(people), number(conditional)],
      })),
      next: null,
      empty: emptyState(said.noRoutes),
    },
    context,
  )}${rest(lost.moreRoutes, said.moreRoutes)}${lost.people.length > 0 && peopleOf(lost, context)}${rest(lost.morePeople, said.morePeople)}${rest(lost.unchecked, said.unchecked)}</section>`;
}

function peopleOf({ people }: HeldAnswer["now"]["lost"], context: ViewContext): Html {
  const said = context.words.held;
  return html`<h3>${said.peopleTitle}</h3>${dataTable(
    {
      id: "people",
      caption: said.peopleTitle,
      columns: [
        { key: "person", label: said.person.name },
        { key: "routes", label: said.person.routes },
      ],
      rows: people.map(({ userId, email, routes, more }) => ({
        id: userId,
        href: null,
        cells: [
          personChip({ id: userId, email }, context),
          html`${routes.join(", ")}${more > 0 && ` ${said.moreOfPerson(formatCount(more, context))}`}`,
        ],
      })),
      next: null,
      empty: null,
    },
    context,
  )}`;
}

function factsOf({ id, version, source, actor, heldAt, expiresAt, status }: HeldAnswer, context: ViewContext): Html {
  const said = context.words.held;
  return html`<section><h2>${said.facts}</h2><dl><dt>${said.columns.status}</dt><dd>${statusPill(status === "held" ? "waiting" : "off", said.statuses[status])}</dd><dt>${said.columns.source}</dt><dd>${isolateText(source)}</dd><dt>${said.actor}</dt><dd>${isolateText(actor)}</dd><dt>${said.columns.since}</dt><dd>${timeValue(heldAt, context, { style: "absolute" })}</dd><dt>${said.columns.until}</dt><dd>${timeValue(expiresAt, context, { style: "absolute" })}</dd><dt>${said.version}</dt><dd>${version}</dd><dt>${said.id}</dt><dd>${copyableId(id, context)}</dd></dl></section>`;
}
