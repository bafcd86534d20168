/** List columns: what the CSV files of the lists have of each entry. Pure. */
import type { ChangeView, FoldedView } from "../changes/change-schemas.ts";
import type { MemberView, SessionView, UserView } from "../operator-views.ts";
import type { ListedGroup } from "./group-list.ts";
import type { CsvList } from "./list-csv.ts";

type File<Item> = Pick<CsvList<Item>, "name" | "columns">;

export const sessionsCsv: File<SessionView> = {
  name: "sessions",
  columns: [
    ["id", ({ id }) => id],
    ["status", ({ status }) => status],
    ["reason", ({ reason }) => reason],
    ["kind", ({ kind }) => kind],
    ["user_id", ({ userId }) => userId],
    ["name", ({ name }) => name],
    ["email", ({ email }) => email],
    ["idp_id", ({ idpId }) => idpId],
    ["provider", ({ provider }) => provider],
    ["issued_at", ({ issuedAt }) => issuedAt],
    ["refreshed_at", ({ refreshedAt }) => refreshedAt],
    ["expires_at", ({ expiresAt }) => expiresAt],
    ["last_seen_at", ({ lastSeenAt }) => lastSeenAt],
    ["idle_at", ({ idleAt }) => idleAt],
  ],
};

export const peopleCsv: File<UserView> = {
  name: "people",
  columns: [
    ["id", ({ id }) => id],
    ["status", ({ status }) => status],
    ["name", ({ name }) => name],
    ["email", ({ email }) => email],
    ["email_verified", ({ emailVerified }) => String(emailVerified)],
    ["subject", ({ subject }) => subject],
    ["groups", ({ groups }) => groups.join(" ")],
    ["sessions", ({ sessions }) => sessions],
    ["suspended_until", ({ suspension }) => suspension?.until],
  ],
};

export const groupsCsv: File<ListedGroup> = {
  name: "groups",
  columns: [
    ["id", ({ id }) => id],
    ["name", ({ name }) => name],
    ["members", ({ memberCount }) => memberCount],
    ["excluded", ({ excludedCount }) => excludedCount],
  ],
};

export const membersCsv: File<MemberView> = {
  name: "members",
  columns: [
    ["user_id", ({ userId }) => userId],
    ["name", ({ name }) => name],
    ["email", ({ email }) => email],
    ["member", ({ member }) => String(member)],
    ["excluded", ({ excluded }) => String(excluded)],
    ["sources", ({ sources }) => sources.join(" ")],
    ["until", ({ grant }) => grant?.until],
  ],
};

type Change = ChangeView | FoldedView;
const changeCell =
  (cell: (change: ChangeView) => unknown) =>
  (change: Change): unknown =>
    "text" in change ? cell(change) : null;

export const changesCsv: File<Change> = {
  name: "changes",
  columns: [
    ["position", ({ position }) => position],
    ["at", ({ at }) => at],
    ["type", changeCell(({ type }) => type)],
    ["text", changeCell(({ text }) => text)],
    ["actor_kind", changeCell(({ actor }) => actor.kind)],
    ["actor_id", changeCell(({ actor }) => actor.id)],
    ["actor_name", changeCell(({ actor }) => actor.name)],
    ["subjects", changeCell(({ subjects }) => subjects.map(({ kind, id }) => `${kind}:${id}`).join(" "))],
    ["subject_count", changeCell(({ subjectCount }) => subjectCount)],
    ["command_id", changeCell(({ cause }) => cause)],
    ["folded", (change) => ("folded" in change ? JSON.stringify(change.folded) : null)],
  ],
};
