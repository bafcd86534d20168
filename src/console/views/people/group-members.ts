/** Group members: the table on a group's page. Pure. */
import type { z } from "zod";
import type { listAnswers } from "../../api/lists/list-schemas.ts";
import { type HtmlValue, html } from "../../pages/html.ts";
import { isolateText } from "../../pages/layout.ts";
import { filterBar } from "../components/filter-bar.ts";
import { contentOf, emptyState, noneMatch } from "../components/states.ts";
import { csvPath, dataTable, type TableRow } from "../components/table.ts";
import { personPath, timeValue } from "../components/values.ts";
import type { ViewContext } from "../view.ts";
import { allowAgain, removeMembers } from "./group-acts.ts";
import { apiSegment, pageRows, shortenName } from "./people-parts.ts";

type Member = z.infer<typeof listAnswers.groupMembers>["members"][number];
type NamedGroup = Readonly<{ id: string; name: string }>;

const statuses = ["all", "member", "excluded"] as const;

export async function membersOf(group: NamedGroup, context: ViewContext): Promise<HtmlValue> {
  const { query, words, call } = context;
  const said = words.people.group;
  if (!query.has("sort")) query.set("sort", "name");
  const status = statuses.find((each) => each === query.get("status")) ?? "all";
  const q = query.get("q") ?? "";
  const asked = { q: q || undefined, status, sort: query.get("sort") ?? undefined };
  const answer = await call("GET /groups/:group/members", {
    params: { group: group.id },
    query: { ...asked, after: query.get("after") ?? undefined, limit: pageRows },
  });
  const filters = filterBar(
    {
      fields: [
        { name: "q", label: words.people.people.search, main: true },
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
  const table = contentOf(answer, context, ({ members, next }) =>
    dataTable(
      {
        id: "members",
        caption: said.caption,
        columns: [
          { key: "member", label: said.member, sort: "name" },
          { key: "source", label: said.source },
          { key: "since", label: said.since, wide: true },
          { key: "by", label: said.by, wide: true },
          { key: "until", label: said.until },
        ],
        rows: members.map((member) => rowOf(group, member, context)),
        next,
        csv: csvPath(`/groups/${apiSegment(group.id)}/members`, asked),
        selection: removeMembers(group, context) ?? undefined,
        empty: q !== "" || status !== "all" ? noneMatch(context) : emptyState(said.empty),
      },
      context,
    ),
  );
  return html`${filters}${table}`;
}

function rowOf(group: NamedGroup, member: Member, context: ViewContext): TableRow {
  const { words } = context;
  const said = words.people.group;
  const name = shortenName(member.name || member.email || member.userId.slice(0, 8));
  const known: Readonly<Record<string, string>> = said.sources;
  const sources = member.sources.map((source) => known[source] ?? source).join(", ");
  const state = member.excluded && !member.member ? said.excluded : member.member ? "" : said.ended;
  return {
    id: member.userId,
    href: personPath(member.userId, context.reader),
    cells: [
      html`${isolateText(name)}${member.email !== "" && member.email !== name && html` <small class="muted">${isolateText(shortenName(member.email))}</small>`}`,
      html`${sources}${state !== "" && html` <span class="muted">${state}</span>`}`,
      timeValue(member.since, context, { style: "relative" }),
      member.by === null
        ? html`<span class="muted">${words.frame.unknown}</span>`
        : isolateText(shortenName(member.byName ?? member.by)),
      html`${member.grant !== null && timeValue(member.grant.until, context, { style: "relative" })}${
        member.excluded && !member.member && allowAgain(group, { userId: member.userId, name }, context)
      }`,
    ],
    ...(member.member ? { select: { label: name } } : {}),
  };
}
