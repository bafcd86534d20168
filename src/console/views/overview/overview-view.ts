/** Overview: is the cluster healthy, and does anything need the reader? Pure. */
import type { ActivityAnswer, ChangesPage } from "../../api/changes/change-schemas.ts";
import { type ClusterView, type Health, healthOf, type NodeTile, tilesOf } from "../../api/live/health.ts";
import type { Counts } from "../../api/live/live-operations.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { contentOf, errorState } from "../components/states.ts";
import {
  actionLink,
  consolePath,
  drawSparkline,
  formatCount,
  statusPill,
  timeValue,
  wordsFor,
} from "../components/values.ts";
import type { CallAnswer, View, ViewContext, ViewPage } from "../view.ts";

export const overviewView: View = {
  id: "overview",
  path: "/",
  menu: { group: "overview", label: ({ overview }) => overview.title, key: "o" },
  role: "viewer",
  scripts: ["overview.js"],
  render,
};

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, call } = context;
  const counts = await call("GET /counts");
  const position = counts.type === "answered" ? counts.body.applied.position : 0;
  const [nodes, activity, requests, changes] = await Promise.all([
    call("GET /nodes"),
    call("GET /activity", { query: { minutes: 60 } }),
    call("GET /access-requests", { query: { status: "pending", limit: 1 } }),
    // Most events are sign-ins, which are counted: a page must not read the whole log for a few others.
    call("GET /changes", { query: { limit: latestMax, after: Math.max(0, position - latestEventsMax) } }),
  ]);
  const title = words.overview.title;
  const command = "cardea cluster status";
  if (nodes.type === "failed")
    return { title, lead: words.overview.unknown, content: errorState(nodes, context), command };
  const status = nodes.body as unknown as ClusterView;
  const health = healthOf(status);
  const { node, health: rules } = words.overview;
  const said = wordsFor({
    ...Object.fromEntries(healthKinds.map((kind) => [kind, node[kind]])),
    rules: Object.fromEntries(Object.entries(rules).map(([rule, say]) => [rule, say("{}", "{}")])),
    lag: node.lag("{}"),
    lagUnknown: node.lagUnknown,
    lease: node.lease("{}"),
    leaseUnknown: node.leaseUnknown,
    leader: words.overview.leader("{}", "{}"),
  });
  return {
    title,
    lead: html`<span data-part="health" data-kind="${health.kind}">${statusPill(health.kind, healthSentence(health, context))}</span>`,
    content: html`${contentOf(counts, context, (body) => figuresOf(body, context))}${needsOf(status, { counts, waiting: requests.type === "answered" ? requests.body.pending : 0 }, context)}<section aria-labelledby="map-title" id="map" data-words="${said}"><h2 id="map-title">${words.overview.map}</h2>${mapOf(
      status,
      context,
    )}</section>${activity.type === "answered" && activityOf(activity.body, context)}${latestOf(changes, context)}`,
    command,
  };
}

const healthKinds = ["good", "waiting", "fenced", "bad", "off"] as const;

function healthSentence({ rule, values }: Health, context: ViewContext): string {
  const [first = "", second = ""] = values.map((value) =>
    typeof value === "number" ? formatCount(value, context) : value,
  );
  return context.words.overview.health[rule](first, second);
}

function figuresOf(counts: Counts, context: ViewContext): Html {
  const { counts: labels } = context.words.overview;
  const figure = (name: keyof Counts & keyof typeof labels): Html =>
    html`<div><dl><dt>${labels[name]}</dt><dd data-count="${name}">${formatCount(counts[name], context)}</dd></dl></div>`;
  return html`<section aria-label="${labels.title}"><div class="figures">${figure("sessions")}${figure("people")}${figure("groups")}${figure("held")}</div></section>`;
}

function needsOf(
  status: ClusterView,
  { counts, waiting }: Readonly<{ counts: CallAnswer<Counts>; waiting: number }>,
  { words }: ViewContext,
): HtmlValue {
  const { needs, nothing, heldChanges, openRequests, severalConfigurations } = words.overview;
  const held = counts.type === "answered" ? counts.body.held : 0;
  const hashes = new Set(status.nodes.flatMap(({ configHash }) => configHash ?? [])).size;
  const links = [
    waiting > 0 && actionLink(`${consolePath}/requests`, openRequests(waiting)),
    held > 0 && actionLink(`${consolePath}/held`, heldChanges(held)),
    hashes > 1 && actionLink(`${consolePath}/configurations`, severalConfigurations(hashes)),
  ].filter((link) => link !== false);
  return html`<section><h2>${needs}</h2>${
    links.length > 0 ? html`<p class="actions">${links}</p>` : html`<p class="muted">${nothing}</p>`
  }</section>`;
}

