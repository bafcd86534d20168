/**
 * Why: one decision with the rule, the facts and the events that set them, and what would be decided now. The address
 * has the id of a record, or a request id as the page of a refusal shows it.
 */
import type { ExplainAnswer } from "../../api/past/explain-route.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { isolateText, isolateValue } from "../../pages/layout.ts";
import { actButton, actScripts } from "../components/act.ts";
import { emptyState, errorState } from "../components/states.ts";
import {
  actionLink,
  consolePath,
  copyableId,
  formatCount,
  groupChip,
  nodeChip,
  personChip,
  routeChip,
  statusPill,
  timeValue,
} from "../components/values.ts";
import type { View, ViewContext, ViewPage } from "../view.ts";
import { shellWord } from "./decisions-view.ts";
import { reasonText, resultKind, resultWord } from "./record-parts.ts";

export const decisionView: View = {
  id: "decision",
  path: "/decisions/:id",
  menu: null,
  within: "decisions",
  role: "viewer",
  scoped: true,
  scripts: actScripts,
  styles: ["record.css"],
  render,
};

const idCharsMax = 200;

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, params, query } = context;
  const { why, decisions } = words.record;
  // The form of the list sends the id as a parameter, so that no script is needed.
  const id = (params["id"] === "by-id" ? (query.get("id") ?? "") : (params["id"] ?? "")).trim().slice(0, idCharsMax);
  const command = `cardea audit explain ${shellWord(id)}`;
  const answer = await context.call("POST /explain", { body: { id } });
  if (answer.type === "failed") {
    const isMissing = answer.status === 404 || answer.status === 400;
    const back = { href: `${consolePath}/decisions`, label: decisions.title };
    return {
      status: isMissing ? 404 : 503,
      title: isMissing ? why.missing : why.title,
      lead: isMissing ? isolateText(id) : words.frame.failed,
      content: isMissing ? emptyState(answer.error, back) : errorState(answer, context),
      command,
    };
  }
  const explained = answer.body as unknown as ExplainAnswer;
  const { record } = explained;
  const isSuspect = explained.broken.length > 0 || explained.again.type === "different";
  return {
    title: `${why.title} ${record.requestId.slice(0, 8)}`,
    lead: isSuspect ? html`<strong class="problem-line">${why.broken}</strong>` : sentenceOf(explained, context),
    actions: actionsOf(explained, context),
    content: html`${brokenOf(explained, context)}${nowOf(explained, context)}${factsOf(explained, context)}${ruleOf(explained, context)}${requestOf(explained, context)}${againOf(explained, context)}`,
    command,
  };
}

function personOf({ record, names }: ExplainAnswer, { words }: ViewContext): string {
  if (record.userId === null) return words.record.why.anonymous;
  return names[record.userId] ?? words.frame.erased(String(record.userId).slice(0, 4));
}

/** "Denied: Bob Baker is in no group that has access." */
function sentenceOf(explained: ExplainAnswer, context: ViewContext): HtmlValue {
  const { why, decisions } = context.words.record;
  const { record } = explained;
  const result = resultWord(record.result, decisions);
  const rule = record.trace?.rule ?? record.rule ?? null;
  const person = personOf(explained, context);
  const because =
    record.result === "permit"
      ? rule === null
        ? ""
        : why.permitBecause(rule)
      : reasonText(record.reasons, person, decisions) || why.noRule;
  const pill = statusPill(
    resultKind(record.result),
    because === "" ? why.leadAlone(result) : why.lead(result, because),
  );
  const deciding = explained.facts.findLast(({ member, event }) => member === false && event !== null)?.event;
  return html`<span data-part="why">${pill}${
    deciding !== undefined &&
    deciding !== null &&
    html` <span class="muted">${eventSentence(deciding, explained, context)}</span>`
  }</span>`;
}

type FactEvent = NonNullable<ExplainAnswer["facts"][number]["event"]>;

function eventSentence(event: FactEvent, { names }: ExplainAnswer, context: ViewContext): Html {
  return html`${actorName(event.actor, names, context)}: ${isolateText(event.says)}, ${timeValue(event.at, context, { style: "absolute" })}`;
}

function actorName(actor: string, names: ExplainAnswer["names"], { words }: ViewContext): HtmlValue {
  const [, kind = "", id = ""] = /^([^:]*):(.*)$/s.exec(actor) ?? [];
  if (kind === "service" && id.includes("/")) return isolateText(id);
  if (kind !== "user" && kind !== "operator") return words.record.why.product;
  const token = id.lastIndexOf("#");
  if (token >= 0) return isolateText(id.slice(0, token));
  return isolateText(names[id] ?? words.frame.erased(id.slice(0, 4)));
}

