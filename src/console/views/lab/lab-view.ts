/**
 * Policy lab: a policy that is not in force, checked while it is written, tested by a table, and replayed on recorded
 * decisions. Pure. It never changes what is in force, and the draft stays in the reader's browser.
 */
import type { PolicyBase } from "../../api/lab/policy-base-route.ts";
import { type Html, type HtmlValue, html } from "../../pages/html.ts";
import { errorState } from "../components/states.ts";
import { commandLine, consolePath, wordsFor } from "../components/values.ts";
import { withBlanks } from "../frame.ts";
import { hasRole, type View, type ViewContext, type ViewPage } from "../view.ts";

export const labView: View = {
  id: "lab",
  path: "/lab",
  menu: { group: "access", label: ({ lab }) => lab.title, key: "l" },
  role: "viewer",
  scoped: true,
  scripts: ["lab.js"],
  styles: ["lab.css"],
  render,
};

const emptyPolicy = "allow:\n  and:\n    - authenticated_user: true\n";

async function render(context: ViewContext): Promise<ViewPage> {
  const { words, call, query } = context;
  const said = words.lab;
  const [base, route] = [query.get("base") ?? undefined, query.get("route") || undefined];
  const answer = await call("GET /policy/base", { query: { base, route } });
  const page = { title: said.title, command: null };
  const first =
    answer.type === "failed" && route !== undefined ? await call("GET /policy/base", { query: { base } }) : answer;
  if (first.type === "failed" && first.status === 503)
    return { ...page, lead: said.lead, content: errorState(first, context) };
  const body = (first.type === "answered" ? first.body : null) as PolicyBase | null;
  const chosen = body?.route ?? null;
  return {
    ...page,
    lead: chosen === null ? said.lead : said.leadRoute(chosen.name || chosen.id),
    filters: routeForm(body, context),
    content: html`${answer.type === "failed" && html`<p class="problem" role="alert">${answer.error}</p>`}${
      chosen !== null &&
      chosen.shorthands.length > 0 &&
      html`<p class="notice">${said.shorthands(chosen.shorthands.join(", "))}</p>`
    }${chosen === null && html`<p>${said.chooseText}</p>`}${labOf(body, context)}`,
  };
}

/** A field with suggestions: a configuration may have ten thousand routes. */
function routeForm(body: PolicyBase | null, { words, query, path }: ViewContext): Html {
  const said = words.lab;
  const base = query.get("base");
  const routes = body?.routes ?? [];
  return html`<form class="filters" method="get" action="${path}" role="search"><label><span>${said.choose}</span> <input type="search" name="route" value="${body?.route?.id ?? query.get("route") ?? ""}" list="routes" maxlength="2000" autocomplete="off" spellcheck="false" data-filter></label><datalist id="routes">${routes.map(
    ({ id, name, from }) => html`<option value="${id}">${name === "" ? from : `${name} · ${from}`}</option>`,
  )}</datalist>${base !== null && html`<input type="hidden" name="base" value="${base}">`}<button type="submit">${said.load}</button>${
    body !== null &&
    html`<a class="found" href="${consolePath}/configurations/${body.configHash}">${
      body.isOwn ? said.baseOwn(body.configHash.slice(0, 8)) : said.base(body.configHash.slice(0, 8))
    }</a>`
  }</form>`;
}

function labOf(body: PolicyBase | null, context: ViewContext): Html {
  const { words, reader } = context;
  const said = words.lab;
  const route = body?.route ?? null;
  const policy = route === null || route.policy === "" ? emptyPolicy : route.policy;
  const target = {
    base: body?.configHash ?? null,
    route: route?.id ?? null,
    mayReplay: hasRole(reader, "operator"),
  };
  return html`<div class="lab" id="lab" data-target="${JSON.stringify(target)}" data-words="${labWords(context)}"><p class="notice" data-part="no-scripts">${said.needsScripts}</p><section class="lab-editor" aria-labelledby="editor-title"><h2 id="editor-title">${said.editor}</h2>${editor("policy", policy, "editor-title")}<p class="muted" data-part="kept" hidden>${said.kept}</p><div class="actions" role="group" aria-label="${said.tools}" data-part="tools" hidden><button type="button" data-do="copy-yaml">${said.copyYaml}</button><button type="button" data-do="copy-shadow">${said.copyShadow}</button><button type="button" data-do="reset">${said.reset}</button></div></section><div class="lab-results"><section aria-labelledby="check-title"><h2 id="check-title">${said.check}</h2><div data-part="check" role="status"></div><ul class="problems" data-part="problems"></ul><div data-part="says"></div></section>${testsOf(context)}${whatIfOf(target, context)}</div></div>${commandsOf(route, context)}`;
}

function editor(id: string, value: string, title: string): Html {
  return html`<div class="editor"><pre class="gutter" aria-hidden="true" data-gutter="${id}">${value
    .split("\n")
    .map(
      (_, i) => `${i + 1}\n`,
    )}</pre><textarea id="${id}" name="${id}" aria-labelledby="${title}" rows="${Math.min(30, Math.max(8, value.split("\n").length + 1))}" wrap="off" spellcheck="false" autocapitalize="off" autocomplete="off" maxlength="131072">
${value}</textarea></div>`;
}

function testsOf({ words }: ViewContext): Html {
  const said = words.lab;
  const example =
    'people:\n  ann: { session: { id: s1, user_id: ann }, user: { email: ann@example.com }, groups: [eng] }\ncases:\n  - { name: Ann enters, as: ann, url: "/", expect: permit }\n  - { name: a visitor signs in, url: "/", expect: signin }\n';
  return html`<section aria-labelledby="tests-title"><details><summary><h2 id="tests-title">${said.tests}</h2></summary><p class="muted">${said.testsText}</p>${editor("cases", example, "tests-title")}<div class="actions"><button type="button" data-do="test" hidden>${said.runTests}</button></div><div data-part="tests" role="status"></div></details></section>`;
}

function whatIfOf(
  { route, mayReplay }: Readonly<{ route: string | null; mayReplay: boolean }>,
  { words }: ViewContext,
): Html {
  const said = words.lab;
  const controls: HtmlValue =
    route === null
      ? html`<p class="muted">${said.needsRoute}</p>`
      : mayReplay
        ? html`<form class="filters" data-part="replay-form" hidden><label><span>${said.time}</span> <select name="sinceMs">${Object.entries(
            said.times,
          ).map(
            ([ms, label]) => html`<option value="${ms}"${ms === "604800000" && html` selected`}>${label}</option>`,
          )}</select></label><label><span>${said.facts}</span> <select name="facts"><option value="then">${said.factsThen}</option><option value="now">${said.factsNow}</option></select></label><button class="first" data-primary>${said.run}</button></form>`
        : html`<p class="muted">${said.needsRole}</p>`;
  return html`<section aria-labelledby="what-if-title"><h2 id="what-if-title">${said.whatIf}</h2><p class="muted">${said.whatIfText}</p>${controls}<p data-part="progress" role="status"></p><div data-part="result"></div></section>`;
}

function commandsOf(route: PolicyBase["route"], context: ViewContext): Html {
  const id = route === null || !/^[\w.-]+$/.test(route.id) ? "ROUTE" : route.id;
  return html`${commandLine("cardea policy lint --policy policy.yaml", context)}${commandLine(
    `cardea policy replay --policy policy.yaml --route ${id} --since 7d --markdown`,
    context,
  )}`;
}

function labWords({ words }: ViewContext): string {
  const { times: _times, ...said } = words.lab;
  return wordsFor(withBlanks(said));
}
