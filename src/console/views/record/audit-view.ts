/** Audit: is every decision being kept? Sinks of each node, the log, its seals and snapshots. */
import type { SealsPage } from "../../api/past/seals-route.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { actButton, actScripts } from "../components/act.ts";
import { contentOf, errorState } from "../components/states.ts";
import { copyableId, formatCount, nodeChip, statusPill, timeValue } from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";

export const auditView: View = {
  id: "audit",
  path: "/audit",
  menu: { group: "system", label: ({ record }) => record.audit.title },
  role: "viewer",
  scripts: actScripts,
  styles: ["record.css"],
  render,
};

/** A sink whose oldest record waits for longer is slow. */
const slowMs = 5_000;
const sealsShown = 20;
const snapshotsShown = 10;

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, call } = context;
  const said = words.record.audit;
  const counts = await call("GET /counts");
  const position = counts.type === "answered" ? counts.body.applied.position : 0;
  const [status, nodes, seals, rechecks, changes] = await Promise.all([
    call("GET /audit/status"),
    call("GET /nodes"),
    call("GET /audit/seals"),
    call("GET /rechecks"),
    // For where the log begins. Without a bound it would read on until it finds an event that is not counted.
    call("GET /changes", { query: { limit: 1, after: Math.max(0, position - 1) } }),
  ]);
  const title = said.title;
  const command = "cardea audit status";
  if (status.type === "failed")
    return { title, lead: words.frame.failed, content: errorState(status, context), command };
  return {
    title,
    lead: leadOf(status.body, context),
    command,
    content: html`${sinksOf(status.body, context)}<section><h2>${said.log}</h2>${contentOf(nodes, context, (body) =>
      logOf(body as unknown as ClusterLog, changes.type === "answered" ? changes.body.base : null, context),
    )}</section><section><h2>${said.snapshots}</h2>${contentOf(nodes, context, (body) => snapshotsOf(body as unknown as ClusterLog, context))}</section><section><h2>${said.seals}</h2>${contentOf(
      seals,
      context,
      (body) => sealsOf(body as unknown as SealsPage, context),
    )}</section><section><h2>${said.rechecks}</h2>${contentOf(
      rechecks,
      context,
      ({ checking, same, different }) =>
        html`<p>${checking ? statusPill(different === 0 ? "good" : "bad", said.rechecksText(formatCount(same, context), formatCount(different, context))) : said.rechecksOff}</p>`,
    )}</section>`,
  };
}

type Status = Readonly<{
  blind: number;
  nodes: readonly Readonly<{
    node: string;
    region: string;
    silent: boolean;
    refusal: string | null;
    heardAgoMs: number;
    sinks: readonly Readonly<{
      name: string;
      waiting: number;
      lost: number;
      deadLetters: number;
      lagMs: number;
      failing: boolean;
      written?: number | undefined;
      writtenAtMs?: number | null | undefined;
    }>[];
  }>[];
  unheard: readonly string[] | null;
  missing: number | null;
}>;

function leadOf({ blind, nodes, unheard }: Status, context: ViewContext): Html {
  const said = context.words.record.audit;
  const count = nodes.reduce((sum, { sinks }) => sum + sinks.length, 0);
  if (unheard !== null && unheard.length > 0) return statusPill("waiting", said.leadUnheard(unheard.join(", ")));
  if (count === 0) return statusPill("off", said.leadNone);
  const isBad = nodes.some(
    ({ refusal, silent, sinks }) =>
      refusal !== null || silent || sinks.some(({ failing, lost }) => failing || lost > 0),
  );
  if (blind === 0 && !isBad) return statusPill("good", said.leadWhole);
  return statusPill(isBad ? "bad" : "waiting", said.lead(formatCount(blind, context)));
}

