/** Two configurations compared: what changed by path, and who gains or loses which route. Pure. */
import type { ConfigurationDiff, RouteEffect } from "../../api/lab/configuration-diff.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { type DiffLine, diffLines } from "../components/history.ts";
import { errorState } from "../components/states.ts";
import { dataTable } from "../components/table.ts";
import { actionLink, consolePath, formatCount, personChip } from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";
import { configurationsPath, shortHash } from "./configurations-view.ts";

export const configurationDiffView: View = {
  id: "configuration-diff",
  path: "/configurations/:a/diff/:b",
  menu: null,
  within: "configurations",
  role: "viewer",
  styles: ["lab.css"],
  render,
};

const shownChangesMax = 500;
const linesMax = 12;

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, call, params } = context;
  const said = words.configurations;
  const { a = "", b = "" } = params;
  const answer = await call("GET /configurations/:a/diff/:b", { params: { a, b } });
  const title = said.diffTitle(shortHash(a), shortHash(b));
  const isHash = [a, b].every((hash) => /^[0-9a-f]{8,64}$/.test(hash));
  const command = isHash ? `cardea config diff ${shortHash(a)} ${shortHash(b)}` : null;
  const back = actionLink(configurationsPath, said.toHistory);
  if (answer.type === "failed") {
    const isRefused = answer.status === 400 || answer.status === 404;
    const content = isRefused ? back : errorState(answer, context);
    return { title, command, lead: answer.error, status: isRefused ? 404 : 503, content };
  }
  const diff = answer.body as unknown as ConfigurationDiff;
  const { changes, moreChanges, gains, loses } = diff;
  const people = (list: readonly RouteEffect[]): string =>
    formatCount(
      list.reduce((sum, one) => sum + one.people, 0),
      context,
    );
  return {
    title,
    command,
    actions: html`${actionLink(`${consolePath}/lab?base=${diff.b}`, said.openInLab)}${back}`,
    lead:
      changes.length === 0
        ? said.equal
        : said.changed(formatCount(changes.length + moreChanges, context), people(gains), people(loses)),
    content: html`${effectOf(diff, context)}${routesOf(diff, context)}<h2>${said.changes}</h2>${
      changes.length > 0 && diffLines(linesOf(diff, context), said.changes)
    }`,
  };
}

function linesOf({ changes, moreChanges }: ConfigurationDiff, context: ViewContext): readonly DiffLine[] {
  const said = context.words.configurations;
  const shown = changes.slice(0, shownChangesMax);
  const lines = shown.flatMap(({ path, kind, from, to }): DiffLine[] => {
    if (kind === "secret") return [{ kind: "same", text: `${path}: ${said.secretChanged}` }];
    return [
      { kind: "same", text: path },
      ...(kind === "added" ? [] : [{ kind: "removed", text: text(from) } as const]),
      ...(kind === "removed" ? [] : [{ kind: "added", text: text(to) } as const]),
    ];
  });
  const more = moreChanges + changes.length - shown.length;
  return more === 0 ? lines : [...lines, { kind: "same", text: said.moreChanges(formatCount(more, context)) }];
}

/** A whole route that was added has many lines; its page has them all. */
function text(value: unknown): string {
  const lines = (typeof value === "string" ? value : JSON.stringify(value, null, 2)).split("\n");
  const shown = lines.length <= linesMax ? lines : [...lines.slice(0, linesMax), "…"];
  return `  ${shown.join("\n  ")}`;
}

function effectOf(diff: ConfigurationDiff, context: ViewContext): Html {
  const said = context.words.configurations;
  const rowOf =
    (change: string) =>
    ({ route, people, conditional, named }: RouteEffect) => {
      const first = named.slice(0, 5);
      const left = people - first.length;
      return {
        id: `${change} ${route.id}`,
        href: `${consolePath}/lab?${new URLSearchParams({ base: diff.b, route: route.id })}`,
        cells: [
          route.name || route.id,
          change,
          html`${formatCount(people, context)}${conditional > 0 && html` <small class="muted">${said.conditional(formatCount(conditional, context))}</small>`}`,
          html`${first.map(({ userId, email, name }) => html`${personChip({ id: userId, email, name }, context)} `)}${
            left > 0 && html`<span class="muted">${said.more(formatCount(left, context))}</span>`
          }`,
        ] satisfies HtmlValue[],
      };
    };
  return html`<section aria-labelledby="effect-title"><h2 id="effect-title">${said.effect}</h2>${dataTable(
    {
      id: "effect",
      caption: said.effect,
      columns: [
        { key: "route", label: said.route },
        { key: "change", label: said.change },
        { key: "people", label: said.people },
        { key: "first", label: said.first, wide: true },
      ],
      rows: [...diff.gains.map(rowOf(said.gains)), ...diff.loses.map(rowOf(said.loses))],
      next: null,
      empty: html`<p>${said.noEffect}</p>`,
    },
    context,
  )}${diff.notes.map(({ route, note }) => html`<p class="notice">${route}: ${note}</p>`)}${
    diff.unchecked > 0 && html`<p class="notice">${said.unchecked(formatCount(diff.unchecked, context))}</p>`
  }</section>`;
}

function routesOf({ routes: { added, removed, changed } }: ConfigurationDiff, context: ViewContext): HtmlValue {
  const said = context.words.configurations;
  const rows = [
    ...added.map(({ id, name, from }) => ({ id, cells: [name || id, said.added, from] })),
    ...removed.map(({ id, name, from }) => ({ id, cells: [name || id, said.removed, from] })),
    ...changed.map(({ id, name, keys }) => ({ id, cells: [name || id, said.changedKeys, keys.join(", ")] })),
  ].slice(0, shownChangesMax);
  if (rows.length === 0) return null;
  return html`<h2>${said.routes}</h2>${dataTable(
    {
      id: "routes",
      caption: said.routes,
      columns: [
        { key: "route", label: said.route },
        { key: "change", label: said.change },
        { key: "what", label: said.changes },
      ],
      rows: rows.map((row) => ({ ...row, href: null })),
      next: null,
      empty: null,
    },
    context,
  )}`;
}
