/** Groups: which there are; and one group: who is in it, why, and what it opens. Pure. */
import { type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { filterBar } from "../components/filter-bar.ts";
import { emptyState, errorState, noneMatch } from "../components/states.ts";
import { csvPath, dataTable } from "../components/table.ts";
import { actionLink, consolePath, formatCount, groupSegment } from "../components/values.ts";
import { isLimited, type View, type ViewContext, type ViewPage } from "../view.ts";
import { groupActs } from "./group-acts.ts";
import { membersOf } from "./group-members.ts";
import { changeScripts, pageRows, peopleStyles, shellWord, shortenName } from "./people-parts.ts";

export const groupsView: View = {
  id: "groups",
  path: "/groups",
  menu: { group: "who", label: ({ people }) => people.groups.title, key: "g" },
  role: "viewer",
  scoped: true,
  render,
};

export const groupView: View = {
  id: "group",
  path: "/groups/:id",
  menu: null,
  within: "groups",
  role: "viewer",
  scoped: true,
  scripts: changeScripts,
  styles: peopleStyles,
  render: renderOne,
};

async function render(context: ViewContext): Promise<ViewPage> {
  const { query, words, call } = context;
  const said = words.people.groups;
  if (!query.has("sort")) query.set("sort", "name");
  const q = query.get("q") ?? "";
  const asked = { q: q || undefined, sort: query.get("sort") ?? undefined };
  const answer = await call("GET /groups", {
    query: { ...asked, members: "count", after: query.get("after") ?? undefined, limit: pageRows },
  });
  const filters = filterBar({ fields: [{ name: "q", label: said.search, main: true }], kept: ["sort"] }, context);
  const command = `cardea groups list${q === "" ? "" : ` --search ${shellWord(q)}`}`;
  if (answer.type === "failed")
    return { title: said.title, lead: words.frame.failed, filters, content: errorState(answer, context), command };
  const { groups, next, total } = answer.body;
  const content = dataTable(
    {
      id: "groups",
      caption: said.caption,
      columns: [
        { key: "name", label: said.name, sort: "name" },
        { key: "members", label: said.members, align: "end" },
        { key: "excluded", label: said.excluded, align: "end" },
      ],
      rows: groups.map(({ id, name, memberCount, excludedCount }) => ({
        id,
        href: `${consolePath}/groups/${groupSegment(id)}`,
        cells: [
          html`${isolateText(shortenName(name || id))}${name !== "" && name !== id && html` <small class="muted">${isolateText(shortenName(id))}</small>`}`,
          formatCount(memberCount, context),
          excludedCount === 0 ? "" : formatCount(excludedCount, context),
        ],
      })),
      next,
      csv: csvPath("/groups", asked),
      empty: q !== "" ? noneMatch(context) : emptyState(said.empty),
    },
    context,
  );
  return { title: said.title, lead: said.lead(formatCount(total.count, context)), filters, content, command };
}

async function renderOne(context: ViewContext): Promise<ViewPage> {
  const { params, words, call } = context;
  const said = words.people.group;
  const id = params["id"] ?? "";
  const answer = await call("GET /groups/:group", { params: { group: groupName(id) }, query: { members: "count" } });
  const command = `cardea groups members ${shellWord(groupName(id))}`;
  if (answer.type === "failed") {
    const isMissing = answer.status === 404;
    return {
      ...(isMissing ? { status: 404 as const } : {}),
      title: isMissing ? words.refusal.notFound : words.people.groups.title,
      lead: isMissing ? said.missing : words.frame.failed,
      content: isMissing ? actionLink(`${consolePath}/groups`, words.people.groups.title) : errorState(answer, context),
      command,
    };
  }
  const { group } = answer.body;
  const count = (number: number): string => formatCount(number, context);
  const history = String(new URLSearchParams({ subject: `group:${group.id}` }));
  return {
    title: shortenName(group.name || group.id),
    lead: said.lead(count(group.memberCount), count(group.routes.length)),
    actions: groupActs(group, context),
    content: html`${await membersOf(group, context)}<h2>${said.routes}</h2>${routesOf(group.routes, context)}${!isLimited(context.reader) && html`<p>${actionLink(`${consolePath}/changes?${history}`, said.history)}</p>`}`,
    command,
  };
}

/** As `groupSegment` writes it. */
function groupName(segment: string): string {
  const encoded = /^base64url:([\w-]+)$/.exec(segment)?.[1];
  return encoded === undefined ? segment : Buffer.from(encoded, "base64url").toString("utf8");
}

function routesOf(routes: readonly string[], { words }: ViewContext): HtmlValue {
  const said = words.people.group;
  if (routes.length === 0) return html`<p class="muted">${said.noRoutes}</p>`;
  return html`<ul class="plain">${routes.map((route) => html`<li>${isolateText(route)}</li>`)}</ul>`;
}
