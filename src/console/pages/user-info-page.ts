/** User info page: who the signed-in user is, the session, and what is known about the user; never a token. Pure. */
import type { UserInfoPage } from "../../auth/index.ts";
import type { Claims } from "../../events/index.ts";
import { type Html, type HtmlValue, html, safeUrl } from "./html.ts";
import { definitionList, isolateText, linkButton, renderLayout, timeElement, userBox } from "./layout.ts";

export function userInfoPage(page: Omit<UserInfoPage, "type">): string {
  return renderLayout({
    page: "user-info",
    title: page.user === null ? "Not signed in" : "You",
    width: "wide",
    body: page.user === null ? signedOutBody(page) : signedInBody(page),
  });
}

function signedOutBody(page: Omit<UserInfoPage, "type">): Html {
  return html`<h1>You are not signed in</h1>
<p>This proxy knows nothing about you.</p>
<div class="actions">${linkButton(page.signInUrl, "Sign in", "first")}</div>`;
}

function signedInBody(page: Omit<UserInfoPage, "type">): Html {
  const { user, session } = page;
  return html`<h1>You, as this proxy sees you</h1>
<p class="muted">The proxy and the applications behind it base their decisions on this information.</p>
${userBox(user, "You are signed in as")}
<div class="actions">${linkButton(page.signOutUrl, "Sign out", "first")}${linkButton(page.signInUrl, "Sign in with another account", "second")}</div>
<h2>Identity</h2>
${definitionList([
  ["Name", user !== null && user.name !== "" && isolateText(user.name)],
  [
    "E-mail",
    user !== null &&
      user.email !== "" &&
      html`${isolateText(user.email)} <span class="muted">${user.emailVerified ? "(verified)" : "(not verified)"}</span>`,
  ],
  ["Subject", user !== null && html`<code>${user.subject}</code>`],
  ["User ID", user !== null && html`<code>${user.userId}</code>`],
])}
<h2>Groups</h2>
${page.groups.length === 0 ? html`<p class="muted">None.</p>` : html`<p data-part="groups">${page.groups.map((group) => html`<span class="tag" title="${group.id}">${group.name === "" ? group.id : group.name}</span>`)}</p>`}
${
  session !== null &&
  html`<h2>Session</h2>
${definitionList([
  ["Session ID", html`<code>${session.sessionId}</code>`],
  ["Identity provider", html`<code>${session.idpId}</code>`],
  ["Signed in", timeElement(session.issuedAt)],
  [
    "Refreshed",
    session.refreshedAt !== null && session.refreshedAt !== session.issuedAt && timeElement(session.refreshedAt),
  ],
  [
    "Ends",
    html`${timeElement(session.expiresAt)} <span class="muted">${remaining(session.expiresAt - page.at)}</span>`,
  ],
])}`
}
${routesOf(page)}
${claimsOf(page.claims)}`;
}

function remaining(ms: number): string {
  if (!(ms > 0)) return "(expired)";
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return "(in less than a minute)";
  if (minutes < 120) return `(in ${minutes} min)`;
  const hours = Math.floor(minutes / 60);
  return hours < 72 ? `(in ${hours} h ${minutes % 60} min)` : `(in ${Math.floor(hours / 24)} days)`;
}

function routesOf(page: Omit<UserInfoPage, "type">): HtmlValue {
  const routes = (page.routes ?? []).flatMap((route) => {
    const href = safeUrl(route.url);
    return href === null
      ? []
      : [
          html`<li><a href="${href}">${route.name}</a>${route.description !== "" && html` <span class="muted">${route.description}</span>`}</li>`,
        ];
  });
  return routes.length > 0 && html`<h2>Applications you can open</h2><ul data-part="routes">${routes}</ul>`;
}

function claimsOf(claims: Claims | null): HtmlValue {
  const names = Object.keys(claims ?? {}).sort();
  return (
    names.length > 0 &&
    html`<details><summary>Claims from the identity provider (${names.length})</summary>${definitionList(
      names.map((name) => [name, html`<code>${(claims?.[name] ?? []).map(String).join(", ")}</code>`]),
    )}</details>`
  );
}
