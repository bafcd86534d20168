/**
 * Routes portal: what a person may open, and what they may ask for. Pure.
 *
 * It works without its script, except for favourites. The script searches while the person types, with the same tiles.
 */
import { type FoundRoute, portalPath, type RefusedRoute, type RoutesPage } from "../../auth/index.ts";
import { supportLink, whyOf } from "./error-page.ts";
import { type Html, type HtmlValue, html, safeUrl } from "./html.ts";
import { copyElement, initialOf, isolateText, isolateValue, type PageFrame, safePicture } from "./layout.ts";
import type { PageContext } from "./page-context.ts";

type Fields = Omit<RoutesPage, "type">;

/** Drawn once; each button refers to it. */
const starSymbol = html`<svg hidden><symbol id="star" viewBox="0 0 24 24"><path d="m12 3.5 2.6 5.4 5.9.8-4.3 4.1 1 5.9-5.2-2.8-5.2 2.8 1-5.9-4.3-4.1 5.9-.8z"/></symbol></svg>`;
const star = html`<svg aria-hidden="true"><use href="#star"/></svg>`;

export function routesPage(page: Fields, context: PageContext): PageFrame {
  const { text, look } = context;
  const { portal } = text;
  return {
    page: "routes",
    title: portal.title,
    width: page.view === "list" ? "list" : "wide",
    aside: accountLinks(page, context),
    scripts: look.assets.portal === null ? [] : [look.assets.portal],
    styles: look.assets.portalSheet === null ? [] : [look.assets.portalSheet],
    asks: ["/.pomerium/api/v1/routes"],
    forms: [portalPath],
    body: html`${starSymbol}<h1>${portal.title}</h1>
${toolsOf(page, context)}
<p class="quiet" role="status" id="status" data-one="${portal.shown(1)}" data-many="${portal.shown(2).replace("2", "{}")}"></p>
<section id="pinned" hidden><h2>${portal.pinned}</h2><ul class="apps"></ul></section>
<div id="results" data-complete="${String(page.isFirst && page.next === null && !page.moreRefused && page.text === "")}">
${sectionsOf(page, context)}
</div>
${emptyOf(page, context)}
${pagerOf(page, context)}
<p class="muted small">${supportLink(context, portal.missing)}</p>
<template id="tile">${tileOf(blankRoute, context)}</template>`,
  };
}

/** The tile that the script copies and fills in. */
const blankRoute: FoundRoute = {
  id: "",
  name: "",
  type: "http",
  from: "",
  description: "",
  logo_url: "",
  owner: "",
  kind: "web",
  url: null,
  command: "",
};

function accountLinks({ user }: Fields, { text }: PageContext): HtmlValue {
  const name = user === null ? "" : user.name === "" ? user.email : user.name;
  return html`${name !== "" && html`<a href="/.pomerium/">${isolateText(name)}</a> · `}<a href="/.pomerium/sign_out">${text.pages.signOut}</a>`;
}

function toolsOf(page: Fields, { text: { portal } }: PageContext): Html {
  const query = page.text === "" ? "" : `&q=${encodeURIComponent(page.text.toWellFormed())}`;
  const view = (name: "tiles" | "list"): Html =>
    html`<a class="button" data-view="${name}" href="${portalPath}?view=${name}${query}"${page.view === name && html` hidden`}>${portal[name]}</a>`;
  return html`<div class="tools"><form method="get" action="${portalPath}" role="search"><input type="search" name="q" value="${page.text}" placeholder="${portal.search}" aria-label="${portal.search}" aria-keyshortcuts="/" maxlength="200" autocomplete="off" spellcheck="false">${
    page.view === "list" && html`<input type="hidden" name="view" value="list">`
  }<button type="submit">${portal.searchButton}</button></form>${view("tiles")}${view("list")}</div>`;
}

function sectionsOf({ routes, refused }: Fields, context: PageContext): HtmlValue {
  const { portal } = context.text;
  return [
    sectionOf(
      portal.web,
      "web",
      routes.filter(({ kind }) => kind === "web"),
      context,
    ),
    sectionOf(
      portal.terminal,
      "terminal",
      routes.filter(({ kind }) => kind !== "web"),
      context,
    ),
    sectionOf(portal.refused, "refused", refused, context),
  ];
}