function sinksOf({ nodes, missing }: Status, context: ViewContext): Html {
  const said = context.words.record.audit;
  const { columns } = said;
  const rows = nodes.flatMap((node) => node.sinks.map((sink) => ({ node, sink })));
  const number = (count: number | null | undefined): string => formatCount(count, context);
  return html`<section><h2>${said.sinks}</h2>${
    rows.length === 0
      ? html`<div class="empty"><p>${said.leadNone}</p></div>`
      : html`<div class="table-box"><table data-table id="sinks"><caption class="quiet">${said.caption}</caption><thead><tr><th scope="col">${columns.node}</th><th scope="col">${columns.sink}</th><th scope="col">${columns.state}</th><th scope="col" class="end">${columns.waiting}</th><th scope="col" class="end wide">${columns.written}</th><th scope="col" class="end">${columns.lost}</th><th scope="col" class="end wide">${columns.rejected}</th><th scope="col" class="wide">${columns.last}</th></tr></thead><tbody>${rows.map(
          ({ node, sink }) =>
            html`<tr data-id="${node.node} ${sink.name}" tabindex="-1"><td>${nodeChip(node.node)}</td><td>${isolateText(sink.name)}</td><td>${stateOf(node, sink, context)}</td><td class="end">${number(sink.waiting)}</td><td class="end wide">${number(sink.written)}</td><td class="end">${number(sink.lost)}</td><td class="end wide">${number(sink.deadLetters)}</td><td class="wide">${timeValue(sink.writtenAtMs, context, { style: "relative", absent: sink.writtenAtMs === null ? said.notSince : context.words.frame.unknown })}</td></tr>`,
        )}</tbody></table></div><p class="muted">${said.sinceStart}</p>`
  }${missing !== null && html`<h3>${said.stream}</h3><p>${statusPill(missing === 0 ? "good" : "bad", said.missing(formatCount(missing, context)))}</p>`}</section>`;
}

function stateOf(
  node: Status["nodes"][number],
  { failing, lagMs }: Status["nodes"][number]["sinks"][number],
  { words }: ViewContext,
): Html {
  const { states } = words.record.audit;
  if (node.silent) return statusPill("off", states.silent);
  if (failing) return statusPill("bad", states.failing);
  if (node.refusal !== null) return statusPill("bad", states.refusing);
  return lagMs > slowMs ? statusPill("waiting", states.slow) : statusPill("good", states.ok);
}

type ClusterLog = Readonly<{
  leader: Readonly<{
    brokerId: string;
    epoch: number;
    head: Readonly<{ position: number; hash: string }>;
    snapshots?: readonly Readonly<{ id: string; position: number; takenAt: number; by: string }>[];
  }> | null;
}>;

function logOf({ leader }: ClusterLog, base: number | null, context: ViewContext): Html {
  const said = context.words.record.audit;
  const { unknown } = context.words.frame;
  if (leader === null) return html`<p class="muted">${unknown}</p>`;
  const from = base === null ? unknown : base === 0 ? said.whole : formatCount(base, context);
  return html`<dl><dt>${said.head}</dt><dd>${formatCount(leader.head.position, context)} ${copyableId(leader.head.hash, context, leader.head.hash.slice(0, 16))}</dd><dt>${said.base}</dt><dd>${from}</dd><dt>${said.leader}</dt><dd>${isolateText(leader.brokerId)}</dd></dl>`;
}

function snapshotsOf({ leader }: ClusterLog, context: ViewContext): HtmlValue {
  const said = context.words.record.audit;
  const { snapshots } = leader ?? {};
  if (snapshots === undefined)
    return html`<p class="muted">${leader === null ? context.words.frame.unknown : said.snapshotsOff}</p>`;
  const act = {
    title: said.take,
    text: said.takeText,
    verb: said.take,
    path: "/snapshots",
    body: {},
    receipt: false,
  } as const;
  return html`${
    snapshots.length === 0
      ? html`<p class="muted">${said.snapshotsNone}</p>`
      : html`<ul>${snapshots.slice(0, snapshotsShown).map(({ position, by, takenAt }) => html`<li>${said.snapshot(formatCount(position, context), by)} <span class="muted">${timeValue(takenAt, context, { style: "relative" })}</span></li>`)}</ul>`
  }<p>${actButton(act, `${said.take}…`, context, { role: "administrator" })}</p>`;
}

function sealsOf({ seals }: SealsPage, context: ViewContext): HtmlValue {
  const said = context.words.record.audit;
  if (seals.length === 0) return html`<p class="muted">${said.sealsNone}</p>`;
  return html`<ul>${seals.slice(0, sealsShown).map((each) => {
    const { node, size } = each as unknown as { node: string; size: number };
    return html`<li>${said.seal(node, formatCount(size, context))}</li>`;
  })}</ul>`;
}
