/** Last-known text: what a region that is cut off knows of the nodes, for a terminal, in place of a receipt. Pure. */
import type { LastKnownState } from "../../console/index.ts";
import { formatTable, maskControlCharacters } from "./print.ts";

export function lastKnownText({
  region,
  at,
  homeSilentMs,
  leasesUntil,
  broker,
  nodes,
  reported,
}: LastKnownState): string {
  const silent = homeSilentMs === null ? "since its broker started" : `for ${seconds(homeSilentMs)}`;
  const until = leasesUntil === null ? "there are no leases by age" : `leases by age until ${iso(leasesUntil)}`;
  const first = `region ${maskControlCharacters(region)} at ${iso(at)}: home out of reach ${silent}; ${until}\n`;
  const own = nodes.map(({ node, role, enforced, lastGrantAgoMs }) => [
    node,
    role,
    linkText(enforced),
    lastGrantAgoMs === null ? "never" : `${seconds(lastGrantAgoMs)} ago`,
  ]);
  const read = `${maskControlCharacters(broker.brokerId)} has read the log up to ${linkText(broker.applied)}`;
  const table =
    own.length === 0
      ? `${read}; no node renews through it\n`
      : `${read}; nodes that renew through it:\n${formatTable(["NODE", "ROLE", "ENFORCES", "LEASE"], own)}`;
  return `${first}${table}${reportText(reported)}`;
}

function reportText(reported: LastKnownState["reported"]): string {
  if (reported === null) return "the state of the other regions is not known\n";
  const { at, ageMs, head, regions } = reported;
  const rows = regions.map(({ region, brokers, nodes, fenced, absent, cutOff, applied }) => [
    region,
    String(brokers),
    String(nodes),
    String(fenced),
    applied === null ? "?" : String(applied),
    cutOff ? "CUT OFF" : absent > 0 ? `${absent} absent` : "ok",
  ]);
  const headText = head === null ? "" : `; the head of the log was ${linkText(head)}`;
  return `as last known ${seconds(ageMs)} ago, at ${iso(at)}${headText}:\n${formatTable(["REGION", "BROKERS", "NODES", "FENCED", "APPLIED", "STATUS"], rows)}`;
}

/** Epoch and position: `9.41207` */
function linkText(link: LastKnownState["broker"]["applied"] | null): string {
  return link === null ? "?" : `${link.epoch}.${link.position}`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function iso(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}
