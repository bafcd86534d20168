/** Session parts: what the lists of sessions share. Pure. */
import type { z } from "zod";
import type { listAnswers } from "../../api/lists/list-schemas.ts";
import type { Html } from "../../pages/html.ts";
import type { Act } from "../components/act.ts";
import { statusPill } from "../components/values.ts";
import type { ConsoleText } from "../view.ts";

export type ListedSession = z.infer<typeof listAnswers.session>["session"];

const kinds = { active: "good", revoked: "bad", expired: "off" } as const;

export function sessionStatus({ status }: Pick<ListedSession, "status">, words: ConsoleText): Html {
  return statusPill(kinds[status], words.people.sessions.states[status]);
}

/** Revokes the selected sessions of a table. */
export function revokeAct(
  acts: ConsoleText["people"]["acts"],
  { selection }: Readonly<{ selection: NonNullable<Act["selection"]> }>,
): Act {
  return {
    title: acts.revokeTitle,
    text: acts.revokeText,
    verb: acts.revokeVerb,
    look: "bad",
    path: "/sessions/revoke",
    body: {},
    preview: { type: "revokeSessions" },
    selection,
  };
}
