/**
 * Bulk total: how many people the operations of one bulk request would take access or a group from, announced to the
 * leader before the first of them is applied.
 *
 * - It is read from the state before the request. What an operation will fail at does not count.
 * - The operations that follow name the total, so a mass change that is spread over them is held as one.
 *
 * Why so: docs/adr/0050-mass-changes-are-held.md.
 */
import { massChangeFrom, type UserId } from "../../../events/index.ts";
import { type ScimCaller, type ScimDeps, submitChange } from "./scim-context.ts";
import { ScimError } from "./scim-error.ts";
import { losersOfGroupChange } from "./scim-groups.ts";
import { endedUser } from "./scim-users.ts";

export type BulkOperation = Readonly<{
  method: string;
  path: string;
  version: string | undefined;
  data: unknown;
}>;

/** No limit of mass changes is higher, so counting ends there. */
const countedMax = 5_001;
const peopleMax = 10_000;

/**
 * @returns the caller, who names the total with each change of a group
 * @throws ScimError 503 where the batch is held, 409 where an operator has dropped it
 */
export async function announceBulk(
  deps: ScimDeps,
  caller: ScimCaller,
  operations: readonly BulkOperation[],
): Promise<ScimCaller> {
  if (deps.replica.projection.level < massChangeFrom) return caller;
  await deps.directory.settled();
  const ended = new Set<UserId>();
  const losing = new Set<UserId>();
  for (const operation of operations) {
    if (losing.size >= countedMax) break;
    await countOperation(deps, caller, operation, { ended, losing });
  }
  const counted: ScimCaller = { ...caller, losing: losing.size };
  if (ended.size === 0 || losing.size <= 1) return counted;
  const people = new Set([...ended].flatMap((userId) => deps.directory.peopleOf(userId)));
  await submitChange(deps, caller, {
    type: "announceEnds",
    client: caller.client.name,
    users: [...ended],
    people: [...people].slice(0, peopleMax),
    losing: losing.size,
  });
  return counted;
}

async function countOperation(
  deps: ScimDeps,
  caller: ScimCaller,
  { method, path, version, data }: BulkOperation,
  counts: Readonly<{ ended: Set<UserId>; losing: Set<UserId> }>,
): Promise<void> {
  const [, kind = "", id = ""] = /^\/(users|groups)\/([^/]+)$/i.exec(path) ?? [];
  if (method === "POST" || id === "") return;
  const isUser = kind.toLowerCase() === "users";
  if (!caller.scopes.has(isUser ? "users:write" : "groups:write")) return;
  try {
    const change = { method, id: decodeURIComponent(id), body: data, ifMatch: version };
    if (isUser) {
      const userId = endedUser(deps, caller, change);
      if (userId === undefined || deps.replica.projection.user(userId)?.status !== "active") return;
      counts.ended.add(userId);
      counts.losing.add(userId);
      return;
    }
    for (const userId of await losersOfGroupChange(deps, caller, change)) counts.losing.add(userId);
    await deps.sleep(0); // a group may have 50,000 members
  } catch (error) {
    // The operation itself answers with the error.
    if (!(error instanceof ScimError) && !(error instanceof URIError)) throw error;
  }
}
