/**
 * Sign-in pages: the sign-in loop page, and the pages before and after a sign-in with an address too long for
 * redirects.
 *
 * Pure. The loop page lists the causes for which a finished sign-in is not recognised, the likeliest first, each with
 * its remedy, and the server's time to compare clocks. On the other two a script continues at once; without scripts the
 * person follows the link and ends at the path without its query.
 */
import { type KeepAddressPage, type ReturnPage, type SignInLoopPage, scriptPath } from "../../auth/index.ts";
import { supportLink } from "./error-page.ts";
import { html } from "./html.ts";
import { copyElement, definitionList, isolateValue, linkButton, type PageFrame, timeElement } from "./layout.ts";
import type { PageContext } from "./page-context.ts";

export function signInLoopPage(page: Omit<SignInLoopPage, "type">, context: PageContext): PageFrame {
  const { text } = context;
  const { loop } = text;
  const missing = page.sessionCookie === "missing";
  const host = isolateValue(page.host);
  const causes = missing ? missingCauses(page, context) : [loop.serverClock, loop.oldCookie(host), loop.keys];
  return {
    page: "sign-in-loop",
    title: `${loop.title} (${page.status})`,
    aside: html`<span data-status="${page.status}">${page.status}</span>`,
    body: html`<h1>${loop.title}</h1>
<p>${missing ? loop.missing(host) : loop.refused(host)} ${loop.stopped}</p>
<h2>${loop.causes}</h2>
<ul data-part="causes">${causes.map((cause) => html`<li><b>${cause.title}</b> ${cause.text}</li>`)}</ul>
<p>${supportLink(context, loop.next)}</p>
<div class="actions">${linkButton(page.retryUrl, text.pages.tryAgain, "first")}</div>
<div class="facts">${definitionList([
      [text.pages.requestId, copyElement(page.requestId, text, "request-id")],
      [text.pages.serverTime, timeElement(page.at)],
      [text.pages.address, page.host],
    ])}</div>`,
  };
}

type Cause = Readonly<{ title: string; text: string }>;

function missingCauses({ host, uncoveredBy }: Omit<SignInLoopPage, "type">, { text }: PageContext): readonly Cause[] {
  const { loop } = text;
  const name = isolateValue(host);
  const usual = [loop.blocked(name), loop.clock];
  return uncoveredBy === null
    ? [...usual, loop.domainUnknown(name)]
    : [loop.domainWrong(name, isolateValue(uncoveredBy)), ...usual];
}

export function keepAddressPage(
  { id, address, signInUrl }: Omit<KeepAddressPage, "type">,
  { text }: PageContext,
): PageFrame {
  const { pages, conditions } = text;
  const { title } = conditions.unauthenticated({ app: null, support: null, provider: null });
  return {
    page: "keep-address",
    title,
    width: "narrow",
    scripts: [scriptPath],
    body: html`<h1>${title}</h1>
<p data-id="${id}" data-address="${address}">${pages.keepAddress}</p>
<noscript><p>${pages.keepAddressNoScript}</p></noscript>
<div class="actions">${linkButton(signInUrl, pages.signIn, "first")}</div>`,
  };
}

export function returnPage({ fallbackUrl, continues }: Omit<ReturnPage, "type">, { text }: PageContext): PageFrame {
  const { pages } = text;
  return {
    page: "return",
    title: pages.signedIn,
    width: "narrow",
    scripts: continues === "script" ? [scriptPath] : [],
    body: html`<h1>${pages.signedIn}</h1>
<p>${pages.returning}</p>
<div class="actions">${linkButton(fallbackUrl, pages.continue, "first")}</div>`,
  };
}
