/** Person names: finds the people that an operator names by id, subject or e-mail. A name of several finds none. */
import type { FastifyReply } from "fastify";
import type { UnavailableCode, UserId } from "../../events/index.ts";
import type { Replica } from "../../replication/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";
import { type OperatorApiDeps, sendHomeUnreachable } from "./operator-route.ts";
import { findUsers } from "./operator-views.ts";

/** `code`: this region is cut off, so a retry finds no more until that ends. */
export type NameProblem = Readonly<{ status: 404 | 409 | 503; error: string; code?: UnavailableCode }>;

/** A user who has just signed in may not be known here yet. */
const catchUpMs = 2_000;

/** Repeats a search without a match once this node has reached the head of the log: then the user does not exist. */
export async function findAtHead<Found extends UserId | Readonly<{ userIds: readonly UserId[] }>>(
  { databroker, replica }: OperatorApiDeps,
  find: () => Found | NameProblem,
): Promise<Found | NameProblem> {
  const found = find();
  if (typeof found === "string" || !("status" in found) || found.status !== 404) return found;
  const { isReached, status } = await readToHead({ databroker, replica });
  if (isReached) return find();
  if (status?.home !== undefined) {
    const why = "and the home region is out of reach, so this region knows of no change since";
    return { status: 503, error: `${found.error}, ${why}`, code: "home-unreachable" };
  }
  return { status: 503, error: `${found.error}, but this node is behind the log; try again` };
}

export function sendNameProblem(reply: FastifyReply, { status, error, code }: NameProblem): FastifyReply {
  if (code !== undefined) return sendHomeUnreachable(reply, { error });
  return (status === 503 ? reply.header("retry-after", "1") : reply).code(status).send({ error });
}

export function eachUser(
  replica: Replica,
  names: readonly string[],
  emails: "any" | "verified",
): Readonly<{ userIds: readonly UserId[] }> | NameProblem {
  const userIds: UserId[] = [];
  for (const name of names) {
    const found = oneUser(replica, name, emails);
    if (typeof found !== "string") return found;
    userIds.push(found);
  }
  return { userIds };
}

/** One user by id, IdP subject or e-mail. */
export function oneUser(replica: Replica, name: string, emails: "any" | "verified"): UserId | NameProblem {
  const found = findUsers(replica, name, emails);
  const [only, another] = found;
  if (only === undefined) {
    const claimed = emails === "verified" && findUsers(replica, name, "any").length > 0;
    const why = claimed
      ? ": the identity provider has not verified that e-mail, so use the user id or the subject"
      : " (user id, subject or e-mail)";
    return { status: 404, error: `no user matches ${JSON.stringify(name)}${why}` };
  }
  if (another === undefined) return only;
  const some = found.slice(0, 5).join(", ");
  return {
    status: 409,
    error: `${found.length} users match ${JSON.stringify(name)}; use a user id: ${some}`,
  };
}

/** Reads the log to its head, so that this node knows what was recorded before. `isReached` false: it may lag. */
export async function readToHead({
  databroker,
  replica,
}: Pick<OperatorApiDeps, "databroker" | "replica">): Promise<
  Readonly<{ isReached: boolean; status: Awaited<ReturnType<OperatorApiDeps["databroker"]["status"]>> | undefined }>
> {
  const status = await databroker.status({ nodes: "omitted" }).catch((error: unknown) => {
    if (error instanceof BrokerUnavailableError) return undefined;
    throw error;
  });
  const head = status?.leader?.head;
  return { isReached: head !== undefined && (await replica.waitFor(head, catchUpMs)) === "reached", status };
}
