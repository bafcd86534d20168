/**
 * Frame: the document around every view of the console.
 *
 * Pure. Header, menu, one sentence that answers the question of the page, filters, content, and the same act as a
 * command. It reads without scripts and style sheets; both come from this host alone, never inline.
 */
import type { Standing } from "../api/live/standing.ts";
import type { Html, HtmlValue } from "../pages/html.ts";
import { html, safeUrl } from "../pages/html.ts";
import { initialOf, isolateText, mark, safePicture } from "../pages/layout.ts";
import type { PageLook } from "../pages/look.ts";
import { commandLine, consolePath, formatCount, wordsFor } from "./components/values.ts";
import { hasRole, menuGroups, type View, type ViewContext, type ViewPage } from "./view.ts";

export type FrameParts = Readonly<{
  view: Pick<View, "id" | "within" | "scripts" | "styles">;
  page: ViewPage;
  context: ViewContext;
  look: PageLook;
  /** All views of the console; the menu shows those that the reader may open. */
  views: readonly View[];
  cluster: string;
  /** What this node has applied. */
  applied: Readonly<{ position: number; standing: Standing }>;
  theme: Theme;
}>;

export const themes = ["auto", "light", "dark"] as const;
export type Theme = (typeof themes)[number];

/** The script and the style sheets of every view. */
export const frameAssets = { script: "console.js", sheets: ["theme.css", "console.css", "components.css"] } as const;

export function renderConsole(parts: FrameParts): string {
  const { view, page, context, look, theme } = parts;
  const { text, words, asset } = context;
  const scripts = [frameAssets.script, ...(view.scripts ?? [])].map(asset);
  const styles = [...frameAssets.sheets, ...(view.styles ?? [])].map(asset);
  return html`<!doctype html>
<html lang="${text.language}" dir="${text.direction}"${theme !== "auto" && html` data-theme="${theme}"`}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>${page.title} · ${words.frame.brand(look.organization)}</title>
<link rel="icon" href="${safePicture(look.faviconUrl) ?? "data:,"}">
${styles.map((path) => path !== null && html`<link rel="stylesheet" href="${safeUrl(path)}">`)}
${scripts.map((path) => path !== null && html`<script type="module" src="${safeUrl(path)}"></script>`)}
</head>
<body class="console" data-page="${view.id}" data-role="${context.reader.role}" data-position="${parts.applied.position}" ${standingData(parts.applied.standing)} data-words="${scriptWords(context, parts.views)}">
<a class="skip" href="#main">${words.frame.skip}</a>
${headerOf(parts)}
${menuOf(parts)}
<main id="main" tabindex="-1">
<div id="notices" role="status">${standingBar(parts)}</div>
<div class="heading"><h1>${page.title}</h1>${page.actions !== undefined && html`<div class="actions">${page.actions}</div>`}</div>
<p class="lead" id="lead">${page.lead}</p>
${page.filters}
<div id="content">${page.content}</div>
${page.command !== null && commandLine(page.command, context)}
</main>
</body>
</html>
`.markup;
}

function standingData(standing: Standing): Html {
  return standing.type === "behind"
    ? html`data-standing="behind" data-events="${standing.events}" data-seen-at="${standing.seenAt}"`
    : html`data-standing="${standing.type}"`;
}

/** Said on every page; the script keeps it current. */
function standingBar({ applied: { standing }, context }: FrameParts): HtmlValue {
  const { frame } = context.words;
  if (standing.type === "current") return null;
  return html`<p id="standing" class="notice stale" data-stale>${standing.type === "unconfirmed" ? frame.unconfirmed : behindSentence(standing, context)}</p>`;
}

function behindSentence({ events, seenAt }: Extract<Standing, { type: "behind" }>, context: ViewContext): string {
  const { frame } = context.words;
  const time = `${seenAt.slice(11, 19)} UTC`;
  return events === 1 ? frame.behindOne(time) : frame.behind(time, formatCount(events, context));
}

