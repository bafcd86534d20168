/** Sign-out pages: the confirmation, because a mere link must not sign anyone out, and the result. Pure. */
import type { SignedOutPage, SignOutConfirmPage } from "../../auth/index.ts";
import { endedCss, endedPart } from "./ended-part.ts";
import { html, safeUrl } from "./html.ts";
import { linkButton, type PageFrame, userBox } from "./layout.ts";
import type { PageContext } from "./page-context.ts";

export function signOutConfirmPage(page: Omit<SignOutConfirmPage, "type">, { text }: PageContext): PageFrame {
  const action = safeUrl(page.action);
  const { pages } = text;
  const isAll = page.sessions !== undefined;
  const title = isAll ? pages.signOutAllTitle : pages.signOutTitle;
  return {
    page: "sign-out-confirm",
    title,
    width: "narrow",
    forms: null,
    body: html`<h1>${title}</h1>
<p>${page.sessions === undefined ? pages.signOutText : pages.signOutAllText(page.sessions)}</p>
${userBox(page.user, pages.signedInAs)}
${action !== null && html`<form method="post" action="${action}"><div class="actions"><button class="first" type="submit">${isAll ? pages.signOutAll : pages.signOut}</button>${linkButton(page.cancelUrl, pages.staySignedIn, "second")}</div></form>`}`,
  };
}

export function signedOutPage(page: Omit<SignedOutPage, "type">, { text }: PageContext): PageFrame {
  const { pages } = text;
  return {
    page: "signed-out",
    title: pages.signedOutTitle,
    width: "narrow",
    css: endedCss,
    body: html`<h1>${pages.signedOutTitle}</h1>
${endedPart(page.ended, text, "/.pomerium/signed_out")}
<p>${pages.signedOutText}</p>
<div class="actions">${linkButton(page.continueUrl, pages.continue, "first")}</div>`,
  };
}
