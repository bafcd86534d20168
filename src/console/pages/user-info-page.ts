/** Account page: who the signed-in user is, the session, and what is known about the user; never a token. Pure. */
import type { AccountSession, UserInfoPage } from "../../auth/index.ts";
import type { Claims, UnixMs } from "../../events/index.ts";
import type { PageText } from "../text/texts.ts";
import { endedCss, endedPart } from "./ended-part.ts";
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

const css = `
.head { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; justify-content: space-between; }
.sessions { list-style: none; padding: 0; border: 1px solid var(--line); border-radius: 10px; margin-top: .5rem; }
.sessions li { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: 0; padding: .75rem .875rem; }
.sessions li + li { border-top: 1px solid var(--line); }
.sessions .text { flex: 1 1 14rem; min-width: 0; } .sessions b { font-weight: 600; }
.sessions small { display: block; color: var(--muted); font-size: .875rem; line-height: 1.4; }
.sessions i { font-style: normal; margin-inline-end: .375rem; color: var(--muted); } .sessions [data-current] i { color: var(--good); }
.who > .button { background: none; }
`;

export function userInfoPage(page: Fields, { text }: PageContext): PageFrame {
  return {
    page: "user-info",
    title: page.user === null ? text.account.notSignedIn : text.account.title,
    width: page.user === null ? "narrow" : "wide",
    css: css + endedCss,
    ...(page.sessions === undefined ? {} : { forms: [page.sessions.everywhereUrl, "/.pomerium/"] }),
    body: page.user === null ? signedOutBody(page, text) : signedInBody(page, text),
  };
}

function signedOutBody(page: Fields, { account, pages }: PageText): Html {
  return html`<h1>${account.notSignedIn}</h1>
<p>${account.notSignedInText}</p>
<div class="actions">${linkButton(page.signInUrl, pages.signIn, "first")}</div>`;
}

function signedInBody(page: Fields, text: PageText): Html {
  const { user, session, sessions } = page;
  const { account, pages } = text;
  return html`<h1>${account.title}</h1>
<p class="muted">${account.lead}</p>
${userBox(user, pages.signedInAs, html`${linkButton(page.signInUrl, pages.switchAccount, "second")}${linkButton(page.appsUrl, pages.myApps, "second")}`)}
${endedPart(page.ended, text, "/.pomerium/")}
${sessions === undefined ? ownSession(page, text) : sessionsOf(sessions, page, text)}
<h2>${account.groups}</h2>
${page.groups.length === 0 ? html`<p class="muted">${account.none}</p>` : html`<p data-part="groups">${page.groups.map((group) => html`<span class="tag" title="${group.id}">${group.name === "" ? group.id : group.name}</span>`)}</p>`}
${routesOf(page, text)}
<details><summary>${account.details}</summary>${definitionList([
    [account.name, user !== null && user.name !== "" && isolateText(user.name)],
    [
      account.email,
      user !== null &&
        user.email !== "" &&
        html`${isolateText(user.email)} <span class="muted">(${user.emailVerified ? account.verified : account.unverified})</span>`,
    ],
    [account.subject, user !== null && html`<code>${user.subject}</code>`],
    [account.userId, user !== null && html`<code>${user.userId}</code>`],
    [account.sessionId, session !== null && html`<code>${session.sessionId}</code>`],
    [account.provider, session !== null && html`<code>${session.idpId}</code>`],
    [
      session === null ? "" : account.refreshed(isolateValue(session.idpId)),
      session !== null &&
        session.refreshedAt !== null &&
        session.refreshedAt !== session.issuedAt &&
        timeElement(session.refreshedAt),
    ],
  ])}</details>
${claimsOf(page.claims, text)}
<div class="actions">${linkButton(page.signOutUrl, account.signOutHere, "second")}${
    sessions !== undefined && linkButton(sessions.everywhereUrl, account.signOutEverywhere, "second")
  }${linkButton(page.accountUrl, account.sessionsElsewhere, "second")}</div>`;
}

/** On a route's host: this session alone. */
function ownSession({ session, at }: Fields, text: PageText): HtmlValue {
  const { account } = text;
  return (
    session !== null &&
    html`<h2>${account.session}</h2>
${definitionList([
  [account.signedIn, timeElement(session.issuedAt)],
  [
    account.expires,
    html`${timeElement(session.expiresAt)} <span class="muted">(${remaining(session.expiresAt - at, text)})</span>`,
  ],
])}`
  );
}

function sessionsOf({ list, count, othersUrl }: NonNullable<Fields["sessions"]>, { at }: Fields, text: PageText): Html {
  const { account } = text;
  return html`<div class="head"><h2>${account.sessions(count)}</h2>${formButton(othersUrl, account.signOutOthers)}</div>
<ul class="sessions" data-part="sessions">${list.map((session, index) => sessionItem(session, { id: `s${index}`, at, text }))}</ul>
${count > list.length && html`<p class="muted small">${account.olderSessions(count - list.length)}</p>`}<p class="muted small">${account.sessionsNote}</p>`;
}

function sessionItem(
  session: AccountSession,
  { id, at, text }: Readonly<{ id: string; at: UnixMs; text: PageText }>,
): Html {
  const { account } = text;
  const name = session.isCurrent ? account.thisBrowser : session.isToken ? account.tokenSession : account.otherSession;
  return html`<li${session.isCurrent && html` data-current`}><div class="text" id="${id}"><b><i aria-hidden="true">${session.isCurrent ? "●" : "○"}</i>${name}</b>
<small>${account.signedInWith(isolateValue(session.provider))}: ${timeElement(session.issuedAt)}</small>
${session.seenAt !== null && html`<small>${account.lastUsed}: ${timeElement(session.seenAt)}</small>`}
<small>${account.expires}: ${timeElement(session.expiresAt)} · ${remaining(session.expiresAt - at, text)}</small></div>${formButton(session.signOutUrl, account.signOutOne, id)}</li>`;
}

/** A form of one button, whose URL is signed for this browser. */
function formButton(url: string | null, label: string, describedBy: string | null = null): HtmlValue {
  const action = safeUrl(url);
  return (
    action !== null &&
    html`<form method="post" action="${action}"><button type="submit"${describedBy !== null && html` aria-describedby="${describedBy}"`}>${label}</button></form>`
  );
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
