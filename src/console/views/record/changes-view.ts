/** Changes: who changed what, as a timeline; and one change with what would undo it. */
import type { ChangesPage, ChangeView, FoldedView } from "../../api/changes/change-schemas.ts";
import { changeAreas } from "../../api/changes/describe-change.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import type { ChangeValues, SentenceKey } from "../../text/console/changes.ts";
import { actButton, actScripts } from "../components/act.ts";
import { filterBar } from "../components/filter-bar.ts";
import { type TimelineEntry, timelineOf } from "../components/history.ts";
import { emptyState, errorState, noneMatch } from "../components/states.ts";
import { csvPath, linkWith } from "../components/table.ts";
import {
  actionLink,
  consolePath,
  copyableId,
  formatCount,
  groupChip,
  personChip,
  statusPill,
  timeValue,
  wordsFor,
} from "../components/values.ts";
import { hasRole, type View, type ViewContext, type ViewPage } from "../view.ts";
import { shellWord } from "./decisions-view.ts";
import { fieldTime, textIn, timeIn } from "./record-parts.ts";

export const changesView: View = {
  id: "changes",
  path: "/changes",
  menu: { group: "record", label: ({ record }) => record.changes.title, key: "c" },
  role: "viewer",
  scripts: ["changes.js"],
  styles: ["record.css"],
  render: renderList,
};

export const changeView: View = {
  id: "change",
  path: "/changes/:position",
  menu: null,
  within: "changes",
  role: "viewer",
  scripts: actScripts,
  styles: ["record.css"],
  render: renderOne,
};

const rowsMax = 100;

async function renderList(context: ViewContext): Promise<ViewPage> {
  const { words, query, path } = context;
  const said = words.record.changes;
  const [from, to] = [timeIn(query, "from"), timeIn(query, "to")];
  const filters = filtersOf(context);
  const page = { title: said.title, filters, command: commandOf(context) };
  if (from === null || to === null)
    return {
      ...page,
      status: 404,
      lead: words.record.decisions.badTime(query.get(from === null ? "from" : "to") ?? ""),
      content: noneMatch(context),
    };
  const asked = {
    type: textIn(context, "type"),
    subject: textIn(context, "subject"),
    actor: textIn(context, "actor"),
    from,
    to,
  };
  const before = textIn(context, "before");
  const answer = await context.call("GET /changes", { query: { ...asked, before, limit: rowsMax } });
  if (answer.type === "failed") {
    const isNobody = answer.status === 404 || answer.status === 400;
    return {
      ...page,
      status: isNobody ? 404 : 503,
      lead: isNobody || answer.status === 403 ? answer.error : words.frame.failed,
      content: isNobody ? noneMatch(context) : errorState(answer, context),
    };
  }
  const { changes, next, head, missing } = answer.body as ChangesPage;
  const isFiltered = Object.values(asked).some((value) => value !== undefined);
  const count = formatCount(changes.length, context);
  const live = before === undefined && to === undefined;
  return {
    ...page,
    lead: isFiltered ? said.leadFound(count) : said.lead(count, formatCount(head, context)),
    content: html`${
      live &&
      html`<div id="newer" data-head="${head}" data-query="${searchOf(asked)}" data-words="${wordsFor({ newer: said.newer("{}"), newerOne: said.newerOne })}" role="status"></div>`
    }${
      changes.length === 0
        ? html`<div class="empty">${next === null ? (isFiltered ? noneMatch(context) : emptyState(said.none)) : emptyState(said.more)}</div>`
        : timelineOf(daysOf(changes, context))
    }${missing !== null && html`<p class="muted">${missing}</p>`}${pagerOf({ next, isFirst: before === undefined }, { said, query, path })}${
      changes.length > 0 &&
      html`<p><a class="button" href="${csvPath("/changes", asked)}" download>${words.frame.csv}</a></p>`
    }`,
  };
}

function searchOf(asked: Readonly<Record<string, string | undefined>>): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) if (value !== undefined) search.set(name, value);
  return String(search);
}

function pagerOf(
  { next, isFirst }: Readonly<{ next: number | null; isFirst: boolean }>,
  {
    said,
    query,
    path,
  }: Readonly<{ said: ViewContext["words"]["record"]["changes"]; query: URLSearchParams; path: string }>,
): HtmlValue {
  if (next === null && isFirst) return null;
  return html`<nav class="pager">${!isFirst && html`<a class="button" href="${linkWith(path, query, { before: null })}">${said.newest}</a>`}${
    next !== null &&
    html`<a class="button" rel="next" href="${linkWith(path, query, { before: String(next) })}">${said.older}</a>`
  }</nav>`;
}

