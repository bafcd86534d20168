/**
 * Layout: the frame of every page, and the elements that pages share.
 *
 * Pure. One document without scripts or external assets. Readable without its style sheet, by keyboard and in the dark.
 * `data-page` on the body names the page for tests.
 */
import { hash } from "node:crypto";
import type { PageUser } from "../../auth/index.ts";
import type { UnixMs } from "../../events/index.ts";
import { type Html, type HtmlValue, html, safeUrl, styleSheet } from "./html.ts";

const css = `
:root { color-scheme: light dark; --ground: #f4f3ee; --card: #fffefb; --ink: #1d1c19; --muted: #65615a; --line: #dedbd1;
  --soft: #f0eee7; --accent: #14594b; --on-accent: #fff; --bad: #a02c17; --bad-soft: #fbeae6; --good: #1c6b45; --good-soft: #e5f3ea; }
@media (prefers-color-scheme: dark) { :root { --ground: #131412; --card: #1c1e1b; --ink: #ecebe5; --muted: #a5a298; --line: #353832;
  --soft: #252823; --accent: #7cd0b8; --on-accent: #0e1f1a; --bad: #ff9c86; --bad-soft: #3a201b; --good: #86d8a9; --good-soft: #1a3125; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  display: flex; flex-direction: column; align-items: center; padding: clamp(1rem, 7vh, 5rem) 1rem 2rem; }
main { width: 100%; max-width: 37rem; background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: clamp(1.25rem, 5vw, 2.25rem); box-shadow: 0 1px 2px rgb(0 0 0 / .05), 0 12px 32px rgb(0 0 0 / .06); }
main.wide { max-width: 50rem; }
main.narrow { max-width: 25rem; }
.brand { display: flex; align-items: center; gap: .5rem; margin: 0 0 1.5rem; color: var(--muted); font-size: .875rem; font-weight: 600; letter-spacing: .02em; }
.brand svg { width: 1.375rem; height: 1.375rem; color: var(--accent); flex: none; }
.brand span:last-child { margin-inline-start: auto; font-weight: 500; font-variant-numeric: tabular-nums; }
h1 { font-size: 1.625rem; line-height: 1.25; letter-spacing: -.012em; margin: 0 0 .5rem; text-wrap: balance; }
h2 { font-size: .8125rem; font-weight: 650; letter-spacing: .045em; text-transform: uppercase; color: var(--muted); margin: 1.75rem 0 .5rem; }
p { margin: 0 0 .75rem; text-wrap: pretty; }
ul { margin: 0 0 .75rem; padding-inline-start: 1.2rem; } li { margin: .2rem 0; } li::marker { color: var(--muted); }
a { color: var(--accent); text-underline-offset: .15em; }
code, kbd, pre { font: .92em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; overflow-wrap: anywhere; }
.muted { color: var(--muted); } .small { font-size: .875rem; }
.who { display: flex; gap: .75rem; align-items: center; margin: 1.25rem 0; padding: .75rem .875rem; background: var(--soft); border-radius: 10px; overflow-wrap: anywhere; }
.who i { flex: none; width: 2.25rem; height: 2.25rem; border-radius: 50%; display: grid; place-items: center; background: var(--accent); color: var(--on-accent); font-style: normal; font-weight: 650; }
.who b { display: block; line-height: 1.3; font-weight: 600; } .who small { color: var(--muted); font-size: .875rem; line-height: 1.3; }
.actions { display: flex; flex-wrap: wrap; gap: .625rem; margin: 1.25rem 0 0; }
.button, button { display: inline-flex; align-items: center; justify-content: center; min-height: 2.75rem; padding: .5rem 1.125rem; border: 1px solid var(--line); border-radius: 9px;
  background: var(--card); color: var(--ink); font: inherit; font-weight: 550; text-decoration: none; cursor: pointer; }
.button:hover, button:hover { border-color: var(--muted); }
.button.first, button.first { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.button.first:hover, button.first:hover { filter: brightness(1.1); }
:focus-visible { outline: 3px solid color-mix(in srgb, var(--accent) 55%, transparent); outline-offset: 2px; }
.tag { display: inline-block; padding: .0625rem .55rem; margin: 0 .25rem .3rem 0; border-radius: 99px; background: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: 8.5rem 1fr; gap: .25rem 1rem; margin: 0; font-size: .875rem; }
dt { color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.facts { margin-top: 1.75rem; padding-top: 1rem; border-top: 1px solid var(--line); }
.facts code { user-select: all; }
details { margin-top: 1rem; font-size: .875rem; } summary { cursor: pointer; color: var(--muted); } details dl { margin-top: .5rem; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } .actions > * { flex: 1 1 100%; } }
`;

const mark = html`<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" stroke-linecap="round" aria-hidden="true"><path d="M4 21V3.5L15 6v17z"/><path d="M15 6h5v15h-5"/><path d="M11.5 13.5v2"/></svg>`;

export type Frame = Readonly<{
  page: string;
  title: string;
  body: Html;
  /** Text after the name at the top: a status, a host. */
  aside?: HtmlValue;
  brand?: string;
  /** `narrow` for a form, `wide` for tables. */
  width?: "narrow" | "wide";
  /** Additional CSS of this page. */
  css?: string;
  /**
   * A script of the same host, loaded when the page is read. Of the proxy's pages, those that keep an address have one.
   */
  scriptUrl?: string;
  /**
   * The document is a file of its own: its content security policy allows its style sheet and nothing else.
   */
  selfContained?: true;
}>;

/** A whole document. */
export function renderLayout(frame: Frame): string {
  const sheet = css + (frame.css ?? "");
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
${
  frame.selfContained === true &&
  html`<meta http-equiv="Content-Security-Policy" content="${selfContainedPolicy(sheet)}">
`
}<title>${frame.title}</title>
${styleSheet(sheet)}${
  frame.scriptUrl !== undefined &&
  html`
<script defer src="${safeUrl(frame.scriptUrl)}"></script>`
}
</head>
<body data-page="${frame.page}">
<main class="${frame.width}">
<p class="brand">${mark}<span>${frame.brand ?? "Cardea"}</span><span>${frame.aside}</span></p>
${frame.body}
</main>
</body>
</html>
`.markup;
}

function selfContainedPolicy(sheet: string): string {
  const style = `'sha256-${hash("sha256", sheet, "base64")}'`;
  return `default-src 'none'; style-src ${style}; img-src data:; base-uri 'none'; form-action 'none'`;
}

/** Isolates text from a person, so that right-to-left overrides in a name cannot reorder the text around it. */
export function isolateText(text: string): Html {
  return html`<bdi>${text}</bdi>`;
}

export function userBox(user: PageUser | null | undefined, lead: string): HtmlValue {
  if (user === null || user === undefined) return null;
  const name = user.name === "" ? user.email : user.name;
  return html`<div class="who" data-user="${user.email}"><i aria-hidden="true">${isolateText(initial(name))}</i><div><small>${lead}</small><b>${isolateText(name)}</b>${
    name !== user.email && html`<small>${isolateText(user.email)}</small>`
  }</div></div>`;
}

function initial(name: string): string {
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

/** Rows of a definition list; a row without a value is left out. */
export function definitionList(rows: readonly (readonly [name: string, value: HtmlValue])[]): Html {
  const filled = rows.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "");
  return html`<dl>${filled.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

const dateMax = 8.64e15;
const months = "January February March April May June July August September October November December".split(" ");

/** UTC, because the reader and the administrator may be in different time zones. */
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