function sectionOf(
  title: string,
  part: string,
  routes: readonly (FoundRoute | RefusedRoute)[],
  context: PageContext,
): HtmlValue {
  return (
    routes.length > 0 &&
    html`<section data-part="${part}"><h2>${title}</h2><ul class="apps">${routes.map((route) =>
      "reasons" in route ? refusedTile(route, context) : tileOf(route, context),
    )}</ul></section>
`
  );
}

function tileOf(route: FoundRoute, context: PageContext): Html {
  const { text } = context;
  const { portal } = text;
  const { owner = null } = route;
  const href = safeUrl(route.url);
  return html`<li data-id="${route.id}">${logoOf(route, context)}<div class="text"><b><a data-part="name"${
    href !== null && html` href="${href}"`
  }>${isolateText(route.name)}</a></b><small data-part="address">${addressOf(route)}</small><small data-part="description">${route.description}</small>${
    owner !== null &&
    html`<small data-part="owner"${route.id === "" && html` data-words="${portal.owner("{}")}"`}>${portal.owner(isolateValue(owner))}</small>`
  }${route.command !== null && html`<div class="run" data-part="run">${copyElement(route.command, text)}</div>`}</div>${
    route === blankRoute &&
    html`<button type="button" class="pin" aria-pressed="false" title="${portal.pin}" aria-label="${portal.pin}" hidden>${star}</button>`
  }</li>`;
}

/** Why, in the policy's own sentences where it has some, and who can be asked. */
function refusedTile(route: RefusedRoute, context: PageContext): Html {
  const { text } = context;
  const { owner } = route;
  const why = whyOf(route, context);
  const ask =
    owner === undefined ? supportLink(context, text.portal.askFor) : html`${text.pages.askOwner(isolateValue(owner))}`;
  return html`<li data-id="${route.id}">${logoOf(route, context)}<div class="text"><b><span data-part="name">${isolateText(
    route.name,
  )}</span></b><small data-part="address">${addressOf(route)}</small><small data-part="description">${route.description}</small><small class="why" data-part="why">${why.join(
    " ",
  )}</small><small data-part="ask">${ask}</small></div>${route.canRequest === true && html`<a class="button" data-part="request" href="${requestUrl(route)}">${text.pages.requestAccess}</a>`}</li>`;
}

/** On this host, to which the person is signed in. */
const requestUrl = ({ id }: RefusedRoute): string => `/.pomerium/access?route=${encodeURIComponent(id)}`;

function logoOf({ logo_url: url, name }: FoundRoute, { look }: PageContext): Html {
  const logo = safePicture(look.pictureUrl(url));
  return html`<span class="logo" aria-hidden="true">${
    logo === null ? initialOf(name) : html`<img src="${logo}" alt="" loading="lazy" width="40" height="40">`
  }</span>`;
}

function addressOf({ url, from }: FoundRoute): string {
  return url === null ? from.replace(/^\w+\+https?:\/\//, "") : new URL(url).host;
}

function emptyOf(page: Fields, context: PageContext): Html {
  const { portal } = context.text;
  const isEmpty = page.routes.length === 0 && page.refused.length === 0;
  const sentence =
    page.text === "" ? supportLink(context, portal.empty) : html`${portal.nothing(isolateValue(page.text))}`;
  return html`<p id="empty"${!isEmpty && html` hidden`}><span data-part="sentence" data-words="${portal.nothingHere}">${sentence}</span>${
    page.text !== "" && html` <a href="${portalPath}">${portal.clear}</a>`
  }</p>`;
}

function pagerOf(page: Fields, { text: { portal } }: PageContext): HtmlValue {
  const linkTo = (parameters: Readonly<Record<string, string>>): string => {
    const all = { ...(page.text === "" ? {} : { q: page.text }), ...(page.view === "list" ? { view: "list" } : {}) };
    return `${portalPath}?${new URLSearchParams({ ...all, ...parameters })}`;
  };
  const show: Readonly<Record<string, string>> = page.show === "refused" ? { show: "refused" } : {};
  const links = [
    page.next !== null &&
      html`<a class="button first" href="${linkTo({ ...show, after: page.next })}">${portal.more}</a>`,
    page.moreRefused && html`<a class="button" href="${linkTo({ show: "refused" })}">${portal.moreRefused}</a>`,
    !page.isFirst && html`<a class="button" href="${linkTo(show)}">${portal.firstPage}</a>`,
    page.show === "refused" && html`<a class="button" href="${linkTo({})}">${portal.showPermitted}</a>`,
  ].filter((link) => link !== false);
  return links.length > 0 && html`<nav class="pager" id="pager">${links}</nav>`;
}
