/**
 * Decisions: what is being decided, live, and what was decided in a span of time. Without scripts it is a list of the
 * newest.
 */
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { filterBar } from "../components/filter-bar.ts";
import { emptyState, errorState, noneMatch } from "../components/states.ts";
import { linkWith } from "../components/table.ts";
import {
  consolePath,
  formatCount,
  personChip,
  routeChip,
  statusPill,
  timeValue,
  wordsFor,
} from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";
import { fieldTime, personNamed, reasonText, resultKind, resultWord, textIn, timeIn } from "./record-parts.ts";

export const decisionsView: View = {
  id: "decisions",
  path: "/decisions",
  menu: { group: "record", label: ({ record }) => record.decisions.title, key: "d" },
  role: "viewer",
  scoped: true,
  scripts: ["decisions.js"],
  styles: ["record.css"],
  render,
};

/** A record as far as a row shows it. */
export type ShownRecord = Readonly<{
  kind: string;
  boot: string;
  seq: number;
  node: string;
  at: number;
  first?: number;
  last?: number;
  occasion?: string;
  requestId?: string;
  routeId?: string | null;
  routeName?: string;
  method?: string;
  host?: string;
  path?: string;
  userId?: string | null;
  result?: string;
  status?: number;
  reasons?: readonly string[];
}>;
type DecisionList = Readonly<{
  decisions: readonly Readonly<{ cursor: string; record: ShownRecord }>[];
  next: string;
  more: boolean;
  missed: Readonly<{ count: number | null }> | null;
  names?: Readonly<Record<string, string>>;
}>;

const liveRows = 100;
const foundRows = 200;

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, query } = context;
  const said = words.record.decisions;
  const [from, to] = [timeIn(query, "from"), timeIn(query, "to")];
  const person = await personNamed(context, textIn(context, "person"));
  const problem =
    from === null || to === null
      ? said.badTime(query.get(from === null ? "from" : "to") ?? "")
      : person === null
        ? said.unknownPerson(query.get("person") ?? "")
        : null;
  const filters = filtersOf(context, person ?? undefined);
  const page = { title: said.title, filters, command: commandOf(context, person?.id) };
  if (problem !== null) return { ...page, status: 404, lead: problem, content: noneMatch(context) };
  const isSpan = from !== undefined || to !== undefined || query.has("after");
  const asked = {
    kind: "decision,gap",
    result: textIn(context, "result"),
    route: textIn(context, "route"),
    reason: textIn(context, "reason"),
    node: textIn(context, "node"),
    user: person?.id,
    names: true,
  };
  const span = { since: from ?? undefined, until: to ?? undefined, after: query.get("after") ?? undefined };
  const answer = await context.call("GET /decisions", {
    query: isSpan
      ? { ...asked, ...span, ...(from === undefined && span.after === undefined && { since: 0 }), limit: foundRows }
      : { ...asked, last: liveRows },
  });
  if (answer.type === "failed") return { ...page, lead: words.frame.failed, content: errorState(answer, context) };
  const list = answer.body as unknown as DecisionList;
  const rows = isSpan ? list.decisions : list.decisions.toReversed();
  const count = formatCount(rows.length, context);
  const lead = !isSpan ? said.leadLive(count) : list.more ? said.leadMore(count) : said.leadFound(count);
  return {
    ...page,
    lead,
    ...(isSpan ? {} : { actions: liveControls(context) }),
    content: html`${list.missed !== null && gapNote(said.missed, list.missed.count, context)}${tableOf(rows, list, { context, isSpan, live: asked })}`,
  };
}

function gapNote(say: (count: string) => string, count: number | null, context: ViewContext): Html {
  const { missedSome } = context.words.record.decisions;
  return html`<p class="gap-note">${count === null ? missedSome : say(formatCount(count, context))}</p>`;
}

function liveControls({ words }: ViewContext): Html {
  const said = words.record.decisions;
  return html`<span id="feed-state" class="muted" role="status"></span><button type="button" id="pause" aria-keyshortcuts="." hidden>${said.pause} <kbd>.</kbd></button>`;
}

type Asked = Readonly<Record<string, string | number | boolean | undefined>>;

function tableOf(
  rows: DecisionList["decisions"],
  list: DecisionList,
  { context, isSpan, live }: Readonly<{ context: ViewContext; isSpan: boolean; live: Asked }>,
): HtmlValue {
  const { words, query, path } = context;
  const { columns, caption, none } = words.record.decisions;
  const isFiltered = [...query.keys()].some((name) => query.get(name) !== "");
  const empty = isFiltered ? noneMatch(context) : emptyState(none);
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(live)) if (value !== undefined) search.set(name, String(value));
  search.set("after", list.next);
  const scripted = html` data-stream="${isSpan ? "" : String(search)}" data-words="${scriptWords(context)}"`;
  return html`<div class="empty" id="no-decisions"${rows.length > 0 && html` hidden`}>${empty}</div><div class="table-box"${rows.length === 0 && html` hidden`}><table id="decisions" data-table${scripted}><caption class="quiet">${caption}</caption><thead><tr><th scope="col">${columns.time}</th><th scope="col">${columns.result}</th><th scope="col" class="wide">${columns.person}</th><th scope="col">${columns.request}</th><th scope="col" class="wide">${columns.why}</th><th scope="col" class="wide">${columns.node}</th></tr></thead><tbody>${rows.map(
    ({ record }) => rowOf(record, list.names ?? {}, context),
  )}</tbody></table></div>${
    isSpan &&
    list.more &&
    html`<nav class="pager"><a class="button" rel="next" href="${linkWith(path, query, { after: list.next })}">${words.frame.next}</a></nav>`
  }`;
}

