/**
 * Layout: the frame of every page, and the elements that pages share.
 *
 * Pure. Readable without its style sheet, without scripts, by keyboard and in the dark.
 * `data-page` on the body names the page for tests.
 */
import { hash } from "node:crypto";
import { type PageReader, type PageUser, pageHeaders, type RenderedPage } from "../../auth/index.ts";
import type { UnixMs } from "../../events/index.ts";
import type { PageText } from "../text/texts.ts";
import { type Html, type HtmlValue, html, safeUrl, styleSheet } from "./html.ts";
import type { PageLook } from "./look.ts";
import { baseSheet } from "./tokens.ts";

/** The mark of Cardea, where no logo is configured. */
export const mark = html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" stroke-linecap="round" aria-hidden="true"><path d="M4 21V3.5L15 6v17z"/><path d="M15 6h5v15h-5"/><path d="M11.5 13.5v2"/></svg>`;

export type Frame = Readonly<{
  page: string;
  title: string;
  body: Html;
  /** Text after the name at the top: a status, a host. */
  aside?: HtmlValue;
  brand?: string;
  /** `narrow` for a form, `wide` for tables, `list` for the portal's list. */
  width?: "narrow" | "wide" | "list";
  /** Additional CSS of this page. */
  css?: string;
  /** A script of the same host, loaded when the page is read. */
  scriptUrl?: string;
  /**
   * The document is a file of its own: its content security policy allows its style sheet and nothing else.
   */
  selfContained?: true;
}>;

/** The parts of a document that depend on the configuration and the reader. */
type Surroundings = Readonly<{
  sheet: string;
  language: string;
  direction: "ltr" | "rtl";
  brand: Html;
  icon: string;
  scripts: readonly string[];
  styles: readonly string[];
}>;

/** A document for demonstrations and reports, with Cardea's own look. */
export function renderLayout(frame: Frame): string {
  return documentOf(frame, plainSurroundings(frame));
}

/** As `renderLayout`, with the headers that belong to it. Its forms may lead anywhere: the demo provider uses them. */
export function renderPlainPage(frame: Frame): RenderedPage {
  const around = plainSurroundings(frame);
  return { html: documentOf(frame, around), headers: headersOf(around.sheet, { forms: null }) };
}

function plainSurroundings(frame: Frame): Surroundings {
  return {
    sheet: baseSheet + (frame.css ?? ""),
    language: "en",
    direction: "ltr",
    brand: html`${mark}<span>${frame.brand ?? "Cardea"}</span>`,
    icon: "data:,",
    scripts: frame.scriptUrl === undefined ? [] : [frame.scriptUrl],
    styles: [],
  };
}

export type PageFrame = Omit<Frame, "brand" | "selfContained" | "scriptUrl"> &
  Readonly<{
    /** Scripts of this page, in addition to that of every page: names of assets. */
    scripts?: readonly string[];
    /** Style sheets in addition to the one in the document: paths of assets. */
    styles?: readonly string[];
    /** The script may ask these paths of its own host. */
    asks?: readonly string[];
    /** Targets of forms, as paths of this host. Null: anywhere, also by redirects. Absent: the page has no form. */
    forms?: readonly string[] | null;
  }>;

/** A page for people, in the look of the configuration and the reader's language. */
export function renderFrame(frame: PageFrame, look: PageLook, reader: PageReader, text: PageText): RenderedPage {
  const sheet = look.sheet + (frame.css ?? "");
  const host = isHost(reader.host) ? reader.host : null;
  const scripts = host === null ? [] : [look.assets.page, ...(frame.scripts ?? [])].filter((path) => path !== null);
  const logo = safePicture(look.logoUrl);
  const around: Surroundings = {
    sheet,
    language: text.language,
    direction: text.direction,
    brand: html`${logo === null ? mark : html`<img src="${logo}" alt="">`}<span>${look.organization}</span>`,
    icon: safePicture(look.faviconUrl) ?? "data:,",
    scripts,
    styles: host === null ? [] : (frame.styles ?? []),
  };
  return { html: documentOf(frame, around), headers: headersOf(sheet, { ...frame, host, scripts }) };
}

function documentOf(frame: Omit<Frame, "brand">, around: Surroundings): string {
  const { sheet } = around;
  return html`<!doctype html>
<html lang="${around.language}" dir="${around.direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="${around.icon}">
${
  frame.selfContained === true &&
  html`<meta http-equiv="Content-Security-Policy" content="${selfContainedPolicy(sheet)}">
`
}<title>${frame.title}</title>
${styleSheet(sheet)}${around.styles.map(
  (url) => html`
<link rel="stylesheet" href="${safeUrl(url)}">`,
)}${around.scripts.map(
  (url) => html`
<script type="module" src="${safeUrl(url)}"></script>`,
)}
</head>
<body data-page="${frame.page}">
<main class="${frame.width}">
<p class="brand">${around.brand}<span>${frame.aside}</span></p>
${frame.body}
</main>
</body>
</html>
`.markup;
}

/**
 * The content security policy of a page: its own style sheet by its hash, and exactly the scripts that it names. A page
 * on a route's host shares its origin with an application, so no other script of that host may run.
 */
