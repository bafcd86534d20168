/** Access: who could reach a route, or what a person could reach, now and earlier, and between two moments. */
import type { WhatReport, WhoReport } from "../../api/past/access-reports.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText, isolateValue } from "../../pages/layout.ts";
import { filterBar } from "../components/filter-bar.ts";
import { errorState, noneMatch } from "../components/states.ts";
import { consolePath, formatCount, personChip, routeChip, statusPill, timeValue } from "../components/values.ts";
import type { CallAnswer, View, ViewContext, ViewPage } from "../view.ts";
import { shellWord } from "./decisions-view.ts";
import { fieldTime, personNamed, textIn, timeIn } from "./record-parts.ts";

export const accessView: View = {
  id: "access",
  path: "/access",
  menu: { group: "access", label: ({ record }) => record.access.title, key: "a" },
  role: "viewer",
  scoped: true,
  scripts: ["access-report.js"],
  styles: ["record.css"],
  render,
};

/** People that the page shows for each configuration. */
const peopleMax = 500;
const factsShown = 4;

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, query } = context;
  const said = words.record.access;
  const [at, compare] = [timeIn(query, "at"), timeIn(query, "compare")];
  const page = { title: said.title, filters: filtersOf(context), command: null };
  if (at === null || compare === null)
    return {
      ...page,
      status: 404,
      lead: said.badTime(query.get(at === null ? "at" : "compare") ?? ""),
      content: noneMatch(context),
    };
  const route = textIn(context, "route");
  if (route !== undefined) return renderWho(context, page, { route, at, compare });
  const person = await personNamed(context, textIn(context, "person"));
  if (person === null)
    return {
      ...page,
      status: 404,
      lead: words.record.decisions.unknownPerson(query.get("person") ?? ""),
      content: noneMatch(context),
    };
  if (person !== undefined) return renderWhat(context, page, { person: person.id, at });
  return { ...page, lead: said.lead, content: null, command: "cardea access who --route ROUTE" };
}

type Page = Pick<ViewPage, "title" | "filters" | "command">;

function filtersOf(context: ViewContext): Html {
  const { query, words } = context;
  const { access } = words.record;
  const time = { name: "at", label: access.at, type: "datetime-local" as const, value: fieldTime(timeIn(query, "at")) };
  const compare = {
    name: "compare",
    label: access.compare,
    type: "datetime-local" as const,
    value: fieldTime(timeIn(query, "compare")),
  };
  const chips = (["route", "person", "at", "compare"] as const).flatMap((name) => {
    const value = textIn(context, name);
    return value === undefined ? [] : [{ name, label: `${access[name]}: ${value}` }];
  });
  const fields = [
    { name: "route", label: access.route, main: true as const },
    { name: "person", label: access.person },
  ];
  return filterBar({ fields: [...fields, time, compare], chips }, context);
}

// --- who could reach a route

type Moments = Readonly<{ route: string; at: string | undefined; compare: string | undefined }>;

async function renderWho(context: ViewContext, page: Page, { route, at, compare }: Moments): Promise<ViewPage> {
  const said = context.words.record.access;
  const command = `cardea access who --route ${shellWord(route)}${at === undefined ? "" : ` --at ${at}`}`;
  const ask = (when: string | undefined) =>
    context.call("GET /access/who", { query: { route, at: when, limit: peopleMax, as: "json" } });
  const answer = await ask(at);
  if (answer.type === "failed") return failedPage(answer, context, { ...page, command });
  const report = answer.body as unknown as WhoReport;
  // One report of the past runs at a time.
  const other = compare === undefined ? undefined : await ask(compare);
  const [first] = report.configurations;
  const people = report.configurations.flatMap(({ people: all }) => all);
  const count = (result: string): string =>
    formatCount(new Set(people.filter((each) => each.result === result).map(({ userId }) => userId)).size, context);
  const denied = formatCount(first?.denied ?? 0, context);
  const problem = report.configurations.find((each) => each.problem !== null)?.problem ?? null;
  return {
    ...page,
    command,
    status: first?.route === null ? 404 : 200,
    lead:
      first === undefined || first.route === null
        ? `${said.problem} ${problem ?? ""}`
        : said.leadWho(count("permit"), count("conditional"), denied),
    actions: html`<button type="button" id="csv" data-name="access-${route.replaceAll(/[^\w.-]+/g, "-").slice(0, 60)}" hidden>${context.words.frame.csv}</button>`,
    content: html`<div id="moment" data-at="${report.at}">${basisOf(report, context)}${
      other !== undefined && comparisonOf(other, report, context)
    }${report.configurations.map((each) => whoTable(each, context))}</div>`,
  };
}

