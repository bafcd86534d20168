/** Preview facts: what does not depend on the log: the role, the command line, and how the console asks. Pure. */
import { unreachable } from "../../../events/index.ts";
import type { OperatorRole } from "../roles/operator-roles.ts";
import type { Planned, PreviewedCommand } from "./planned-change.ts";
import type { Preview, PreviewCommand } from "./preview-schemas.ts";

/** Beyond this number of sessions the console asks for the number. */
const sessionsUntypedMax = 25;

export function roleOf({ type }: PreviewedCommand): OperatorRole {
  return type === "eraseUser" || type === "removeGroup" ? "administrator" : "operator";
}

/** A revoked session stays revoked, an erased person stays erased, and a removed group has lost its members. */
export function isFinal({ type }: PreviewedCommand): boolean {
  return type !== "suspendUser" && type !== "restoreUser" && type !== "changeGroupMembers";
}

export function confirmationOf(
  { command, given, more }: Planned,
  { sessions, name }: Readonly<{ sessions: number; name: string }>,
): Preview["confirm"] {
  switch (command.type) {
    case "eraseUser":
    case "removeGroup":
      return { level: 3, typed: name };
    case "restoreUser":
      return { level: 1, typed: null };
    case "changeGroupMembers":
      return { level: command.removed.length > 0 ? 2 : 1, typed: null };
    case "revokeSessions": {
      const isAll = given.type === "revokeSessions" && given.filter?.all === true;
      const isMany = sessions > sessionsUntypedMax || isAll || more;
      return isMany ? { level: 3, typed: String(sessions) } : { level: 2, typed: null };
    }
    case "revokeUserSessions":
    case "suspendUser":
      return { level: 2, typed: null };
    default:
      return unreachable(command);
  }
}

const idsShownMax = 20;

export function commandLine(given: PreviewCommand): string {
  switch (given.type) {
    case "revokeSessions": {
      const { sessionIds, filter } = given;
      if (sessionIds !== undefined && sessionIds.length > idsShownMax)
        return words("sessions", "revoke", "--from", "sessions.txt", "--wait");
      if (sessionIds !== undefined) return words("sessions", "revoke", ...sessionIds, "--wait");
      const { group, idpId, issuedBefore, all } = filter ?? {};
      return words(
        "sessions",
        "revoke",
        ...(group === undefined ? [] : ["--group", group]),
        ...(idpId === undefined ? [] : ["--idp", idpId]),
        ...(issuedBefore === undefined ? [] : ["--issued-before", issuedBefore]),
        ...(all === true ? ["--all"] : []),
        "--wait",
      );
    }
    case "revokeUserSessions":
      return words("sessions", "revoke", "--user", given.user, "--wait");
    case "suspendUser":
      return words("users", "suspend", given.user, ...box(given), "--wait");
    case "restoreUser":
      return words("users", "restore", given.user, "--wait");
    case "eraseUser":
      return words("users", "erase", given.user, "--wait");
    case "removeGroup":
      return words("groups", "delete", given.group, "--wait");
    case "changeGroupMembers": {
      const { group, add, remove } = given;
      const line = (verb: string, names: readonly string[]): string[] =>
        names.length === 0 ? [] : [words("groups", verb, group, ...names, ...box(given), "--wait")];
      return [...line("add", add), ...line("remove", remove)].join(" && ");
    }
    default:
      return unreachable(given);
  }
}

type Boxed = Readonly<{ until?: string | undefined; forMs?: number | undefined; reason?: string | undefined }>;

function box({ until, forMs, reason }: Boxed): readonly string[] {
  const end = until ?? (forMs === undefined ? undefined : `${Math.ceil(forMs / 60_000)}m`);
  return [...(end === undefined ? [] : ["--until", end]), ...(reason === undefined ? [] : ["--reason", reason])];
}

/** As a POSIX shell reads them. Control characters are left out: a pasted line must not run on. */
function words(...all: readonly string[]): string {
  return ["cardea", ...all].map(quoted).join(" ");
}

function quoted(word: string): string {
  const plain = word.replace(/\p{Cc}/gu, "");
  return /^[\w@%+=:,./-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'\\''`)}'`;
}