type Row = ChangeView | FoldedView;

function daysOf(rows: readonly Row[], context: ViewContext): Parameters<typeof timelineOf>[0] {
  const days: { day: string; entries: TimelineEntry[] }[] = [];
  for (const row of rows) {
    const day = dayOf(row.at, context);
    const last = days.at(-1);
    if (last?.day === day) last.entries.push(entryOf(row, context));
    else days.push({ day, entries: [entryOf(row, context)] });
  }
  return days;
}

/** Days are those of UTC: the server does not know the reader's time zone. */
function dayOf(iso: string, { text }: ViewContext): string {
  const language = Intl.DateTimeFormat.supportedLocalesOf([text.language])[0] ?? "en";
  return new Intl.DateTimeFormat(language, { dateStyle: "full", timeZone: "UTC" }).format(new Date(iso));
}

function entryOf(row: Row, context: ViewContext): TimelineEntry {
  const time = timeValue(row.at, context, { style: "absolute" });
  if ("folded" in row) return { id: `${row.position}`, time, sentence: foldedText(row, context) };
  const { undo, receipt, position } = row;
  const { changes } = context.words.record;
  const state =
    receipt === null ? null : statusPill(receipt === "complete" ? "good" : "waiting", changes.receipt[receipt]);
  const href = `${consolePath}/changes/${position}`;
  return {
    id: `${position}`,
    time,
    sentence: isolateText(sentenceOf(row, context)),
    aside: html`<span class="muted">${formatCount(position, context)}</span> ${row.effect === "tightens" && state} ${
      undo !== null &&
      hasRole(context.reader, "operator") &&
      html`<a class="button" href="${href}#undo">${changes.undo}</a>`
    }`,
    href,
    ...(row.type === "EpochOpened" ? { divider: true as const } : {}),
  };
}

/** In the reader's language. */
function sentenceOf({ sentence, text }: ChangeView, { words }: ViewContext): string {
  const { sentences } = words.record.changes;
  if (!Object.hasOwn(sentences, sentence.key)) return text;
  return sentences[sentence.key as SentenceKey](sentence.values as unknown as ChangeValues);
}

function foldedText({ folded }: FoldedView, context: ViewContext): Html {
  const say = context.words.record.changes.folded;
  const parts = Object.entries(folded).map(([kind, count]) =>
    say[kind as keyof typeof say](count, formatCount(count, context)),
  );
  return html`<span class="folded">${parts.join(", ")}</span>`;
}

function filtersOf(context: ViewContext): Html {
  const { words, query } = context;
  const { filters, areas } = words.record.changes;
  const chips = (["subject", "actor", "type", "from", "to"] as const).flatMap((name) => {
    const value = textIn(context, name);
    return value === undefined ? [] : [{ name, label: `${filters[name]}: ${value}` }];
  });
  const choices = [["", filters.anyType], ...changeAreas.map((area) => [area, areas[area]])] as [string, string][];
  const type = textIn(context, "type");
  const known =
    type === undefined || choices.some(([value]) => value === type)
      ? choices
      : [...choices, [type, type] as [string, string]];
  return filterBar(
    {
      fields: [
        { name: "subject", label: filters.subject, main: true },
        { name: "actor", label: filters.actor },
        { name: "type", label: filters.type, choices: known },
        { name: "from", label: filters.from, type: "datetime-local", value: fieldTime(timeIn(query, "from")) },
        { name: "to", label: filters.to, type: "datetime-local", value: fieldTime(timeIn(query, "to")) },
      ],
      chips,
    },
    context,
  );
}

function commandOf(context: ViewContext): string {
  const flags = (["subject", "actor", "type"] as const).flatMap((name) => {
    const value = textIn(context, name);
    return value === undefined ? [] : [`--${name} ${shellWord(value)}`];
  });
  const times = (["from", "to"] as const).flatMap((name) => {
    const at = timeIn(context.query, name);
    return at === undefined || at === null ? [] : [`--${name} ${at}`];
  });
  return ["cardea changes", ...flags, ...times].join(" ");
}

// --- one change

