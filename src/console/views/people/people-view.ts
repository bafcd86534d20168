/** People: who is known here, as a list. Pure. */
import { html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { filterBar } from "../components/filter-bar.ts";
import { emptyState, errorState, noneMatch } from "../components/states.ts";
import { csvPath, dataTable, type TableRow } from "../components/table.ts";
import { consolePath, formatCount, statusPill, timeValue } from "../components/values.ts";
import type { ConsoleText, View, ViewContext, ViewPage } from "../view.ts";
import { type ListedUser, nameOfUser, pageRows, shellWord, shortenName } from "./people-parts.ts";

export const peopleView: View = {
  id: "people",
  path: "/people",
  menu: { group: "who", label: ({ people }) => people.people.title, key: "p" },
  role: "viewer",
  render,
};

const statuses = ["all", "active", "suspended", "erased"] as const;
const kinds = { active: "good", suspended: "bad", erased: "off" } as const;
const groupsShown = 3;

async function render(context: ViewContext): Promise<ViewPage> {
  const { query, words, call } = context;
  const said = words.people.people;
  if (!query.has("sort")) query.set("sort", "name");
  const status = statuses.find((each) => each === query.get("status")) ?? "all";
  const [q, after] = [query.get("q") ?? "", query.get("after") ?? undefined];
  const asked = { q: q || undefined, status, sort: query.get("sort") ?? undefined };
  const answer = await call("GET /users", { query: { ...asked, after, limit: pageRows } });
  const search = q === "" ? "" : ` --search ${shellWord(q)}`;
  const command = `cardea users list${search}${status === "all" ? "" : ` --status ${status}`}`;
  const filters = filterBar(
    {
      fields: [
        { name: "q", label: said.search, main: true },
        {
          name: "status",
          label: said.status,
          value: status,
          choices: statuses.map((each) => [each, said.statuses[each]]),
        },
      ],
      kept: ["sort"],
    },
    context,
  );
  if (answer.type === "failed")
    return { title: said.title, lead: words.frame.failed, filters, content: errorState(answer, context), command };
  const { users, next, total } = answer.body;
  const content = dataTable(
    {
      id: "people",
      caption: said.caption,
      columns: [
        { key: "name", label: said.name, sort: "name" },
        { key: "email", label: said.email, sort: "email" },
        { key: "status", label: said.status },
        { key: "groups", label: said.groups, wide: true },
        { key: "sessions", label: said.sessions, align: "end", wide: true },
        { key: "seen", label: said.lastSeen, wide: true },
      ],
      rows: users.map((user) => rowOf(user, context)),
      next,
      csv: csvPath("/users", asked),
      empty: q !== "" || status !== "all" ? noneMatch(context) : emptyState(said.empty),
    },
    context,
  );
  return {
    title: said.title,
    lead: said.lead(formatCount(total.count, context), total.exact),
    filters,
    content,
    command,
  };
}

function rowOf(user: ListedUser, context: ViewContext): TableRow {
  const { words } = context;
  const said = words.people.people;
  const groups = user.groups.slice(0, groupsShown).map(shortenName).join(", ");
  const others = user.groups.length - groupsShown;
  return {
    id: user.id,
    href: `${consolePath}/people/${encodeURIComponent(user.id)}`,
    cells: [
      isolateText(nameOfUser(user, words)),
      isolateText(shortenName(user.email)),
      userStatus(user, words),
      html`${isolateText(groups)}${others > 0 && html` <span class="muted">${said.more(formatCount(others, context))}</span>`}`,
      formatCount(user.sessions, context),
      timeValue(user.lastSession?.lastSeenAt, context, { style: "relative", absent: "" }),
    ],
  };
}

export function userStatus({ status }: Pick<ListedUser, "status">, words: ConsoleText) {
  const known = status === "suspended" || status === "erased" ? status : "active";
  return statusPill(kinds[known], words.people.people.statuses[known]);
}
