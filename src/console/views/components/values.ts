/**
 * Values: times, states, names and commands, as every view shows them. Pure.
 *
 * A time is relative in tables and absolute where one thing is described; the script of the frame keeps relative ones
 * current and shows the reader's own time zone. Without it they are those of the moment of the page, and in UTC.
 */
import type { UnixMs } from "../../../events/index.ts";
import type { StatusKind } from "../../api/live/health.ts";
import { type Html, type HtmlValue, html, safeUrl } from "../../pages/html.ts";
import { isolateText, timeElement } from "../../pages/layout.ts";
import { type ConsoleText, isLimited, type ViewContext } from "../view.ts";

export const consolePath = "/.pomerium/admin";

/** @param at milliseconds, or as the API writes times; null: `absent` */
export function timeValue(
  at: number | string | null | undefined,
  { words, now }: Pick<ViewContext, "words" | "now">,
  { style, absent = words.frame.unknown }: Readonly<{ style: "relative" | "absolute"; absent?: string }>,
): HtmlValue {
  const ms = typeof at === "string" ? Date.parse(at) : at;
  if (ms === null || ms === undefined || Number.isNaN(ms)) return html`<span class="muted">${absent}</span>`;
  if (style === "absolute") return timeElement(ms as UnixMs);
  const iso = isoOf(ms);
  if (iso === null) return html`<span class="muted">${absent}</span>`;
  return html`<time datetime="${iso}" data-relative title="${iso}">${relativeTime(ms, now, words)}</time>`;
}

function isoOf(ms: number): string | null {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
] as const;

export function relativeTime(at: number, now: number, { frame }: Pick<ConsoleText, "frame">): string {
  const distance = Math.abs(at - now);
  const [unit, ms] = units.find(([, size]) => distance >= size) ?? ["s", 1_000];
  const amount = Math.round(distance / ms);
  if (amount === 0) return frame.now;
  return at > now ? frame.inFuture(amount, unit) : frame.ago(amount, unit);
}

/** A count or a position with its thousands apart; null: unknown. */
export function formatCount(
  count: number | null | undefined,
  { text, words }: Pick<ViewContext, "text" | "words">,
): string {
  if (count === null || count === undefined) return words.frame.unknown;
  return count.toLocaleString(Intl.NumberFormat.supportedLocalesOf([text.language])[0] ?? "en");
}

/** Never by colour alone: each kind has its own shape. */
export type StatusPillKind = StatusKind;
export function statusPill(kind: StatusKind, word: string): Html {
  return html`<span class="pill ${kind}"><i aria-hidden="true"></i>${word}</span>`;
}

/** A person by name, as a link to their page, or to what they could reach. Erased people have no name. */
export function personChip(
  person: Readonly<{ id: string | null; name?: string | null; email?: string | null; erased?: boolean }>,
  { words, reader }: Pick<ViewContext, "words" | "reader">,
): HtmlValue {
  const { id, name, email } = person;
  if (id === null || id === "") return html`<span class="muted">${words.frame.unknown}</span>`;
  const known = name || email || "";
  const shown = known === "" ? (person.erased === true ? words.frame.erased(id.slice(0, 4)) : id.slice(0, 8)) : known;
  const title = known === "" || !email || email === shown ? id : email;
  return html`<a class="chip" href="${personPath(id, reader)}" title="${title}">${isolateText(shown)}</a>`;
}

/** A person's page. It is closed to a limited role, which may ask what the person could reach of its routes. */
export function personPath(id: string, reader: ViewContext["reader"]): string {
  return isLimited(reader)
    ? `${consolePath}/access?${String(new URLSearchParams({ person: id }))}`
    : `${consolePath}/people/${encodeURIComponent(id)}`;
}

export function groupChip({ id, name }: Readonly<{ id: string; name?: string | null }>): Html {
  return html`<a class="chip" href="${consolePath}/groups/${groupSegment(id)}" title="${id}">${isolateText(name || id)}</a>`;
}

/** A group's id in an address: it may hold a slash, which proxies would not pass. */
export function groupSegment(id: string): string {
  return /^[A-Za-z0-9@._-]+$/.test(id) ? id : `base64url:${Buffer.from(id).toString("base64url")}`;
}

/** @param route its id, with the name that people read */
export function routeChip({ id, name }: Readonly<{ id: string; name?: string | null }>): Html {
  return html`<a class="chip" href="${consolePath}/access?${String(new URLSearchParams({ route: id }))}" title="${id}">${isolateText(name || id)}</a>`;
}

export function nodeChip(node: string): Html {
  return html`<span class="chip node">${isolateText(node)}</span>`;
}

/** An id or host: shortened on the page, whole in the clipboard. */
export function copyableId(value: string, { words }: Pick<ViewContext, "words">, shown = value): Html {
  return html`<code class="id" title="${value}">${shown}</code>${copyButton(value, { words }, words.frame.copy)}`;
}

/** Appears only where scripts run. */
export function copyButton(value: string, { words }: Pick<ViewContext, "words">, label: string): Html {
  return html`<button type="button" class="copy" data-copy="${value}" data-copied="${words.frame.copied}" hidden>${label}</button>`;
}

/** The same act in a shell. */
export function commandLine(command: string, { words }: Pick<ViewContext, "words">): Html {
  return html`<div class="command"><span class="quiet">${words.frame.sameCommand}</span><code>${command}</code>${copyButton(command, { words }, words.frame.copy)}</div>`;
}

export function actionLink(url: string, label: string, look: "first" | "second" = "second"): HtmlValue {
  const href = safeUrl(url);
  return href !== null && html`<a class="button ${look}" href="${href}">${label}</a>`;
}

/** Texts for a script, which reads them from `data-words`. */
export function wordsFor(words: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(words);
}

const sparkHeight = 32;
const sparkStep = 4;

/** A row of counts as small bars. @param label what a reader hears in place of the picture */
export function drawSparkline(counts: readonly number[], label: string): Html {
  const most = Math.max(1, ...counts);
  const width = Math.max(1, counts.length) * sparkStep;
  const bars = counts.map((count, i) => {
    const size = count === 0 ? 1 : Math.max(2, Math.round((sparkHeight * count) / most));
    return html`<rect x="${i * sparkStep}" y="${sparkHeight - size}" width="${sparkStep - 1}" height="${size}"/>`;
  });
  return html`<svg class="sparkline" role="img" aria-label="${label}" viewBox="0 0 ${width} ${sparkHeight}" preserveAspectRatio="none">${bars}</svg>`;
}