function actionsOf({ record, route }: ExplainAnswer, context: ViewContext): HtmlValue {
  const { toLab, toSession, revoke, revokeText } = context.words.record.why;
  const lab = new URLSearchParams({ base: record.configHash, ...(route === null ? {} : { route: route.id }) });
  const { sessionId } = record;
  const path = `/sessions/${encodeURIComponent(sessionId ?? "")}/revoke`;
  const act = {
    title: revoke,
    text: revokeText,
    verb: revoke,
    look: "bad",
    path,
    body: {},
    preview: { type: "revokeSessions", sessionIds: [sessionId] },
  } as const;
  return html`${route !== null && actionLink(`${consolePath}/lab?${lab}`, toLab)}${
    typeof sessionId === "string" && actButton(act, toSession, context, { role: "operator", primary: true })
  }`;
}

function brokenOf({ broken }: ExplainAnswer, _context: ViewContext): HtmlValue {
  return (
    broken.length > 0 &&
    html`<div class="problem" role="alert"><ul>${broken.map((each) => html`<li>${each}</li>`)}</ul></div>`
  );
}

function nowOf({ now, names, record }: ExplainAnswer, context: ViewContext): Html {
  const { why, decisions } = context.words.record;
  if (now.type === "open")
    return html`<section aria-labelledby="now"><h2 id="now">${why.now}</h2><p class="muted">${why.nowOpen(now.why)}</p></section>`;
  const person = record.userId === null ? why.anonymous : (names[record.userId] ?? "");
  const because = now.result === "permit" ? "" : reasonText(now.reasons, person, decisions);
  const word = resultWord(now.result, decisions).toLowerCase();
  return html`<section aria-labelledby="now"><h2 id="now">${why.now}</h2><p data-part="now">${statusPill(resultKind(now.result), why.nowDecided(word))} ${because !== "" && html`<span class="muted">${isolateText(because)}</span>`}</p></section>`;
}

function factsOf({ facts, names }: ExplainAnswer, context: ViewContext): HtmlValue {
  const { why } = context.words.record;
  if (facts.length === 0) return null;
  return html`<section aria-labelledby="facts"><h2 id="facts">${why.facts}</h2><div class="table-box"><table><thead><tr><th scope="col">${why.fact}</th><th scope="col">${why.event}</th><th scope="col">${why.whoDid}</th><th scope="col" class="wide">${why.when}</th><th scope="col" class="end wide">${why.factPosition}</th></tr></thead><tbody>${facts.map(
    ({ fact, member, event, position, exact }) => {
      const state =
        member === undefined ? null : html` <span class="muted">${member ? why.member : why.notMember}</span>`;
      const name = html`${factName(fact, names, context)}${state}`;
      if (event === null)
        return html`<tr><td>${name}</td><td class="muted">${position === 0 ? why.noEvent : why.unknownEvent}</td><td></td><td class="wide"></td><td class="end wide">${position !== null && position > 0 && `${exact ? "" : "≤ "}${formatCount(position, context)}`}</td></tr>`;
      return html`<tr><td>${name}</td><td>${isolateText(event.says)}</td><td>${actorName(event.actor, names, context)}</td><td class="wide">${timeValue(event.at, context, { style: "absolute" })}</td><td class="end wide"><a href="${consolePath}/changes/${event.position}">${formatCount(event.position, context)}</a></td></tr>`;
    },
  )}</tbody></table></div></section>`;
}

/** A fact by the name that people know it by. */
function factName(fact: string, names: ExplainAnswer["names"], context: ViewContext): HtmlValue {
  const [, kind = "", id = ""] = /^([^:]*):(.*)$/s.exec(fact) ?? [];
  if (kind === "user") return personChip({ id, name: names[id] ?? null, erased: names[id] === undefined }, context);
  if (kind === "group") return groupChip({ id });
  if (kind === "session") return html`${context.words.record.why.session} <code title="${id}">${id.slice(0, 8)}</code>`;
  return html`<code title="${fact}">${fact.length > 60 ? `${fact.slice(0, 57)}…` : fact}</code>`;
}

