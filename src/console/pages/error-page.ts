/**
 * Error page: what happened, why, as which user, and what the reader can do.
 *
 * Pure. Shows the reason codes next to their sentences, so that a person can quote something that an operator can
 * search for.
 */
import type { ErrorPage, SignInErrorPage } from "../../auth/index.ts";
import { type Html, type HtmlValue, html } from "./html.ts";
import { definitionList, isolateText, linkButton, renderLayout, tabButton, timeElement, userBox } from "./layout.ts";
import { describeReasons } from "./reasons.ts";

type Fields<P> = Omit<P, "type">;

export function errorPage(page: Fields<ErrorPage>): string {
  const why = [...describeReasons(page.reasons), ...page.explain];
  const details = page.details ?? [];
  return renderLayout({
    page: "error",
    title: `${page.title} (${page.status})`,
    aside: html`<span data-status="${page.status}">${page.status}</span>`,
    body: html`<h1>${page.title}</h1>
<p>${page.description}</p>
${userBox(page.user, "You are signed in as")}
${why.length > 0 && html`<h2>Why</h2><ul data-part="why">${why.map((line) => html`<li>${line}</li>`)}</ul>`}
<h2>What you can do</h2>
${adviceOf(page)}
${actionsOf(page)}
<div class="facts">${definitionList([
      ["Request ID", html`<code data-part="request-id">${page.requestId}</code>`],
      ["Time", timeElement(page.at)],
      ["Address", page.host],
      ["Reason", page.reasons.length > 0 && html`<code>${page.reasons.join(", ")}</code>`],
    ])}</div>
${details.length > 0 && html`<details><summary>Details for the owner of this route</summary>${definitionList(details.map((d) => [d.name, html`<code>${d.value}</code>`]))}</details>`}`,
  });
}

function adviceOf(page: Fields<ErrorPage>): Html {
  const support = page.contact ? isolateText(page.contact) : html`the administrator of ${page.host ?? "this address"}`;
  const askSupport = html`contact ${support} and quote the request ID below.`;
  if (page.status === 404) {
    return html`<p>Check the address for a typing error. If someone sent you the link, let them know.</p>`;
  }
  if (page.unsent === true) {
    return html`<p>Sign in in a new tab. Then reload this tab: your browser offers to send the same data again.</p>`;
  }
  if (page.status === 401) return html`<p>Sign in. You then return to this page.</p>`;
  if ([400, 405, 408, 413, 414, 417, 431].includes(page.status))
    return html`<p>Go back and try again. If that does not help, ${askSupport}</p>`;
  if (page.status >= 500) {
    const reassurance = page.user ? " You are still signed in." : null;
    const existing = page.existingSignInUrl
      ? " If you are signed in on another page of this installation, continue with that sign-in."
      : null;
    return html`<p>${retrySentence(page.retryAfterS)}${existing} If the problem continues, ${askSupport}${reassurance}</p>`;
  }
  const other = page.signInUrl ? " If another account of yours has access, sign in with that one." : null;
  return html`<p>Ask ${support} for access, and quote the request ID below.${other}</p>`;
}

function retrySentence(retryAfterS: number | null | undefined): string {
  if (retryAfterS === null || retryAfterS === undefined || retryAfterS <= 0) return "Try again in a moment.";
  return retryAfterS === 1 ? "Try again in a second." : `Try again in ${retryAfterS} seconds.`;
}

function actionsOf(page: Fields<ErrorPage>): HtmlValue {
  const signedIn = page.user !== null && page.user !== undefined;
  const retry = linkButton(page.retryUrl, "Try again", "first");
  const signInLook = retry === false ? "first" : "second";
  const buttons = [
    retry,
    page.unsent === true
      ? tabButton(page.signInUrl, "Sign in (new tab)", signInLook)
      : linkButton(page.signInUrl, signedIn ? "Sign in with another account" : "Sign in", signInLook),
    linkButton(page.existingSignInUrl, "Use existing sign-in", "second"),
    linkButton(page.signOutUrl, "Sign out", "second"),
  ].filter((button) => button !== false);
  return buttons.length > 0 && html`<div class="actions">${buttons}</div>`;
}

export function signInErrorPage(page: Fields<SignInErrorPage>): string {
  const ask = page.contact ? html`contact ${isolateText(page.contact)}` : html`contact the administrator`;
  return renderLayout({
    page: "sign-in-error",
    title: `${page.title} (${page.status})`,
    aside: html`<span data-status="${page.status}">${page.status}</span>`,
    body: html`<h1>${page.title}</h1>
<p>${page.description}</p>
${page.providerSays && html`<p class="muted">The identity provider says: <q>${isolateText(page.providerSays)}</q></p>`}
<h2>What you can do</h2>
<p>Start signing in again. If it fails again, ${ask} and quote the request ID below.</p>
<div class="actions">${linkButton(page.retryUrl, "Sign in again", "first")}</div>
<div class="facts">${definitionList([
      ["Request ID", html`<code data-part="request-id">${page.requestId}</code>`],
      ["Time", timeElement(page.at)],
    ])}</div>`,
  });
}
