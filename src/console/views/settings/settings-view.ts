/** Settings: how is this installation set up, who has access, and what may the reader do? Pure. */
import type { Me } from "../../api/roles/me-operations.ts";
import type { SettingsAnswer } from "../../api/roles/settings-operations.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { actButton, actScripts } from "../components/act.ts";
import { filterBar } from "../components/filter-bar.ts";
import { contentOf, errorState, noneMatch } from "../components/states.ts";
import { dataTable } from "../components/table.ts";
import { actionLink, consolePath, copyableId, formatCount, timeValue } from "../components/values.ts";
import type { CallAnswer, View, ViewContext, ViewPage } from "../view.ts";

export const settingsView: View = {
  id: "settings",
  path: "/settings",
  menu: { group: "system", label: ({ settings }) => settings.title, key: "t" },
  role: "viewer",
  scripts: [...actScripts],
  render,
};

type Setting = SettingsAnswer["sections"][number]["settings"][number];
type ClusterLevel = Readonly<{ cluster?: string; level?: number; leader?: Readonly<{ reads: number }> | null }>;

const valueCharsMax = 400;

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, call, path } = context;
  const [me, settings, nodes] = await Promise.all([call("GET /me"), call("GET /settings"), call("GET /nodes")]);
  const said = words.settings;
  const you = contentOf(me, context, (body) => youOf(body, { ...context, path }));
  if (settings.type === "failed")
    return {
      title: said.title,
      lead: words.frame.failed,
      content: html`${you}${errorState(settings, context)}`,
      command: "cardea operator whoami",
    };
  const { body } = settings;
  return {
    title: said.title,
    lead: said.lead(body.file),
    content: html`${you}${accessOf(body, context)}${clusterOf(nodes, me, body, context)}<section><h2>${said.configuration}</h2>${filtersOf(context)}${sectionsOf(body, context)}</section>`,
    command: "cardea config settings",
  };
}

function filtersOf(context: ViewContext): Html {
  const said = context.words.settings;
  const choices = [
    ["", said.changed],
    ["all", said.every],
  ] as const;
  return filterBar(
    {
      fields: [
        { name: "q", label: said.filter, main: true },
        { name: "show", label: said.show, choices },
      ],
    },
    context,
  );
}

function youOf({ role, routeGroups, until, freshUntil, signInUrl }: Me, context: ViewContext): Html {
  const { words, path } = context;
  const said = words.settings;
  const limit = routeGroups === null ? said.all : said.limited(routeGroups.join(", "));
  const again = signInUrl === null ? null : `${signInUrl.split("?", 1)[0]}?to=${encodeURIComponent(path)}`;
  return html`<section><h2>${said.you}</h2><dl><dt>${said.role}</dt><dd>${words.frame.roles[role]}, ${limit}</dd><dt>${said.until}</dt><dd>${timeValue(until, context, { style: "absolute" })}</dd>${
    again !== null &&
    html`<dt>${said.fresh}</dt><dd>${freshUntil === null ? said.notFresh : timeValue(freshUntil, context, { style: "absolute" })}</dd>`
  }</dl>${again !== null && actionLink(again, said.signInAgain)}</section>`;
}

const roleKeys = ["administrators", "operators", "viewers"] as const;

/** The entries of each role, as the configuration has them. */
export function roleEntries({ sections }: SettingsAnswer, key: string, words: ViewContext["words"]): readonly string[] {
  const found = sections.flatMap(({ settings }) => settings).find((setting) => setting.key === key)?.value;
  const list: readonly unknown[] = Array.isArray(found) ? found : typeof found === "string" ? found.split(",") : [];
  return list.flatMap((entry) => {
    if (typeof entry === "string") return [entry.trim()];
    const { who, route_groups: groups } = (entry ?? {}) as Readonly<{ who?: unknown; route_groups?: unknown }>;
    return typeof who === "string" ? [words.settings.of(who, [groups].flat().join(", "))] : [];
  });
}

