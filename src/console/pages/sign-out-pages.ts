/** Sign-out pages: the confirmation, because a mere link must not sign anyone out, and the result. Pure. */
import type { SignedOutPage, SignOutConfirmPage } from "../../auth/index.ts";
import { html, safeUrl } from "./html.ts";
import { linkButton, type PageFrame, userBox } from "./layout.ts";
import type { PageContext } from "./page-context.ts";

export function signOutConfirmPage(page: Omit<SignOutConfirmPage, "type">, { text }: PageContext): PageFrame {
  const action = safeUrl(page.action);
  const { pages } = text;
  return {
    page: "sign-out-confirm",
    title: pages.signOutTitle,
    width: "narrow",
    forms: null,
    body: html`<h1>${pages.signOutTitle}</h1>
<p>${pages.signOutText}</p>
${userBox(page.user, pages.signedInAs)}
${action !== null && html`<form method="post" action="${action}"><div class="actions"><button class="first" type="submit">${pages.signOut}</button>${linkButton(page.cancelUrl, pages.staySignedIn, "second")}</div></form>`}`,
  };
}

export function signedOutPage(page: Omit<SignedOutPage, "type">, { text }: PageContext): PageFrame {
  const { pages } = text;
  return {
    page: "signed-out",
    title: pages.signedOutTitle,
    width: "narrow",
    body: html`<h1>${pages.signedOutTitle}</h1>
<p>${pages.signedOutText}</p>
<div class="actions">${linkButton(page.continueUrl, pages.continue, "first")}</div>`,
  };
}
