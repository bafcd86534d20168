/** Acts on a group: the buttons of a group's page and of its members. Pure. */
import { type HtmlValue, html } from "../../pages/html.ts";
import { actButton } from "../components/act.ts";
import type { ViewContext } from "../view.ts";
import { apiSegment, shortenName } from "./people-parts.ts";

type NamedGroup = Readonly<{ id: string; name: string }>;
const hourMs = 3_600_000;

export function groupActs({ id, name }: NamedGroup, context: ViewContext): HtmlValue {
  const { acts, group } = context.words.people;
  const path = `/groups/${apiSegment(id)}`;
  const shown = shortenName(name || id);
  const add = actButton(
    {
      title: acts.add(shown),
      text: acts.addText,
      verb: acts.addVerb,
      look: "first",
      path: `${path}/members`,
      body: {},
      preview: { type: "changeGroupMembers", group: id },
      reason: "optional",
      fields: [
        { name: "add", label: acts.addNames, type: "list", required: true, previewed: true },
        {
          name: "forMs",
          label: acts.suspendFor,
          type: "number",
          choices: [
            ["", acts.untilRemoved],
            [String(hourMs), acts.hours("1")],
            [String(8 * hourMs), acts.hours("8")],
            [String(24 * hourMs), acts.days("1")],
            [String(7 * 24 * hourMs), acts.days("7")],
          ],
        },
      ],
    },
    group.add,
    context,
    { role: "operator" },
  );
  const remove = actButton(
    {
      title: acts.deleteGroup(shown),
      text: acts.deleteText,
      verb: acts.deleteGroup(shown),
      look: "bad",
      path: `${path}/remove`,
      body: {},
      preview: { type: "removeGroup", group: id },
    },
    group.deleteGroup,
    context,
    { role: "administrator" },
  );
  return html`${add}${remove}`;
}

/** The bar over selected members. */
export function removeMembers({ id }: NamedGroup, context: ViewContext): HtmlValue {
  const { acts, group } = context.words.people;
  return actButton(
    {
      title: acts.remove,
      text: acts.removeText,
      verb: acts.remove,
      look: "bad",
      path: `/groups/${apiSegment(id)}/members`,
      body: {},
      preview: { type: "changeGroupMembers", group: id },
      selection: { table: "members", field: "remove" },
    },
    group.remove,
    context,
    { role: "operator", primary: true },
  );
}

export function allowAgain(
  { id }: NamedGroup,
  person: Readonly<{ userId: string; name: string }>,
  context: ViewContext,
): HtmlValue {
  const { acts, group } = context.words.people;
  return actButton(
    {
      title: acts.allow(person.name),
      text: acts.allowText,
      verb: acts.allow(person.name),
      look: "first",
      path: `/groups/${apiSegment(id)}/members`,
      body: { add: [person.userId] },
      preview: { type: "changeGroupMembers", group: id, add: [person.userId] },
    },
    group.allow,
    context,
    { role: "operator" },
  );
}
