/** Configurations: what runs where and since when, which there were, and one of them without secrets. Pure. */
import type { ConfigurationAnswer } from "../../api/operator-configurations.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { contentOf, errorState } from "../components/states.ts";
import { dataTable } from "../components/table.ts";
import {
  actionLink,
  consolePath,
  copyableId,
  formatCount,
  nodeChip,
  statusPill,
  timeValue,
} from "../components/values.ts";
import type { CallAnswer, View, ViewContext, ViewPage } from "../view.ts";

export const configurationsPath = `${consolePath}/configurations`;
export const shortHash = (hash: string): string => hash.slice(0, 8);

export const configurationsView: View = {
  id: "configurations",
  path: "/configurations",
  menu: { group: "system", label: ({ configurations }) => configurations.title },
  role: "viewer",
  styles: ["lab.css"],
  render: renderList,
};

export const configurationView: View = {
  id: "configuration",
  path: "/configurations/:hash",
  menu: null,
  within: "configurations",
  role: "viewer",
  scoped: true,
  styles: ["lab.css"],
  render: renderOne,
};

type History = Extract<CallAnswer<HistoryBody>, { type: "answered" }>["body"];
type HistoryBody = Readonly<{
  configurations: readonly Readonly<{
    configHash: string;
    recordedAt: number | null;
    firstSeenAt: string | null;
    lastSeenAt: string | null;
    nodes: readonly string[];
  }>[];
  nodes: readonly Readonly<{ node: string; configHash: string | null; since: string | null }>[];
  drift: boolean;
  searchedTo: number;
}>;

async function renderList(context: ViewContext): Promise<ViewPage> {
  const { words, call, query } = context;
  const said = words.configurations;
  const page = { title: said.title, command: "cardea config history" };
  const [a, b] = [query.get("a") ?? "", query.get("b") ?? ""];
  const history = await call("GET /configurations/history");
  if (history.type === "failed") return { ...page, lead: words.frame.failed, content: errorState(history, context) };
  const { body } = history;
  const isPair = /^[0-9a-f]{8,64}$/.test(a) && /^[0-9a-f]{8,64}$/.test(b) && a !== b;
  return {
    ...page,
    lead: leadOf(body, context),
    content: html`${
      isPair &&
      html`<p class="notice">${actionLink(comparePath(a, b), said.diffTitle(shortHash(a), shortHash(b)), "first")}</p>`
    }<section aria-labelledby="nodes-title"><h2 id="nodes-title">${said.nodes}</h2>${nodesTable(body, context)}</section><section aria-labelledby="history-title"><h2 id="history-title">${said.history}</h2>${historyTable(body, context)}<p class="muted">${said.searchedTo(formatCount(body.searchedTo, context))}</p>${compareForm(body, context)}</section>`,
  };
}

function leadOf({ nodes, drift }: History, context: ViewContext): HtmlValue {
  const said = context.words.configurations;
  const hashes = [...new Set(nodes.flatMap(({ configHash }) => (configHash === null ? [] : [configHash])))];
  const [only] = hashes;
  if (only === undefined) return said.none;
  if (drift) return statusPill("waiting", said.drift(formatCount(hashes.length, context)));
  const hash = shortHash(only);
  return statusPill(
    "good",
    nodes.length === 1 ? said.inForceOne(hash) : said.inForce(hash, formatCount(nodes.length, context)),
  );
}

export const comparePath = (a: string, b: string): string => `${configurationsPath}/${a}/diff/${b}`;

function hashLink(hash: string): Html {
  return html`<code class="hash">${shortHash(hash)}</code>`;
}

function nodesTable({ nodes }: History, context: ViewContext): Html {
  const said = context.words.configurations;
  return dataTable(
    {
      id: "nodes",
      caption: said.nodes,
      columns: [
        { key: "node", label: said.node },
        { key: "hash", label: said.hash },
        { key: "since", label: said.since },
      ],
      rows: nodes.map(({ node, configHash, since }) => ({
        id: node,
        href: configHash === null ? null : `${configurationsPath}/${configHash}`,
        cells: [
          nodeChip(node),
          configHash === null ? context.words.frame.unknown : hashLink(configHash),
          timeValue(since, context, { style: "relative" }),
        ],
      })),
      next: null,
      empty: said.none,
    },
    context,
  );
}