function headersOf(
  sheet: string,
  page: Readonly<{ host?: string | null; scripts?: readonly string[] }> & Pick<PageFrame, "styles" | "asks" | "forms">,
): Readonly<Record<string, string>> {
  const { host = null, scripts = [] } = page;
  const own = (paths: readonly string[]): string => paths.map((path) => `${host}${path}`).join(" ");
  const images = host === null ? "data:" : `data: ${own([assetPrefix])}`;
  const directives = [
    "default-src 'none'",
    `style-src ${[hashOf(sheet), ...(host === null ? [] : (page.styles ?? []).map((path) => `${host}${path}`))].join(" ")}`,
    `img-src ${images}`,
    "base-uri 'none'",
    "frame-ancestors 'self'",
    ...(scripts.length === 0
      ? []
      : [`script-src ${own(scripts)}`, "require-trusted-types-for 'script'", "trusted-types 'none'"]),
    ...(host !== null && page.asks !== undefined ? [`connect-src ${own(page.asks)}`] : []),
    ...(page.forms === null || (page.forms !== undefined && host === null)
      ? []
      : [`form-action ${page.forms === undefined ? "'none'" : own(page.forms)}`]),
  ];
  return { ...pageHeaders, "content-security-policy": directives.join("; ") };
}

export const assetPrefix = "/.pomerium/assets/";

/** Only what cannot end a directive of a content security policy. */
function isHost(host: string | null): host is string {
  return host !== null && /^(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?$/i.test(host);
}

export function safePicture(url: string | null): string | null {
  return url !== null && /^data:image\/[^\s"'<>\\]+$/i.test(url) ? url : safeUrl(url);
}

function hashOf(sheet: string): string {
  const known = hashes.get(sheet) ?? `'sha256-${hash("sha256", sheet, "base64")}'`;
  if (hashes.size >= sheetsMax) hashes.clear();
  hashes.set(sheet, known);
  return known;
}
/** One per kind of page and configuration. */
const sheetsMax = 32;
const hashes = new Map<string, string>();

function selfContainedPolicy(sheet: string): string {
  return `default-src 'none'; style-src ${hashOf(sheet)}; img-src data:; base-uri 'none'; form-action 'none'`;
}

/** Isolates text from a person, so that right-to-left overrides in a name cannot reorder the text around it. */
export function isolateText(text: string): Html {
  return html`<bdi>${text}</bdi>`;
}

/**
 * The same for a value inside a sentence: first-strong isolate and its end (Unicode UAX #9). ASCII needs none, and is
 * then copied without them.
 */
export function isolateValue<T extends string | null>(text: T): T {
  return (text === null || /^[ -~]*$/.test(text) ? text : `\u2068${text}\u2069`) as T;
}

export function userBox(user: PageUser | null | undefined, lead: string, action: HtmlValue = null): HtmlValue {
  if (user === null || user === undefined) return null;
  const name = user.name === "" ? user.email : user.name;
  return html`<div class="who" data-user="${user.email}"><i aria-hidden="true">${isolateText(initialOf(name))}</i><div><small>${lead}</small><b>${isolateText(name)}</b>${
    name !== user.email && html`<small>${isolateText(user.email)}</small>`
  }</div>${action}</div>`;
}

export function initialOf(name: string): string {
  return (name.trim().match(/\p{L}|\p{N}/u)?.[0] ?? "?").toUpperCase();
}

/** A link that looks like a button; nothing for an unsafe URL. */
export function linkButton(url: string | null | undefined, label: string, look: "first" | "second"): HtmlValue {
  const href = safeUrl(url);
  return href !== null && html`<a class="${look === "first" ? "button first" : "button"}" href="${href}">${label}</a>`;
}

/** As `linkButton`, but in a new tab, so that this page keeps what the reader sent. */
export function tabButton(url: string | null | undefined, label: string, look: "first" | "second"): HtmlValue {
  const href = safeUrl(url);
  const classes = look === "first" ? "button first" : "button";
  return href !== null && html`<a class="${classes}" href="${href}" target="_blank" rel="noopener">${label}</a>`;
}

/** Text to copy. The button appears only where the script runs; the text itself is selected by one click. */
export function copyElement(value: string, text: PageText, part?: string): Html {
  const { copy, copied } = text.pages;
  return html`<code data-part="${part}">${value}</code><button type="button" class="copy" data-copy="${value}" data-copied="${copied}" hidden>${copy}</button>`;
}

/** Rows of a definition list; a row without a value is left out. */
export function definitionList(rows: readonly (readonly [name: string, value: HtmlValue])[]): Html {
  const filled = rows.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return html`<dl>${filled.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

const dateMax = 8.64e15;
const months = "January February March April May June July August September October November December".split(" ");

/** In UTC. The script of the page puts the reader's own time in front of it. */
export function timeElement(at: UnixMs): Html {
  if (!(Math.abs(at) <= dateMax)) return html`${String(at)}`;
  const date = new Date(at);
  const iso = date.toISOString();
  return html`<time datetime="${iso}">${readableTime(date, iso)} UTC</time>`;
}

/** As `Intl.DateTimeFormat` in British English, but its first use takes 11 ms of a start. */
function readableTime(date: Date, iso: string): string {
  const day = `${date.getUTCDate()} ${months[date.getUTCMonth()]} ${date.getUTCFullYear()}`;
  return `${day} at ${iso.slice(-"00:00:00.000Z".length, -".000Z".length)}`;
}