async function renderOne(context: ViewContext): Promise<ViewPage> {
  const { words, params } = context;
  const said = words.record.changes;
  const position = Number(params["position"]);
  const back = { href: `${consolePath}/changes`, label: said.title };
  const missing = {
    title: said.missing,
    lead: isolateText(params["position"] ?? ""),
    content: emptyState(said.none, back),
    command: null,
  };
  if (!Number.isSafeInteger(position) || position < 1) return { ...missing, status: 404 };
  const answer = await context.call("GET /changes", { query: { before: position + 1, limit: 1, fold: false } });
  if (answer.type === "failed")
    return { title: said.one, lead: words.frame.failed, content: errorState(answer, context), command: null };
  const { changes, head } = answer.body as ChangesPage;
  const [row] = changes;
  if (row === undefined || "folded" in row || position > head || row.position < position)
    return { ...missing, status: 404 };
  return {
    title: said.one,
    lead: isolateText(sentenceOf(row, context)),
    content: html`${detailsOf(row, context)}${undoOf(row, context)}`,
    command: row.cause === null ? `cardea changes --limit 1` : `cardea receipt ${row.cause}`,
  };
}

function detailsOf(row: ChangeView, context: ViewContext): Html {
  const { detail, effects, receipt } = context.words.record.changes;
  const line = (label: string, value: HtmlValue): Html => html`<dt>${label}</dt><dd>${value}</dd>`;
  const { actor, subjects, subjectCount, cause } = row;
  const hidden = subjectCount - subjects.length;
  const about = subjects.map(({ kind, id, name }) =>
    kind === "user"
      ? html`<li>${personChip({ id, name }, context)}</li>`
      : kind === "group"
        ? html`<li>${groupChip({ id, name })}</li>`
        : html`<li><code>${kind}:${id}</code></li>`,
  );
  const positions =
    row.first === row.position
      ? formatCount(row.position, context)
      : `${formatCount(row.first, context)} – ${formatCount(row.position, context)}`;
  return html`<dl>${line(detail.at, timeValue(row.at, context, { style: "absolute" }))}${line(
    detail.actor,
    actor.kind === "person"
      ? personChip({ id: actor.id, name: actor.name }, context)
      : html`${isolateText(actor.name)} <small class="muted">${actor.kind === "system" ? "" : actor.id}</small>`,
  )}${about.length > 0 && line(detail.about, html`<ul class="facts-of">${about}${hidden > 0 && html`<li class="muted">${detail.more(formatCount(hidden, context))}</li>`}</ul>`)}${line(
    detail.type,
    html`<code>${row.type}</code>`,
  )}${line(detail.effect, effects[row.effect])}${line(row.first === row.position ? detail.position : detail.positions, positions)}${line(
    detail.epoch,
    formatCount(row.epoch, context),
  )}${line(detail.hash, copyableId(row.hash, context, row.hash.slice(0, 16)))}${
    cause !== null &&
    line(
      detail.receipt,
      html`${row.receipt !== null && statusPill(row.receipt === "complete" ? "good" : "waiting", receipt[row.receipt])} <a href="${consolePath}/receipts/${encodeURIComponent(`command:${cause}`)}">${context.words.frame.toReceipt}</a>`,
    )
  }</dl>`;
}

function undoOf(change: ChangeView, context: ViewContext): HtmlValue {
  const { undo, final } = change;
  const { undoTitle, undoDo } = context.words.record.changes;
  const head = html`<h2 id="undo">${undoTitle}</h2>`;
  if (undo === null)
    return final !== null && html`<section aria-labelledby="undo">${head}<p class="muted">${final}</p></section>`;
  const [, path = ""] = undo.operation.split(" ");
  const act = {
    title: undoTitle,
    text: undo.does,
    verb: undoDo,
    look: "bad",
    path,
    body: undo.body,
    preview: previewOf(change),
  } as const;
  return html`<section aria-labelledby="undo">${head}<p>${isolateText(undo.does)}</p><p>${actButton(act, `${undoDo}…`, context, { role: "operator", primary: true })}</p><p class="muted"><code>${undo.command}</code></p></section>`;
}

/** The undo as the command of a preview. */
function previewOf({ undo, subjects }: ChangeView): Readonly<Record<string, unknown>> {
  const idOf = (wanted: string): string => subjects.find(({ kind }) => kind === wanted)?.id ?? "";
  return /\/restore$/.test(undo?.operation ?? "")
    ? { type: "restoreUser", user: idOf("user") }
    : { type: "changeGroupMembers", group: idOf("group"), ...undo?.body };
}

/** A link for another view: what changed about one thing. */
export function changesAbout(subject: string, label: string): HtmlValue {
  return actionLink(`${consolePath}/changes?${new URLSearchParams({ subject })}`, label);
}