function historyTable({ configurations }: History, context: ViewContext): Html {
  const said = context.words.configurations;
  const newestFirst = configurations.toReversed();
  const inForce = newestFirst.find(({ nodes, recordedAt }) => nodes.length > 0 && recordedAt !== null)?.configHash;
  return dataTable(
    {
      id: "history",
      caption: said.history,
      columns: [
        { key: "hash", label: said.hash },
        { key: "first", label: said.firstSeen, wide: true },
        { key: "last", label: said.lastSeen },
        { key: "nodes", label: said.nodes, wide: true },
        { key: "compare", label: said.compare },
      ],
      rows: newestFirst.map(({ configHash, firstSeenAt, lastSeenAt, nodes, recordedAt }) => ({
        id: configHash,
        href: `${configurationsPath}/${configHash}`,
        cells: [
          hashLink(configHash),
          timeValue(firstSeenAt, context, { style: "relative" }),
          nodes.length > 0 ? said.runsNow : timeValue(lastSeenAt, context, { style: "relative" }),
          nodes.map((node) => html`${nodeChip(node)} `),
          recordedAt === null
            ? html`<span class="muted">${said.noText}</span>`
            : inForce !== undefined &&
              inForce !== configHash &&
              html`<a href="${comparePath(configHash, inForce)}">${said.compareWith(shortHash(inForce))}</a>`,
        ],
      })),
      next: null,
      empty: said.historyEmpty,
    },
    context,
  );
}

function compareForm({ configurations }: History, { words, path }: ViewContext): HtmlValue {
  const said = words.configurations;
  const stored = configurations.filter(({ recordedAt }) => recordedAt !== null).toReversed();
  if (stored.length < 2) return null;
  const choice = (name: string, label: string, chosen: number): Html =>
    html`<label><span>${label}</span> <select name="${name}">${stored.map(
      ({ configHash }, i) =>
        html`<option value="${configHash}"${i === chosen && html` selected`}>${shortHash(configHash)}</option>`,
    )}</select></label>`;
  return html`<h2 id="compare-title">${said.compareForm}</h2><form class="filters" method="get" action="${path}" aria-labelledby="compare-title">${choice("a", said.earlier, 1)}${choice("b", said.later, 0)}<button type="submit">${said.compare}</button></form>`;
}

async function renderOne(context: ViewContext): Promise<ViewPage> {
  const { words, call, params } = context;
  const said = words.configurations;
  const { hash = "" } = params;
  const answer = await call("GET /configurations/:hash", { params: { hash } });
  const title = said.one(shortHash(hash));
  const command = `cardea config show ${/^[0-9a-f]{8,64}$/.test(hash) ? hash : "HASH"}`;
  if (answer.type === "failed")
    return {
      title,
      command,
      lead: answer.error,
      status: answer.status === 503 ? 503 : 404,
      content: answer.status === 503 ? errorState(answer, context) : actionLink(configurationsPath, said.toHistory),
    };
  const body = answer.body as unknown as ConfigurationAnswer;
  const { nodes, configHash, recordedAt } = body;
  return {
    title: said.one(shortHash(configHash)),
    command,
    lead: nodes.length === 0 ? said.runsNowhere : said.runsOn(nodes.join(", ")),
    actions: html`${actionLink(`${consolePath}/lab?base=${configHash}`, said.openInLab)}${actionLink(configurationsPath, said.toHistory)}`,
    content: contentOf(answer, context, () => {
      return html`<dl><dt>${said.hash}</dt><dd>${copyableId(configHash, context)}</dd><dt>${said.firstSeen}</dt><dd>${timeValue(recordedAt, context, { style: "absolute" })}</dd></dl><h2 id="text-title">${said.text}</h2><p class="muted">${said.shownText}</p><pre class="text" tabindex="0" role="group" aria-labelledby="text-title">${JSON.stringify(body.configuration, null, 2)}</pre>`;
    }),
  };
}