function failedPage(
  answer: Extract<CallAnswer<unknown>, { type: "failed" }>,
  context: ViewContext,
  page: Page,
): ViewPage {
  const said = context.words.record.access;
  const isNamed = answer.status === 400 || answer.status === 404 || answer.status === 409;
  return {
    ...page,
    status: isNamed ? 404 : 503,
    lead: `${said.problem} ${answer.error}`,
    content: isNamed ? noneMatch(context) : errorState(answer, context),
  };
}

function basisOf({ at, link }: WhoReport | WhatReport, context: ViewContext): Html {
  const said = context.words.record.access;
  return html`<p class="muted">${timeValue(at, context, { style: "absolute" })} · ${said.from(formatCount(link.position, context))}</p>`;
}

type WhoConfiguration = WhoReport["configurations"][number];

function whoTable(
  { configHash, nodes, route, problem, anyone, people, denied, more }: WhoConfiguration,
  context: ViewContext,
): Html {
  const said = context.words.record.access;
  const head = html`<p class="muted">${said.configuration(configHash.slice(0, 12), isolateValue(nodes.join(", ")))}</p>`;
  if (route === null) return html`<section>${head}<p>${problem ?? said.problem}</p></section>`;
  const { columns } = said;
  const open =
    anyone !== null &&
    anyone.result !== "deny" &&
    html`<p>${answerPill(anyone.result, context)} ${said.anyone} <span class="muted">${anyone.conditions.join("; ")}</span></p>`;
  const name = isolateValue(route.name || route.id);
  return html`<section>${head}${open}${
    people.length === 0
      ? html`<div class="empty"><p>${said.none}</p></div>`
      : html`<div class="table-box"><table data-table data-csv><caption class="quiet">${said.caption(name)}</caption><thead><tr><th scope="col">${columns.person}</th><th scope="col">${columns.answer}</th><th scope="col">${columns.because}</th><th scope="col" class="wide">${columns.rule}</th></tr></thead><tbody>${people.map(
          (person) =>
            html`<tr data-id="${person.userId}" tabindex="-1"><td>${personChip({ id: person.userId, name: person.name, email: person.email }, context)}</td><td>${answerPill(person.result, context)}</td><td>${becauseOf(person, context)}</td><td class="wide"><code>${person.rule ?? ""}</code></td></tr>`,
        )}</tbody></table></div>`
  }<p class="muted">${said.denied(formatCount(denied, context))} ${more && said.more}</p></section>`;
}

function answerPill(result: string, { words }: ViewContext): Html {
  const { answers } = words.record.access;
  const kind = result === "permit" ? "good" : result === "conditional" ? "waiting" : "bad";
  return statusPill(kind, Object.hasOwn(answers, result) ? answers[result as keyof typeof answers] : result);
}

type Person = WhoConfiguration["people"][number];

/** The groups that gave it, each with the event that set it; else the conditions. */
function becauseOf({ facts, conditions, note }: Person, context: ViewContext): Html {
  const groups = facts.filter(({ member }) => member === true).slice(0, factsShown);
  const texts = [...conditions, ...(note === null ? [] : [note])];
  return html`<ul class="facts-of">${groups.map((fact) => html`<li>${factOf(fact, context)}</li>`)}${texts.map(
    (text) => html`<li class="muted">${isolateText(text)}</li>`,
  )}</ul>`;
}

function factOf({ fact, until, position, event }: Person["facts"][number], context: ViewContext): Html {
  const said = context.words.record.access;
  const at = event?.position ?? position;
  const how =
    event === null
      ? null
      : html` <span class="muted">${isolateText(event.says)}, ${timeValue(event.at, context, { style: "relative" })}</span>`;
  const name = fact.startsWith("group:") ? fact.slice("group:".length) : fact;
  return html`${at > 0 ? html`<a href="${consolePath}/changes/${at}">${isolateText(name)}</a>` : isolateText(name)}${how}${
    until !== undefined && html` <span class="muted">${said.until(until)}</span>`
  }`;
}

