/** Person: who they are, what they can reach, where they are signed in, and what happened. Pure. */
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { errorState } from "../components/states.ts";
import { actionLink, consolePath, copyableId, formatCount, groupChip, timeValue } from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";
import { changeScripts, type ListedUser, nameOfUser, peopleStyles, shellWord, shortenName } from "./people-parts.ts";
import { userStatus } from "./people-view.ts";
import { personActs } from "./person-acts.ts";
import { accessTab, decisionsTab, historyTab, sessionsTab } from "./person-tabs.ts";

const tabs = ["overview", "access", "sessions", "decisions", "history"] as const;
type Tab = (typeof tabs)[number];

const shared = {
  menu: null,
  within: "people",
  role: "viewer",
  scripts: changeScripts,
  styles: peopleStyles,
  render,
} as const;
export const personView: View = { ...shared, id: "person", path: "/people/:id" };
export const personTabView: View = { ...shared, id: "person-tab", path: "/people/:id/:tab" };

async function render(context: ViewContext): Promise<ViewPage> {
  const { params, words, call } = context;
  const said = words.people.person;
  const id = params["id"] ?? "";
  const tab = tabs.find((each) => each === (params["tab"] ?? "overview"));
  const command = `cardea users show ${shellWord(id)}`;
  const answer = await call("GET /users/:user", { params: { user: id } });
  const found = answer.type === "answered" ? answer.body.users : [];
  const user = found.find((each) => each.id === id);
  if (answer.type === "failed" && answer.status !== 404)
    return {
      title: words.people.people.title,
      lead: words.frame.failed,
      content: errorState(answer, context),
      command,
    };
  if (user === undefined || tab === undefined)
    return {
      status: 404,
      title: words.refusal.notFound,
      lead: said.missing,
      content: actionLink(`${consolePath}/people`, words.people.people.title),
      command,
    };
  return {
    title: nameOfUser(user, words),
    lead: leadOf(user, context),
    actions: personActs(user, context),
    content: html`${tabsOf(user, tab, context)}${await contentOfTab(tab, user, context)}`,
    command: commandOf(tab, user),
  };
}

function commandOf(tab: Tab, { id }: ListedUser): string {
  const name = shellWord(id);
  const commands: Readonly<Record<Tab, string>> = {
    overview: `cardea users show ${name}`,
    access: `cardea access what --user ${name}`,
    sessions: `cardea sessions list --user ${name} --status all`,
    decisions: `cardea audit tail --user ${name} --last 50`,
    history: `cardea changes --subject user:${name}`,
  };
  return commands[tab];
}

function leadOf(user: ListedUser, context: ViewContext): Html {
  const { words } = context;
  const { lead } = words.people.person;
  const until = user.suspension?.until;
  const sentence =
    user.status === "erased"
      ? lead.erased
      : user.status !== "suspended"
        ? lead.active(formatCount(user.sessions, context))
        : until === undefined
          ? lead.suspended
          : lead.suspendedUntil(until);
  return html`${userStatus(user, words)} ${sentence}`;
}

function tabsOf(user: ListedUser, current: Tab, { words }: ViewContext): Html {
  const said = words.people.person.tabs;
  const base = `${consolePath}/people/${encodeURIComponent(user.id)}`;
  return html`<nav class="tabs" aria-label="${nameOfUser(user, words)}"><ul>${tabs.map(
    (tab) =>
      html`<li><a href="${tab === "overview" ? base : `${base}/${tab}`}"${tab === current && html` aria-current="page"`}>${said[tab]}</a></li>`,
  )}</ul></nav>`;
}

async function contentOfTab(tab: Tab, user: ListedUser, context: ViewContext): Promise<HtmlValue> {
  switch (tab) {
    case "overview":
      return overviewOf(user, context);
    case "access":
      return accessTab(user, context);
    case "sessions":
      return sessionsTab(user, context);
    case "decisions":
      return decisionsTab(user, context);
    case "history":
      return historyTab(user, context);
  }
}

function overviewOf(user: ListedUser, context: ViewContext): Html {
  const { words } = context;
  const said = words.people.person;
  const seen = user.lastSession?.lastSeenAt;
  const email =
    user.email === ""
      ? html`<span class="muted">${words.frame.unknown}</span>`
      : html`${isolateText(shortenName(user.email))} <span class="muted">${user.emailVerified ? said.verified : said.unverified}</span>`;
  return html`<dl class="facts"><dt>${said.id}</dt><dd>${copyableId(user.id, context)}</dd><dt>${said.email}</dt><dd>${email}</dd><dt>${said.subject}</dt><dd>${isolateText(shortenName(user.subject || words.frame.unknown))}</dd>${
    seen !== undefined &&
    seen !== null &&
    html`<dt>${words.people.people.lastSeen}</dt><dd>${timeValue(seen, context, { style: "absolute" })}</dd>`
  }${user.suspension !== null && html`<dt>${said.suspension}</dt><dd>${timeValue(user.suspension.until, context, { style: "absolute" })} <span class="muted">${isolateText(user.suspension.reason)}</span></dd>`}</dl><h2>${said.groups}</h2>${groupsOf(user, context)}${providersOf(user, context)}`;
}

function groupsOf(user: ListedUser, context: ViewContext): HtmlValue {
  const said = context.words.people.person;
  if (user.groups.length === 0) return html`<p class="muted">${said.noGroups}</p>`;
  const ends = new Map(user.grants.map(({ group, until }) => [group, until]));
  return html`<ul class="plain">${user.groups.map((group) => {
    const until = ends.get(group);
    return html`<li>${groupChip({ id: group })}${
      until !== undefined && html` <span class="muted">${timeValue(until, context, { style: "relative" })}</span>`
    }</li>`;
  })}</ul>`;
}

function providersOf(user: ListedUser, context: ViewContext): HtmlValue {
  const { words } = context;
  const said = words.people.person;
  if (user.providers.length === 0) return null;
  return html`<h2>${said.providers}</h2><ul class="plain">${user.providers.map(
    ({ name, idpId, confirmedAt, dueBy }) =>
      html`<li>${isolateText(name ?? idpId)} <span class="muted">${said.confirmed} ${timeValue(confirmedAt, context, { style: "relative" })}${
        dueBy !== null && html` · ${said.nextBy} ${timeValue(dueBy, context, { style: "relative" })}`
      }</span></li>`,
  )}</ul>`;
}
