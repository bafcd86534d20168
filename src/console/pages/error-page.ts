/**
 * Error pages: what happened, why, as which user, and a way forward.
 *
 * Pure. Shows the reason codes next to their sentences, so that a person can quote something that an operator can
 * search for. Each page has one primary action.
 */
import type { ErrorPage, SignInErrorPage } from "../../auth/index.ts";
import type { ConditionWords } from "../text/en.ts";
import { describeReasons } from "../text/texts.ts";
import { type Html, type HtmlValue, html, safeContactUrl } from "./html.ts";
import {
  copyElement,
  definitionList,
  isolateText,
  isolateValue,
  linkButton,
  type PageFrame,
  tabButton,
  timeElement,
  userBox,
} from "./layout.ts";
import type { PageContext } from "./page-context.ts";

type Fields<P> = Omit<P, "type">;

export function errorPage(page: Fields<ErrorPage>, context: PageContext): PageFrame {
  const { text } = context;
  const words = wordsOf(page, context, (value) => value);
  const shown = wordsOf(page, context, isolateValue);
  const why = whyOf(page, context);
  const details = page.details ?? [];
  return {
    page: "error",
    title: `${words.title} (${page.status})`,
    aside: html`<span data-status="${page.status}">${page.status}</span>`,
    body: html`${firstParagraph(context)}<h1>${shown.title}</h1>
<p>${shown.text}</p>
${userBox(page.user, text.pages.signedInAs)}
${why.length > 0 && html`<h2>${text.pages.why}</h2><ul data-part="why">${why.map((line) => html`<li>${line}</li>`)}</ul>`}
${adviceOf(page, context)}
${actionsOf(page, context)}
<div class="facts">${definitionList([
      [text.pages.requestId, copyElement(page.requestId, text, "request-id")],
      [text.pages.time, timeElement(page.at)],
      [text.pages.address, page.host],
      [text.pages.reason, page.reasons.length > 0 && html`<code>${page.reasons.join(", ")}</code>`],
    ])}</div>
${
  details.length > 0 &&
  html`<details><summary>${text.pages.details}</summary>${definitionList(
    details.map((row) => {
      const { name, value } = text.details(row);
      return [name, html`<code>${value}</code>`];
    }),
  )}</details>`
}`,
  };
}

function wordsOf(
  page: Pick<Fields<ErrorPage>, "condition" | "app" | "host">,
  { text, look }: PageContext,
  isolate: <T extends string | null>(value: T) => T,
): ConditionWords {
  const { app = null, host = null, condition } = page;
  return text.conditions[condition]({
    app: isolate(app ?? host),
    support: isolate(look.support?.label ?? null),
    provider: null,
  });
}

/** The sentences of the policy where it has some; they say more than the general reason. */
export function whyOf(
  { reasons, explain }: Pick<ErrorPage, "reasons" | "explain">,
  { text }: PageContext,
): readonly string[] {
  return explain === null ? describeReasons(reasons, text) : text.requirements.ofRoute(explain, isolateValue);
}

function firstParagraph({ look }: PageContext): HtmlValue {
  return (
    look.firstParagraph !== "" &&
    html`<p data-part="first-paragraph">${look.firstParagraph}</p>
`
  );
}

/** The contact of the configuration, as a link where it has one. */
export function supportLink({ look }: PageContext, sentence: (support: string | null) => string): Html {
  const { support } = look;
  const href = safeContactUrl(support?.url);
  if (support === null || href === null) return html`${sentence(isolateValue(support?.label ?? null))}`;
  const marker = "\u0000";
  const [before = "", after = ""] = sentence(marker).split(marker);
  return html`${before}<a href="${href}">${isolateText(support.label)}</a>${after}`;
}

