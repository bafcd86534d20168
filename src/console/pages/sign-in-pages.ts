/**
 * Sign-in pages: the sign-in loop page, and the pages before and after a sign-in with an address too long for
 * redirects.
 *
 * Pure. The loop page lists the causes for which a finished sign-in is not recognised, the likeliest first, each with
 * its remedy, and the server's time to compare clocks. On the other two a script continues at once; without scripts the
 * person follows the link and ends at the path without its query.
 */
import { type KeepAddressPage, type ReturnPage, type SignInLoopPage, scriptPath } from "../../auth/index.ts";
import { type Html, html } from "./html.ts";
import { definitionList, isolateText, linkButton, renderLayout, timeElement } from "./layout.ts";

export function signInLoopPage(page: Omit<SignInLoopPage, "type">): string {
  const support = page.contact ? isolateText(page.contact) : html`your administrator`;
  const missing = page.sessionCookie === "missing";
  return renderLayout({
    page: "sign-in-loop",
    title: `${page.title} (${page.status})`,
    aside: html`<span data-status="${page.status}">${page.status}</span>`,
    body: html`<h1>${page.title}</h1>
<p>${
      missing
        ? html`You signed in, but your browser doesn't send the sign-in cookie of <b>${page.host}</b> back.`
        : html`You signed in, but <b>${page.host}</b> doesn't accept the sign-in cookie that your browser sends.`
    } We stopped, so that your browser doesn't go round in circles.</p>
<h2>What may be wrong</h2>
<ul data-part="causes">${(missing ? missingCauses(page) : refusedCauses(page)).map((cause) => html`<li>${cause}</li>`)}</ul>
<h2>What you can do</h2>
<p>Fix the cause, then try again. If it keeps happening, send ${support} the request ID.</p>
<div class="actions">${linkButton(page.retryUrl, "Try again", "first")}</div>
<div class="facts">${definitionList([
      ["Request ID", html`<code data-part="request-id">${page.requestId}</code>`],
      ["Server time", timeElement(page.at)],
      ["Address", page.host],
    ])}</div>`,
  });
}

function missingCauses({ host, uncoveredBy }: Omit<SignInLoopPage, "type">): readonly Html[] {
  const domain =
    uncoveredBy === null
      ? html`<b>The cookie's domain is wrong.</b> The cookie must be set for ${host}. An administrator can check
 <code>cookie_domain</code>, and proxies in front of this server that change host names or remove cookies.`
      : html`<b>The cookie's domain is wrong.</b> The cookie is set for ${uncoveredBy}, which doesn't cover ${host}, so
 browsers refuse it. An administrator has to change <code>cookie_domain</code>.`;
  const blocked = html`<b>Cookies are blocked.</b> Allow cookies for ${host} in your browser, and turn off extensions that
 block or delete them.`;
  const clock = html`<b>A clock is wrong.</b> Compare the server time below with yours. Correct the date and time of this
 device if they differ.`;
  return uncoveredBy === null ? [blocked, clock, domain] : [domain, blocked, clock];
}

function refusedCauses({ host }: Omit<SignInLoopPage, "type">): readonly Html[] {
  return [
    html`<b>A clock is wrong.</b> Compare the server time below with yours. If the server's is wrong, an administrator has
 to correct it: the session looks expired there.`,
    html`<b>An old cookie hides the new one.</b> Clear the cookies of ${host} and of its parent domains, then try again. They
 may come from another site with a wider <code>cookie_domain</code>.`,
    html`<b>The servers don't share their keys.</b> An administrator can check that <code>shared_secret</code> is the same
 everywhere.`,
  ];
}

export function keepAddressPage({ id, address, signInUrl }: Omit<KeepAddressPage, "type">): string {
  return renderLayout({
    page: "keep-address",
    title: "Sign in",
    width: "narrow",
    scriptUrl: scriptPath,
    body: html`<h1>Sign in to continue</h1>
<p data-id="${id}" data-address="${address}">You are not signed in. Your browser remembers the address of this page while you sign in.</p>
<noscript><p>JavaScript is off, and the address is too long to pass along. After signing in you return to the page without the part of the address after the question mark.</p></noscript>
<div class="actions">${linkButton(signInUrl, "Sign in", "first")}</div>`,
  });
}

export function returnPage({ fallbackUrl }: Omit<ReturnPage, "type">): string {
  return renderLayout({
    page: "return",
    title: "Signed in",
    width: "narrow",
    scriptUrl: scriptPath,
    body: html`<h1>You are signed in</h1>
<p>Your browser now returns to the page that you requested.</p>
<div class="actions">${linkButton(fallbackUrl, "Continue", "first")}</div>`,
  });
}