function headerOf({ context, look, cluster, applied }: FrameParts): Html {
  const { words, reader } = context;
  const logo = safePicture(look.logoUrl);
  const name = reader.name || reader.email || reader.userId || reader.role;
  const position = String(applied.position);
  return html`<header class="top"><a class="brand" href="${consolePath}/">${logo === null ? mark : html`<img src="${logo}" alt="">`}<span>${look.organization}</span></a><span class="cluster">${isolateText(cluster)}</span><span class="live"${!reader.isApprover && html` id="live"`} data-state="off"><i class="dot" aria-hidden="true"></i><span data-part="text">${words.frame.position(position)}</span></span><button type="button" id="open-palette" class="palette-button" hidden aria-keyshortcuts="Control+K Meta+K">${words.palette.open} <kbd>⌘K</kbd></button><details class="me"><summary><span class="quiet">${words.frame.who}</span><i class="avatar" aria-hidden="true">${isolateText(initialOf(name))}</i><span class="name">${isolateText(name)}</span></summary><div class="menu-box"><p><b>${isolateText(name)}</b>${
    reader.email !== "" && reader.email !== name && html`<small>${isolateText(reader.email)}</small>`
  }<small>${words.frame.roles[reader.role]}</small></p><a href="/.pomerium/">${words.frame.account}</a><a href="/.pomerium/sign_out">${words.frame.signOut}</a><button type="button" id="open-keys" hidden>${words.keys.title}</button></div></details></header>`;
}

function menuOf({ view, context, views }: FrameParts): Html {
  const { words, reader } = context;
  const current = view.within ?? view.id;
  const shown = views.filter(({ menu, role }) => menu !== null && hasRole(reader, role));
  const groups = menuGroups.map((group) => {
    const entries = shown.filter(({ menu }) => menu?.group === group);
    return { group, entries };
  });
  const list = groups.map(
    ({ group, entries }) =>
      entries.length > 0 &&
      html`<li>${group !== "overview" && html`<span class="group">${words.frame.groups[group]}</span>`}<ul>${entries.map((entry) => entryOf(entry, current, words))}</ul></li>`,
  );
  return html`<nav class="side" aria-label="${words.frame.menu}"><details open><summary>${words.frame.menu}</summary><ul>${list}</ul></details></nav>`;
}

function entryOf({ id, path, menu }: View, current: string, words: ViewContext["words"]): HtmlValue {
  if (menu === null) return null;
  return html`<li><a href="${consolePath}${path}" data-view="${id}"${menu.key !== undefined && html` data-key="${menu.key}"`}${
    id === current && html` aria-current="page"`
  }>${menu.label(words)}</a></li>`;
}

/** What the scripts say. Each `{}` is filled in there. */
function scriptWords({ words }: ViewContext, views: readonly View[]): string {
  const { frame, palette, keys, receipt, act } = words;
  const pages = views.flatMap(({ path, menu, role }) =>
    menu === null ? [] : [{ name: menu.label(words), href: `${consolePath}${path}`, key: menu.key ?? null, role }],
  );
  return wordsFor({
    live: frame.live("{}"),
    paused: frame.paused,
    behind: frame.behind("{}", "{}"),
    behindOne: frame.behindOne("{}"),
    unconfirmed: frame.unconfirmed,
    ended: frame.ended,
    endedText: frame.endedText,
    signInAgain: frame.signInAgain,
    copied: frame.copied,
    linkCopied: frame.linkCopied,
    cancel: frame.cancel,
    close: frame.close,
    now: frame.now,
    ago: { s: agoOf(frame.ago, "s"), min: agoOf(frame.ago, "min"), h: agoOf(frame.ago, "h"), d: agoOf(frame.ago, "d") },
    inFuture: {
      s: agoOf(frame.inFuture, "s"),
      min: agoOf(frame.inFuture, "min"),
      h: agoOf(frame.inFuture, "h"),
      d: agoOf(frame.inFuture, "d"),
    },
    copy: frame.copy,
    act: {
      ...withBlanks(act),
      peopleOne: act.people("1"),
      sessionsOne: act.sessions("1"),
      routeOne: act.route("{}", "1"),
    },
    palette: { ...palette, found: { one: palette.found(1), many: palette.found(2).replace("2", "{}") } },
    keys: { ...keys, goTo: keys.goTo("{}") },
    receipt: { ...withBlanks(receipt), runningOne: receipt.running("1") },
    pages,
  });
}

type Unit = "s" | "min" | "h" | "d";
const agoOf = (say: (amount: number, unit: Unit) => string, unit: Unit): string => say(2, unit).replace("2", "{}");

/** Words for a script: `{}` stands for each value. A plural is that of many. */
export function withBlanks(words: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(words).map(([key, value]) => [
      key,
      typeof value === "function" ? (value as (...values: string[]) => string)("{}", "{}", "{}") : value,
    ]),
  );
}