function accessOf(body: SettingsAnswer, { words }: ViewContext): Html {
  const said = words.settings;
  const rows = roleKeys.map((key) => {
    const entries = roleEntries(body, key, words);
    return html`<dt>${said.roles[key]}</dt><dd>${entries.length === 0 ? html`<span class="muted">${said.none}</span>` : entries.map((entry) => html`<code>${entry}</code> `)}</dd>`;
  });
  return html`<section><h2>${said.access}</h2><dl>${rows}</dl></section>`;
}

function clusterOf(
  nodes: CallAnswer<object>,
  me: CallAnswer<Me>,
  { configHash, routes }: SettingsAnswer,
  context: ViewContext,
): Html {
  const { words } = context;
  const said = words.settings;
  const { cluster = "", version = "" } = me.type === "answered" ? me.body : {};
  const status: ClusterLevel = nodes.type === "answered" ? nodes.body : {};
  const level = status.level === undefined ? said.levelUnknown : formatCount(status.level, context);
  return html`<section><h2>${said.cluster}</h2><dl><dt>${said.name}</dt><dd>${isolateText(cluster)}</dd><dt>${said.version}</dt><dd>${version}</dd><dt>${said.level}</dt><dd>${level} ${finalizeButton(status, context)}</dd><dt>${said.hash}</dt><dd><a href="${consolePath}/configurations/${configHash}"><code>${configHash.slice(0, 8)}</code></a></dd><dt>${said.routes}</dt><dd>${formatCount(routes, context)}</dd><dt>${said.keys}</dt><dd>${copyableId("/.well-known/cardea/receipts/jwks.json", context)}</dd></dl></section>`;
}

function finalizeButton({ level, leader }: ClusterLevel, context: ViewContext): HtmlValue {
  const said = context.words.settings;
  if (level === undefined || leader === undefined || leader === null || leader.reads <= level) return null;
  const next = String(leader.reads);
  return actButton(
    {
      title: said.finalizeTitle(next),
      text: said.finalizeText,
      verb: said.finalizeTitle(next),
      look: "bad",
      path: "/cluster/finalize",
      body: { level: leader.reads },
      typed: next,
    },
    said.finalize(next),
    context,
    { role: "administrator" },
  );
}

function sectionsOf({ sections }: SettingsAnswer, context: ViewContext): HtmlValue {
  const { query, words } = context;
  const said = words.settings;
  const wanted = (query.get("q") ?? "").trim().toLowerCase();
  const isAll = query.get("show") === "all";
  const isShown = ({ key, source, waiting }: Setting): boolean =>
    (isAll || wanted !== "" || waiting || source !== "default") && key.includes(wanted);
  const shown = sections
    .map(({ title, settings }) => ({ title, settings: settings.filter(isShown) }))
    .filter(({ settings }) => settings.length > 0);
  if (shown.length === 0) return wanted === "" ? html`<p>${said.empty}</p>` : noneMatch(context);
  return html`${shown.map(
    ({ title, settings }, i) =>
      html`<section><h3>${title}</h3>${dataTable(
        {
          id: `settings-${i}`,
          caption: title,
          columns: [
            { key: "key", label: said.columns.key },
            { key: "value", label: said.columns.value },
            { key: "source", label: said.columns.source },
            { key: "reload", label: said.columns.reload, wide: true },
          ],
          rows: settings.map((setting) => ({ id: setting.key, href: null, cells: cellsOf(setting, context) })),
          next: null,
          empty: said.empty,
        },
        context,
      )}</section>`,
  )}`;
}

function cellsOf(
  { key, value, secret, set, source, variable, reload, waiting }: Setting,
  { words }: ViewContext,
): readonly HtmlValue[] {
  const said = words.settings;
  const shown = secret
    ? html`<span class="muted">${set ? said.secretSet : said.secretUnset}</span>`
    : html`<code>${textOf(value)}</code>`;
  const from = variable === null ? said.sources[source] : html`${said.sources[source]} <code>${variable}</code>`;
  return [
    html`<code>${key}</code>`,
    html`${shown}${waiting && html`<br><small class="muted">${said.waiting}</small>`}`,
    from,
    said.reload[reload],
  ];
}

function textOf(value: unknown): string {
  const text = typeof value === "string" ? value : value === null || value === undefined ? "" : JSON.stringify(value);
  return text.length > valueCharsMax ? `${text.slice(0, valueCharsMax)}…` : text;
}