function adviceOf(page: Fields<ErrorPage>, context: PageContext): HtmlValue {
  const { pages } = context.text;
  if (page.unsent === true) return html`<p>${pages.newTab}</p>`;
  if (page.status === 404) return html`<p>${pages.checkTypos}</p>`;
  if (page.condition === "unauthenticated") return html`<p>${pages.returnHere}</p>`;
  if (page.status >= 500) {
    const wait = page.retryAfterS ?? null;
    const retry = wait === null || wait <= 1 ? pages.retrySoon : pages.retryIn(wait);
    return html`<p>${page.retryUrl ? `${retry} ` : null}${page.existingSignInUrl ? `${pages.existing} ` : null}${supportLink(context, pages.needHelp)}</p>`;
  }
  if (page.condition === "denied" || page.status === 450 || page.status === 495) {
    const { owner = null } = page;
    if (owner !== null) return html`<p data-part="owner">${pages.askOwner(isolateValue(owner))}</p>`;
    return html`<p>${supportLink(context, pages.askSupport)}</p>`;
  }
  return html`<p>${supportLink(context, pages.needHelp)}</p>`;
}

function actionsOf(page: Fields<ErrorPage>, { text }: PageContext): HtmlValue {
  const { pages } = text;
  const signedIn = page.user !== null && page.user !== undefined;
  const signIn = (look: "first" | "second"): HtmlValue =>
    page.unsent === true
      ? tabButton(page.signInUrl, pages.signInNewTab, look)
      : linkButton(page.signInUrl, signedIn ? pages.switchAccount : pages.signIn, look);
  const buttons = firstIsPrimary([
    (look) => linkButton(page.requestAccessUrl, pages.requestAccess, look),
    (look) => linkButton(page.retryUrl, pages.tryAgain, look),
    signIn,
    (look) => linkButton(page.existingSignInUrl, pages.useExisting, look),
    (look) => linkButton(page.appsUrl, page.status === 404 ? pages.goToApps : pages.myApps, look),
    (look) => linkButton(page.signOutUrl, pages.signOut, look),
  ]);
  return buttons.length > 0 && html`<div class="actions">${buttons}</div>`;
}

type Button = (look: "first" | "second") => HtmlValue;

/** The first button that exists is the primary action. */
export function firstIsPrimary(buttons: readonly Button[]): readonly HtmlValue[] {
  const shown = buttons.filter((button) => isShown(button("second")));
  return shown.map((button, index) => button(index === 0 ? "first" : "second"));
}

function isShown(value: HtmlValue): boolean {
  return value !== false && value !== null && value !== undefined;
}

export function signInErrorPage(page: Fields<SignInErrorPage>, context: PageContext): PageFrame {
  const { text, look } = context;
  const { provider = null } = page;
  const wordsWith = (isolate: <T extends string | null>(value: T) => T): ConditionWords =>
    text.conditions[page.condition]({
      app: null,
      support: isolate(look.support?.label ?? null),
      provider: isolate(provider),
    });
  const shown = wordsWith(isolateValue);
  const retry =
    page.condition === "suspended"
      ? text.pages.switchAccount
      : page.condition === "behind" || page.status >= 500
        ? text.pages.tryAgain
        : text.pages.signInAgain;
  const buttons = firstIsPrimary([
    (button) => linkButton(page.retryUrl, retry, button),
    (button) => linkButton(page.appsUrl, page.status === 404 ? text.pages.goToApps : text.pages.myApps, button),
  ]);
  return {
    page: "sign-in-error",
    title: `${wordsWith((value) => value).title} (${page.status})`,
    aside: html`<span data-status="${page.status}">${page.status}</span>`,
    body: html`${firstParagraph(context)}<h1>${shown.title}</h1>
<p>${shown.text}</p>
${page.providerSays && html`<p class="muted">${text.pages.providerSays(isolateValue(provider))} <q>${isolateText(page.providerSays)}</q></p>`}
<p>${supportLink(context, text.pages.needHelp)}</p>
${buttons.length > 0 && html`<div class="actions">${buttons}</div>`}
<div class="facts">${definitionList([
      [text.pages.requestId, copyElement(page.requestId, text, "request-id")],
      [text.pages.time, timeElement(page.at)],
    ])}</div>
<details><summary>${text.pages.details}</summary>${definitionList([[text.pages.cause, page.description]])}</details>`,
  };
}