/** Who gained and who lost between two moments. */
function comparisonOf(other: CallAnswer<unknown>, report: WhoReport, context: ViewContext): HtmlValue {
  const said = context.words.record.access;
  if (other.type === "failed") return errorState(other, context);
  const second = other.body as WhoReport;
  const [earlier, later] = report.at <= second.at ? [report, second] : [second, report];
  const could = ({ configurations }: WhoReport): ReadonlyMap<string, Person> =>
    new Map(configurations.flatMap(({ people }) => people.map((person) => [person.userId, person] as const)));
  const [before, after] = [could(earlier), could(later)];
  const gained = [...after].filter(([id]) => !before.has(id)).map(([, person]) => person);
  const lost = [...before].filter(([id]) => !after.has(id)).map(([, person]) => person);
  const list = (title: string, sign: string, people: readonly Person[]): HtmlValue =>
    people.length > 0 &&
    html`<h3>${title}</h3><ul class="facts-of">${people.map(
      (person) =>
        html`<li>${sign} ${personChip({ id: person.userId, name: person.name, email: person.email }, context)} <a href="${consolePath}/changes?${String(new URLSearchParams({ subject: `user:${person.userId}`, from: earlier.at, to: later.at }))}">${context.words.record.changes.title}</a></li>`,
    )}</ul>`;
  const title = html`<h2 id="compared">${timeValue(earlier.at, context, { style: "absolute" })} → ${timeValue(later.at, context, { style: "absolute" })}</h2>`;
  return html`<section aria-labelledby="compared" class="comparison">${title}${
    gained.length + lost.length === 0
      ? html`<p>${said.same}</p>`
      : html`${list(said.gained, "+", gained)}${list(said.lost, "−", lost)}`
  }</section>`;
}

// --- what a person could reach

async function renderWhat(
  context: ViewContext,
  page: Page,
  { person, at }: Readonly<{ person: string; at: string | undefined }>,
): Promise<ViewPage> {
  const said = context.words.record.access;
  const command = `cardea access what --user ${shellWord(person)}${at === undefined ? "" : ` --at ${at}`}`;
  const answer = await context.call("GET /access/what", { query: { user: person, at, as: "json" } });
  if (answer.type === "failed") return failedPage(answer, context, { ...page, command });
  const report = answer.body as unknown as WhatReport;
  const routes = report.configurations.flatMap(({ routes: all }) => all);
  const could = routes.filter(({ result }) => result !== "deny").length;
  const name = isolateValue(report.email || report.userId.slice(0, 8));
  return {
    ...page,
    command,
    lead: said.leadWhat(name, formatCount(could, context), formatCount(routes.length, context)),
    actions: html`<button type="button" id="csv" data-name="access-${report.userId.slice(0, 8)}" hidden>${context.words.frame.csv}</button>`,
    content: html`<div id="moment" data-at="${report.at}">${basisOf(report, context)}${report.note !== null && html`<p>${report.note}</p>`}${report.configurations.map(
      ({ configHash, nodes, routes: all, problem }) =>
        html`<section><p class="muted">${said.configuration(configHash.slice(0, 12), isolateValue(nodes.join(", ")))}</p>${
          problem !== null
            ? html`<p>${problem}</p>`
            : html`<div class="table-box"><table data-table data-csv><caption class="quiet">${said.captionWhat(name)}</caption><thead><tr><th scope="col">${said.columns.route}</th><th scope="col">${said.columns.answer}</th><th scope="col">${said.columns.because}</th><th scope="col" class="wide">${said.columns.address}</th></tr></thead><tbody>${all.map(
                (route) =>
                  html`<tr data-id="${route.id}" tabindex="-1"><td>${routeChip({ id: route.id, name: route.name })}</td><td>${answerPill(route.problem === null ? route.result : "deny", context)}</td><td>${isolateText([...(route.problem === null ? [] : [route.problem]), ...route.conditions].join("; "))} ${route.rule !== null && html`<code>${route.rule}</code>`}</td><td class="wide">${isolateText(route.from)}</td></tr>`,
              )}</tbody></table></div>`
        }</section>`,
    )}<h2>${context.words.record.why.facts}</h2><ul class="facts-of">${report.facts.map((fact) => html`<li>${factOf(fact, context)}</li>`)}</ul></div>`,
  };
}
