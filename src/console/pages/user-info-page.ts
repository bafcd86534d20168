/** Account page: who the signed-in user is, the session, and what is known about the user; never a token. Pure. */
import type { UserInfoPage } from "../../auth/index.ts";
import type { Claims } from "../../events/index.ts";
import type { PageText } from "../text/texts.ts";
import { firstIsPrimary } from "./error-page.ts";
import { type Html, type HtmlValue, html, safeUrl } from "./html.ts";
import {
  definitionList,
  isolateText,
  isolateValue,
  linkButton,
  type PageFrame,
  timeElement,
  userBox,
} from "./layout.ts";
import type { PageContext } from "./page-context.ts";

type Fields = Omit<UserInfoPage, "type">;

export function userInfoPage(page: Fields, { text }: PageContext): PageFrame {
  return {
    page: "user-info",
    title: page.user === null ? text.account.notSignedIn : text.account.title,
    width: page.user === null ? "narrow" : "wide",
    body: page.user === null ? signedOutBody(page, text) : signedInBody(page, text),
  };
}

function signedOutBody(page: Fields, { account, pages }: PageText): Html {
  return html`<h1>${account.notSignedIn}</h1>
<p>${account.notSignedInText}</p>
<div class="actions">${linkButton(page.signInUrl, pages.signIn, "first")}</div>`;
}

function signedInBody(page: Fields, text: PageText): Html {
  const { user, session } = page;
  const { account, pages } = text;
  const buttons = firstIsPrimary([
    (look) => linkButton(page.appsUrl, pages.myApps, look),
    (look) => linkButton(page.signInUrl, pages.switchAccount, look),
    (look) => linkButton(page.signOutUrl, pages.signOut, look),
  ]);
  return html`<h1>${account.title}</h1>
<p class="muted">${account.lead}</p>
${userBox(user, pages.signedInAs)}
<div class="actions">${buttons}</div>
<h2>${account.identity}</h2>
${definitionList([
  [account.name, user !== null && user.name !== "" && isolateText(user.name)],
  [
    account.email,
    user !== null &&
      user.email !== "" &&
      html`${isolateText(user.email)} <span class="muted">(${user.emailVerified ? account.verified : account.unverified})</span>`,
  ],
  [account.subject, user !== null && html`<code>${user.subject}</code>`],
  [account.userId, user !== null && html`<code>${user.userId}</code>`],
])}
<h2>${account.groups}</h2>
${page.groups.length === 0 ? html`<p class="muted">${account.none}</p>` : html`<p data-part="groups">${page.groups.map((group) => html`<span class="tag" title="${group.id}">${group.name === "" ? group.id : group.name}</span>`)}</p>`}
${
  session !== null &&
  html`<h2>${account.session}</h2>
${definitionList([
  [account.sessionId, html`<code>${session.sessionId}</code>`],
  [account.provider, html`<code>${session.idpId}</code>`],
  [account.signedIn, timeElement(session.issuedAt)],
  [
    account.refreshed(isolateValue(session.idpId)),
    session.refreshedAt !== null && session.refreshedAt !== session.issuedAt && timeElement(session.refreshedAt),
  ],
  [
    account.expires,
    html`${timeElement(session.expiresAt)} <span class="muted">(${remaining(session.expiresAt - page.at, text)})</span>`,
  ],
])}`
}
${routesOf(page, text)}
${claimsOf(page.claims, text)}`;
}

function remaining(ms: number, { account }: PageText): string {
  if (!(ms > 0)) return account.expired;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return account.withinMinute;
  if (minutes < 120) return account.inMinutes(minutes);
  const hours = Math.floor(minutes / 60);
  return hours < 72 ? account.inHours(hours, minutes % 60) : account.inDays(Math.floor(hours / 24));
}

function routesOf(page: Fields, { account }: PageText): HtmlValue {
  const routes = (page.routes ?? []).flatMap((route) => {
    const href = safeUrl(route.url);
    return href === null
      ? []
      : [
          html`<li><a href="${href}">${route.name}</a>${route.description !== "" && html` <span class="muted">${route.description}</span>`}</li>`,
        ];
  });
  return routes.length > 0 && html`<h2>${account.apps}</h2><ul data-part="routes">${routes}</ul>`;
}

function claimsOf(claims: Claims | null, { account }: PageText): HtmlValue {
  const names = Object.keys(claims ?? {}).sort();
  return (
    names.length > 0 &&
    html`<details><summary>${account.claims(names.length)}</summary>${definitionList(
      names.map((name) => [name, html`<code>${(claims?.[name] ?? []).map(String).join(", ")}</code>`]),
    )}</details>`
  );
}
