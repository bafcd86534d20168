/** Access request page: a person asks for a route, waits, and sees what was decided. Works without scripts. Pure. */
import type { AccessRequestPage } from "../../auth/index.ts";
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

type Fields = Omit<AccessRequestPage, "type">;

const css = `
.ask label, .ask legend { display: block; font-weight: 600; margin-bottom: .375rem; padding: 0; } .ask fieldset { border: 0; padding: 0; margin: 1.25rem 0; min-width: 0; }
.ask textarea { display: block; width: 100%; min-height: 5.5rem; padding: .625rem .75rem; border: 1px solid var(--field); border-radius: 6px; background: var(--card); color: inherit; font: inherit; resize: vertical; }
.ask textarea:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; } .ask small { display: block; margin-top: .25rem; color: var(--muted); font-size: .875rem; }
.ask .choices { display: flex; flex-wrap: wrap; gap: .5rem; } .ask .choices label { display: inline-flex; align-items: center; gap: .5rem; min-height: 2.75rem; margin: 0; padding: .5rem .875rem; border: 1px solid var(--field); border-radius: 6px; font-weight: 400; }
.ask .choices input { width: 1.125rem; height: 1.125rem; margin: 0; accent-color: var(--accent); } .ask .choices label:has(:checked) { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
.box { margin: 1.25rem 0; padding: .75rem .875rem; border: 1px solid var(--line); border-radius: 10px; background: var(--soft); overflow-wrap: anywhere; } .box p { margin: 0; } .box p + p { margin-top: .375rem; }
.box[data-kind=problem] { border-color: var(--bad); }
`;

export function accessRequestPage(page: Fields, context: PageContext): PageFrame {
  const { text, look } = context;
  const { app } = page;
  const isWaiting = page.request?.status === "pending" && !page.isPermitted;
  const script = look.assets.access ?? null;
  return {
    page: "access-request",
    title: titleOf(page, context),
    css,
    forms: [page.action],
    ...(isWaiting ? { asks: [page.pollPath], scripts: script === null ? [] : [script] } : {}),
    body: html`<h1>${titleOf({ ...page, app: isolateValue(app) }, context)}</h1>
${page.problem !== null && html`<div class="box" data-kind="problem" role="alert"><p>${text.access.problems[page.problem]}</p></div>`}
${page.isPermitted ? openPart(page, context) : isWaiting ? waitingPart(page, context) : askPart(page, context)}`,
  };
}

function titleOf({ app, approvers, owner, request, isPermitted }: Fields, { text: { access } }: PageContext): string {
  if (isPermitted) return access.openedTitle(app);
  return request?.status === "pending"
    ? access.waitingTitle(approvers.map(isolateValue), isolateValue(owner))
    : access.title(app);
}

function openPart({ app, request, openUrl, user }: Fields, { text }: PageContext): Html {
  const { access } = text;
  const until = request?.status === "approved" ? request.until : null;
  return html`<p>${until === null ? access.openedOther : access.opened}</p>
${userBox(user, text.pages.signedInAs)}
<div class="actions">${linkButton(openUrl, access.open(isolateValue(app)), "first")}${linkButton("/.pomerium/routes", text.pages.myApps, "second")}</div>
${until !== null && html`<div class="facts">${definitionList([[access.until, timeElement(until)]])}</div>`}`;
}

function waitingPart(page: Fields, { text }: PageContext): Html {
  const { access } = text;
  const { request, user, app, withdraw } = page;
  return html`<p role="status" data-poll="${page.pollPath}?route=${encodeURIComponent(page.routeId)}" data-open="${safeUrl(page.openUrl)}" data-check="${safeUrl(page.checkUrl)}">${access.waiting(isolateValue(app))}</p>
${userBox(user, text.pages.signedInAs)}
${withdraw !== null && html`<form method="post" action="${page.action}">${hidden(withdraw)}<div class="actions">${linkButton(page.checkUrl, access.check, "first")}<button type="submit">${access.withdraw}</button></div></form>`}
${
  request !== null &&
  html`<div class="facts">${definitionList([
    [access.requested, timeElement(request.requestedAt)],
    [access.asked, access.duration(request.durationMs)],
    [access.yourReason, request.reason !== null && isolateText(request.reason)],
    [access.lapses, timeElement(request.expiresAt)],
  ])}</div>`
}`;
}

function askPart(page: Fields, context: PageContext): Html {
  const { text } = context;
  const { access } = text;
  const { form, user } = page;
  return html`<p>${access.lead}</p>
${lastPart(page, context)}
${userBox(user, text.pages.signedInAs)}
${
  form !== null &&
  html`<form class="ask" method="post" action="${page.action}">${hidden(form.fields)}<fieldset><legend>${access.length}</legend><div class="choices">${form.durations.map(
    (ms, index) =>
      html`<label><input type="radio" name="duration" value="${ms}" required${index === 0 && html` checked`}>${access.duration(ms)}</label>`,
  )}</div></fieldset>
<label for="reason">${form.isReasonRequired ? access.reason : access.reasonOptional}</label><textarea id="reason" name="reason" maxlength="${form.reasonMax}" aria-describedby="reason-hint"${form.isReasonRequired && html` required`}>${form.reason}</textarea><small id="reason-hint">${access.reasonHint}</small>
<div class="actions"><button class="first" type="submit">${page.request === null ? access.send : access.again}</button>${linkButton("/.pomerium/routes", text.pages.myApps, "second")}</div></form>`
}`;
}

/** What became of the last request. */
function lastPart({ request, app }: Fields, { text: { access } }: PageContext): HtmlValue {
  if (request === null || request.status === "pending") return null;
  const { status, note } = request;
  const sentence = status === "approved" ? access.approvedShut(isolateValue(app)) : access.over[status];
  return html`<div class="box" data-part="last" data-status="${status}"><p>${sentence}</p>${note !== null && html`<p>${access.note(isolateValue(note))}</p>`}</div>`;
}

function hidden(fields: Readonly<Record<string, string>>): Html {
  return html`${Object.entries(fields).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)}`;
}
