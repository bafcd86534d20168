/** Sign-out pages: the confirmation, because a mere link must not sign anyone out, and the result. Pure. */
import type { SignedOutPage, SignOutConfirmPage } from "../../auth/index.ts";
import { html, safeUrl } from "./html.ts";
import { linkButton, renderLayout, userBox } from "./layout.ts";

export function signOutConfirmPage(page: Omit<SignOutConfirmPage, "type">): string {
  const action = safeUrl(page.action);
  return renderLayout({
    page: "sign-out-confirm",
    title: "Sign out?",
    width: "narrow",
    body: html`<h1>Sign out?</h1>
<p>You will be signed out of every application behind this proxy in this browser. Open connections to them are closed.</p>
${userBox(page.user, "You are signed in as")}
${action !== null && html`<form method="post" action="${action}"><div class="actions"><button class="first" type="submit">Sign out</button>${linkButton(page.cancelUrl, "Stay signed in", "second")}</div></form>`}`,
  });
}

export function signedOutPage(page: Omit<SignedOutPage, "type">): string {
  return renderLayout({
    page: "signed-out",
    title: "Signed out",
    width: "narrow",
    body: html`<h1>You are signed out</h1>
<p>Your session has ended everywhere. You can close this window.</p>
<div class="actions">${linkButton(page.continueUrl, "Continue", "first")}</div>`,
  });
}