function ruleOf({ route, record }: ExplainAnswer, context: ViewContext): HtmlValue {
  const { why } = context.words.record;
  const rule = record.trace?.rule ?? record.rule ?? null;
  const head = html`<h2 id="rule">${why.rule}${rule !== null && html` <code>${rule}</code>`}</h2>`;
  if (route === null) return html`<section aria-labelledby="rule">${head}<p class="muted">${why.noText}</p></section>`;
  const { text, firstLine, line, lines } = route.policy;
  const name = isolateValue(route.name || route.id);
  const caption =
    line === null ? why.policyOf(name) : why.ruleIn(name, formatCount(line, context), formatCount(lines, context));
  return html`<section aria-labelledby="rule">${head}<p class="muted">${caption}</p><pre class="policy" tabindex="0" role="group" aria-label="${caption}">${text
    .split("\n")
    .map((each, index) => {
      const number = firstLine + index;
      const content = html`<span class="number" aria-hidden="true">${number}</span>${each}
`;
      return number === line ? html`<mark>${content}</mark>` : html`<span>${content}</span>`;
    })}</pre>${rulesOf(record, context)}</section>`;
}

/** Each rule that was asked, with the criteria that were met and unmet. */
function rulesOf({ trace }: ExplainAnswer["record"], { words }: ViewContext): HtmlValue {
  const { ruleMet, ruleUnmet } = words.record.why;
  const rules = trace?.rules ?? [];
  return (
    rules.length > 0 &&
    html`<ul class="rules">${rules.map(({ rule, met, criteriaMet, criteriaUnmet }) => {
      const criteria = (met ? criteriaMet : criteriaUnmet).join(", ");
      return html`<li><code>${rule}</code> ${met ? ruleMet(criteria) : ruleUnmet(criteria)}</li>`;
    })}</ul>`
  );
}

function requestOf({ record, names, others, open }: ExplainAnswer, context: ViewContext): Html {
  const { why, decisions } = context.words.record;
  const row = (label: string, value: HtmlValue): Html => html`<dt>${label}</dt><dd>${value}</dd>`;
  const person =
    record.userId === null
      ? html`<span class="muted">${decisions.noPerson}</span>`
      : personChip(
          { id: record.userId, name: names[record.userId] ?? null, erased: names[record.userId] === undefined },
          context,
        );
  return html`<section aria-labelledby="request"><h2 id="request">${why.request}</h2><dl>${row(why.time, timeValue(record.at, context, { style: "absolute" }))}${row(why.address, html`<code class="request">${record.method} ${isolateText(`${record.host}${record.path}`)}</code>`)}${row(why.status, `${record.status}`)}${row(why.person, person)}${
    record.routeId !== null && row(why.route, routeChip({ id: record.routeId, name: record.routeName ?? null }))
  }${record.sessionId !== null && row(why.session, copyableId(record.sessionId, context, record.sessionId.slice(0, 8)))}${row(why.node, nodeChip(record.node))}${row(why.from, isolateText(record.ip))}${
    record.userAgent !== undefined && row(why.agent, isolateText(record.userAgent))
  }${row(why.requestId, copyableId(record.requestId, context))}${row(
    why.configuration,
    html`<a href="${consolePath}/configurations/${encodeURIComponent(record.configHash)}"><code>${record.configHash.slice(0, 12)}</code></a>`,
  )}${row(why.position, formatCount(record.applied.position, context))}</dl>${
    others.length > 0 &&
    html`<h3>${why.others}</h3><ul>${others.slice(0, 20).map((id) => html`<li><a href="${consolePath}/decisions/${encodeURIComponent(id)}"><code>${id}</code></a></li>`)}</ul>`
  }${open.length > 0 && html`<h3>${why.open}</h3><ul>${open.map((each) => html`<li>${each}</li>`)}</ul>`}</section>`;
}

function againOf({ again }: ExplainAnswer, context: ViewContext): Html {
  const { why } = context.words.record;
  const head = html`<h2 id="again">${why.again}</h2>`;
  if (again.type === "open" || again.type === "unknown")
    return html`<section aria-labelledby="again">${head}<p class="muted">${why.againOpen(again.why)}</p></section>`;
  if (again.type === "same")
    return html`<section aria-labelledby="again">${head}<p>${statusPill("good", again.uncompared.length === 0 ? why.againSame : why.againPart)}</p></section>`;
  return html`<section aria-labelledby="again">${head}<div class="problem" role="alert"><p>${why.againDifferent}</p><ul>${again.differences.map(
    ({ field, recorded, derived }) => html`<li>${why.differs(field, recorded, derived)}</li>`,
  )}</ul></div></section>`;
}