function activityOf(activity: ActivityAnswer, context: ViewContext): Html {
  const { activity: said } = context.words.overview;
  const number = (count: number): string => formatCount(count, context);
  const figure = (name: "permit" | "deny" | "signIn" | "unavailable"): Html => {
    const counts = activity[name];
    const sum = counts.reduce((before, count) => before + count, 0);
    const summary = said.summary(said[name], number(sum), number(Math.max(0, ...counts)));
    return html`<div><dl><dt>${said[name]}</dt><dd>${number(sum)}</dd></dl>${drawSparkline(counts, summary)}</div>`;
  };
  return html`<section aria-labelledby="activity-title"><h2 id="activity-title">${said.title}</h2><div class="figures">${figure("permit")}${figure("deny")}${figure("signIn")}${figure("unavailable")}</div>${
    !activity.complete && html`<p class="muted">${said.partial}</p>`
  }</section>`;
}

const latestMax = 8;
const latestEventsMax = 300;

function latestOf(changes: CallAnswer<ChangesPage>, context: ViewContext): Html {
  const { latest, noChanges, onlySignIns, allChanges } = context.words.overview;
  return html`<section aria-labelledby="latest-title" id="latest"><h2 id="latest-title">${latest}</h2>${contentOf(
    changes,
    context,
    (page) => {
      const shown = page.changes.filter((change) => "text" in change);
      if (shown.length === 0)
        return page.head > latestEventsMax
          ? html`<p class="muted">${onlySignIns}</p><p>${actionLink(`${consolePath}/changes`, allChanges)}</p>`
          : html`<div class="empty"><p>${noChanges}</p></div>`;
      return html`<table class="plain"><caption class="quiet">${latest}</caption><tbody>${shown.map(
        ({ at, text, position }) =>
          html`<tr><td><a href="${consolePath}/changes/${position}">${text}</a></td><td class="muted end">${timeValue(at, context, { style: "relative" })}</td></tr>`,
      )}</tbody></table><p>${actionLink(`${consolePath}/changes`, allChanges)}</p>`;
    },
  )}</section>`;
}

function mapOf(status: ClusterView, context: ViewContext): Html {
  const { words } = context;
  const tiles = tilesOf(status);
  const regions = [...new Set(tiles.map(({ region }) => region))].sort();
  const leader = status.leader ?? null;
  return html`${
    leader !== null &&
    html`<p class="muted" data-part="leader">${words.overview.leader(leader.brokerId, formatCount(leader.epoch, context))}</p>`
  }<div class="regions">${regions.map(
    (region) =>
      html`<section class="region" data-region="${region}"><h3>${words.overview.region(region)}</h3><ul class="tiles">${tiles
        .filter((tile) => tile.region === region)
        .map((tile) => tileOf(tile, context))}</ul></section>`,
  )}</div>`;
}

function tileOf(tile: NodeTile, context: ViewContext): Html {
  const { node } = context.words.overview;
  const lag = tile.lag === null ? node.lagUnknown : node.lag(formatCount(tile.lag, context));
  const lease = tile.leaseMs === null ? node.leaseUnknown : node.lease((Math.max(0, tile.leaseMs) / 1_000).toFixed(1));
  return html`<li class="tile ${tile.kind}" data-node="${tile.node}"><details><summary>${statusPill(tile.kind, tile.node)}<span class="facts-line"><span data-part="lag">${lag}</span> · <span data-part="lease">${lease}</span></span>${leaseBar(
    tile,
  )}</summary><dl><dt>${node.details}</dt><dd data-part="word">${node[tile.kind]}</dd><dt>${node.boot}</dt><dd><code>${tile.boot}</code></dd><dt>${node.configuration}</dt><dd>${configLink(
    tile.configHash,
  )}</dd><dt>${node.digest}</dt><dd><code>${(tile.digest ?? "").slice(0, 16)}</code></dd></dl></details><small class="muted">${tile.role} · <span data-part="version">${tile.version}</span> · <span data-part="position">${
    tile.position === null ? context.words.frame.unknown : formatCount(tile.position, context)
  }</span></small></li>`;
}

function configLink(hash: string | null): HtmlValue {
  return hash !== null && html`<a href="${consolePath}/configurations/${hash}"><code>${hash.slice(0, 8)}</code></a>`;
}

/** A `meter` needs no style of its own in the document, which the policy would refuse. */
function leaseBar({ leaseMs, windowMs, node }: NodeTile): HtmlValue {
  if (leaseMs === null) return null;
  const max = Math.max(windowMs, 1);
  return html`<meter min="0" max="${max}" low="${Math.round(max / 4)}" value="${Math.max(0, Math.min(max, leaseMs))}" aria-label="${node}" data-part="bar"></meter>`;
}
