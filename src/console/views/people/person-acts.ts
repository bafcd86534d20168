/** Acts on a person: the buttons of a person's page. Pure. */
import { type HtmlValue, html } from "../../pages/html.ts";
import { actButton } from "../components/act.ts";
import type { ViewContext } from "../view.ts";
import { apiSegment, type ListedUser, nameOfUser } from "./people-parts.ts";

const hourMs = 3_600_000;

export function personActs(user: ListedUser, context: ViewContext): HtmlValue {
  const { person, acts } = context.words.people;
  const name = nameOfUser(user, context.words);
  const path = `/users/${apiSegment(user.id)}`;
  if (user.status === "erased") return null;
  const revoke = actButton(
    {
      title: acts.revokePerson(name),
      text: acts.revokePersonText,
      verb: acts.revokePerson(name),
      look: "bad",
      path: `${path}/sessions/revoke`,
      body: {},
      preview: { type: "revokeUserSessions", user: user.id },
    },
    person.revoke,
    context,
    { role: "operator", primary: true },
  );
  const erase = actButton(
    {
      title: acts.erase(name),
      text: acts.eraseText,
      verb: acts.erase(name),
      look: "bad",
      path: `${path}/erase`,
      body: {},
      preview: { type: "eraseUser", user: user.id },
    },
    person.erase,
    context,
    { role: "administrator" },
  );
  return html`${revoke}${user.status === "suspended" ? restore(user, name, context) : suspend(user, name, context)}${erase}`;
}

function restore(user: ListedUser, name: string, context: ViewContext): HtmlValue {
  const { person, acts } = context.words.people;
  return actButton(
    {
      title: acts.restore(name),
      text: acts.restoreText,
      verb: acts.restore(name),
      look: "first",
      path: `/users/${apiSegment(user.id)}/restore`,
      body: {},
      preview: { type: "restoreUser", user: user.id },
    },
    person.restore,
    context,
    { role: "operator" },
  );
}

function suspend(user: ListedUser, name: string, context: ViewContext): HtmlValue {
  const { person, acts } = context.words.people;
  return actButton(
    {
      title: acts.suspend(name),
      text: acts.suspendText,
      verb: acts.suspend(name),
      look: "bad",
      path: `/users/${apiSegment(user.id)}/suspend`,
      body: {},
      preview: { type: "suspendUser", user: user.id },
      reason: "optional",
      fields: [
        {
          name: "forMs",
          label: acts.suspendFor,
          type: "number",
          choices: [
            ["", acts.forever],
            [String(hourMs), acts.hours("1")],
            [String(8 * hourMs), acts.hours("8")],
            [String(24 * hourMs), acts.days("1")],
            [String(7 * 24 * hourMs), acts.days("7")],
          ],
        },
      ],
    },
    person.suspend,
    context,
    { role: "operator" },
  );
}
