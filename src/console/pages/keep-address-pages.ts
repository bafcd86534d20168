/**
 * Keep-address pages: before and after a sign-in whose address is too long for redirects. A script moves on at once; without scripts the
 * person follows the link and ends at the path without its query.
 *
 * Pure.
 */
import { type KeepAddressPage, type ReturnPage, scriptPath } from "../../auth/index.ts";
import { html } from "./html.ts";
import { layout, linkButton } from "./layout.ts";

export function keepAddressPage({ id, address, signInUrl }: Omit<KeepAddressPage, "type">): string {
  return layout({
    ...{ page: "keep-address", title: "Sign in", width: "narrow", scriptUrl: scriptPath },
    body: html`<h1>Sign in to go on</h1>
<p data-id="${id}" data-address="${address}">You are not signed in. Your browser keeps the address of this page while you sign in.</p>
<noscript><p>Scripts are off, so you will end at the beginning of the address: it is too long to be carried along.</p></noscript>
<div class="actions">${linkButton(signInUrl, "Sign in", "first")}</div>`,
  });
}

export function returnPage({ nearUrl }: Omit<ReturnPage, "type">): string {
  return layout({
    ...{ page: "return", title: "Signed in", width: "narrow", scriptUrl: scriptPath },
    body: html`<h1>You are signed in</h1>
<p>Your browser goes back to the page that you asked for.</p>
<div class="actions">${linkButton(nearUrl, "Go on", "first")}</div>`,
  });
}