function rowOf(record: ShownRecord, names: Readonly<Record<string, string>>, context: ViewContext): Html {
  const said = context.words.record.decisions;
  if (record.kind === "gap") {
    const count = (record.last ?? 0) - (record.first ?? 0) + 1;
    return html`<tr class="gap" data-id="${idOf(record)}" tabindex="-1"><td colspan="6">${said.gap(count, record.node)}</td></tr>`;
  }
  const { userId = null, result = "", status = 0, method = "", host = "", path = "", reasons = [] } = record;
  const person =
    userId === null
      ? html`<span class="muted">${said.noPerson}</span>`
      : personChip({ id: userId, name: names[userId] ?? null }, context);
  const route = record.routeId ?? null;
  return html`<tr data-id="${idOf(record)}" tabindex="-1"><td><a class="row" href="${whyHref(record)}">${timeValue(record.at, context, { style: "absolute" })}</a></td><td>${statusPill(resultKind(result), resultWord(result, said))} <span class="muted">${status}</span></td><td class="wide">${person}</td><td><span class="narrow">${person}</span><code class="request">${method} ${isolateText(`${host}${path}`)}</code>${route !== null && html` <small>${routeChip({ id: route, name: record.routeName ?? null })}</small>`}</td><td class="wide">${
    result === "permit" ? null : isolateText(reasonText(reasons, names[userId ?? ""] ?? said.noPerson, said))
  }</td><td class="wide">${isolateText(record.node)}</td></tr>`;
}

const idOf = ({ boot, seq }: ShownRecord): string => `${boot}:${seq}`;
export const whyHref = (record: Pick<ShownRecord, "boot" | "seq">): string =>
  `${consolePath}/decisions/${encodeURIComponent(`${record.boot}:${record.seq}`)}`;

function filtersOf(context: ViewContext, person: Readonly<{ id: string; label: string }> | undefined): Html {
  const { query, words } = context;
  const { filters, anyResult = "", results } = { ...words.record.decisions, ...words.record.decisions.filters };
  const chips = (["result", "route", "reason", "node", "from", "to"] as const).flatMap((name) => {
    const value = textIn(context, name);
    return value === undefined ? [] : [{ name, label: `${filters[name]}: ${value}` }];
  });
  const named = person === undefined ? [] : [{ name: "person", label: `${filters.person}: ${person.label}` }];
  const fields = [
    {
      name: "result",
      label: filters.result,
      choices: [["", anyResult], ...Object.entries(results)] as (readonly [string, string])[],
    },
    { name: "route", label: filters.route, main: true as const },
    { name: "person", label: filters.person, value: person?.id ?? query.get("person") ?? "" },
    { name: "reason", label: filters.reason },
    { name: "from", label: filters.from, type: "datetime-local" as const, value: fieldTime(timeIn(query, "from")) },
    { name: "to", label: filters.to, type: "datetime-local" as const, value: fieldTime(timeIn(query, "to")) },
  ];
  const bar = filterBar({ fields, chips: [...chips, ...named], kept: ["node"] }, context);
  return html`${bar}<form class="filters" method="get" action="${consolePath}/decisions/by-id"><label><span class="quiet">${filters.id}</span><input type="search" name="id" placeholder="${filters.id}" maxlength="200" autocomplete="off" spellcheck="false" required></label><button type="submit">${words.record.decisions.why}</button></form>`;
}

function commandOf(context: ViewContext, person: string | undefined): string {
  const flags = (["result", "route", "reason", "node"] as const).flatMap((name) => {
    const value = textIn(context, name);
    return value === undefined ? [] : [`--${name} ${shellWord(value)}`];
  });
  const who = person === undefined ? [] : [`--user ${person}`];
  const since = timeIn(context.query, "from");
  return ["cardea audit tail", ...flags, ...who, ...(since ? [`--since ${since}`] : [])].join(" ");
}

/** A word of a shell, quoted where it has to be. */
export const shellWord = (text: string): string =>
  /^[\w@.:/=+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/** What the script says and draws. Each `{}` is filled in there. */
function scriptWords({ words }: ViewContext): string {
  const said = words.record.decisions;
  const reasons = Object.fromEntries(Object.entries(said.reasons).map(([code, say]) => [code, say("{}")]));
  return wordsFor({
    results: said.results,
    reasons,
    noPerson: said.noPerson,
    pause: said.pause,
    resume: said.resume,
    live: said.live,
    paused: said.isPaused,
    stopped: said.stopped,
    sampled: said.sampled("{}"),
    waiting: said.waiting("{}"),
    gapOne: said.gap(1, "{}"),
    gapMany: said.gap(2, "{1}").replace("2", "{0}"),
    missed: said.missed("{}"),
    missedSome: said.missedSome,
  });
}
