/** SCIM context: the dependencies, callers, requests and answers of the SCIM server, and how it submits a change. */
import type { ScimClientConfig } from "../../../config/index.ts";
import type { Command, CommandId, CommandResult, Link, ScimScope, UserId } from "../../../events/index.ts";
import type { Databroker, Freshness, Replica } from "../../../replication/index.ts";
import type { AuthDeps } from "../context.ts";
import { submitWithRetry } from "../sign-in/begin-session.ts";
import type { JsonObject } from "./scim-attributes.ts";
import type { ScimDirectory } from "./scim-directory.ts";
import { ScimError } from "./scim-error.ts";

export type ScimDeps = Readonly<{
  clients: ReadonlyMap<string, ScimClientConfig>;
  directory: ScimDirectory;
  /** Changes of one resource, one after the other: requests that arrive together then do not lose to each other. */
  turns: ResourceTurns;
  /** How many searches through all resources each client has in progress. */
  searches: Map<string, number>;
  replica: Replica & Freshness;
  databroker: Databroker;
  clock: AuthDeps["clock"];
  sleep: AuthDeps["sleep"];
  uuid: () => string;
  /** The URL of `/scim/v2`, without a slash at its end. */
  base: string;
  region: string;
  log: AuthDeps["log"];
}>;

export type ScimCaller = Readonly<{
  client: ScimClientConfig;
  /** The actor that the log records. */
  actor: string;
  scopes: ReadonlySet<ScimScope>;
  /** Checks the token again, in a request that takes long. @throws ScimError 401, 403, 503 */
  recheck: () => void;
  /** How many people the batch of this request takes access or a group from; absent: it is no batch. */
  losing?: number;
}>;

export type ScimRequest = Readonly<{
  method: string;
  /** After `/scim/v2`, without the query. */
  path: string;
  query: URLSearchParams;
  body: unknown;
  ifMatch: string | undefined;
  ifNoneMatch: string | undefined;
}>;

export type ScimAnswer = Readonly<{
  status: number;
  body?: JsonObject;
  etag?: string;
  location?: string;
  /** The change that the answer is about; absent: the request only reads. */
  link?: Link;
}>;

const appliedMsMax = 5_000;
const attemptsMax = 6;
/** Seconds after which a provider may repeat a change that waits for an operator. */
const heldRetryAfter = 900;

/** Jobs under one key run one after the other. */
export class ResourceTurns {
  readonly #last = new Map<string, Promise<unknown>>();

  async run<T>(key: string, job: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key) ?? Promise.resolve();
    const own = before.then(job, job);
    const settled = own.catch(() => undefined);
    this.#last.set(key, settled);
    try {
      return await own;
    } finally {
      if (this.#last.get(key) === settled) this.#last.delete(key);
    }
  }
}

/** A change whose resource has changed since it was read: read it again. */
export type Attempt = ScimAnswer | "again";

/**
 * @param isCaughtUp this node has what the log had when the request came. Before, "nothing changes" may be wrong: a
 * node that lags has not seen the change that this request takes back.
 */
type AttemptChange = (isCaughtUp: boolean) => Promise<Attempt>;

/**
 * Takes its turn, and repeats a change that lost a race against another node.
 * @param key the resource @throws ScimError
 */
export function withAttempts(deps: ScimDeps, key: string, attempt: AttemptChange): Promise<ScimAnswer> {
  return deps.turns.run(key, () => runAttempts(deps, attempt));
}

async function runAttempts(deps: ScimDeps, attempt: AttemptChange): Promise<ScimAnswer> {
  for (let tries = 0; tries < attemptsMax; tries++) {
    await deps.directory.settled();
    const answer = await attempt(tries > 0).catch((error: unknown): Attempt => {
      if (tries > 0 || !mayBeOutdated(error)) throw error;
      return "again";
    });
    if (answer !== "again") return answer;
    await catchUp(deps);
  }
  throw new ScimError(503, "the resource changes too often; try again");
}

/** Whether a node that has not seen the newest changes may have refused what it would accept. */
function mayBeOutdated(error: unknown): boolean {
  return error instanceof ScimError && (error.status === 412 || error.scimType === "uniqueness");
}

/** Submits a command, and waits until this node has applied it. @throws ScimError */
export async function submitChange(
  deps: ScimDeps,
  { actor }: Pick<ScimCaller, "actor">,
  command: Command,
): Promise<Link | "again"> {
  const commandId = deps.uuid() as CommandId;
  const result = await submitWithRetry(deps, { commandId, actor, command });
  if (result.type !== "done") return refusalOf(result);
  deps.log.info({ actor, commandId, command: command.type, position: result.link.position }, "SCIM change");
  await applied(deps, result.link);
  return result.link;
}

function refusalOf(result: Exclude<CommandResult, { type: "done" }>): "again" {
  if (result.type === "unavailable") throw new ScimError(503, "no leader answers; try again");
  switch (result.code) {
    case "conflict":
    case "not-found":
      return "again";
    // Not 403, 429 or a success: providers would stop, slow down, or believe that it is done (docs/adr/0050).
    case "held":
      throw new ScimError(503, result.message, null, heldRetryAfter);
    case "dropped":
      throw new ScimError(409, result.message);
    case "erased":
      throw uniqueness("the person has been erased and cannot be provisioned again");
    default:
      throw new ScimError(500, result.message);
  }
}

export const uniqueness = (detail: string): ScimError => new ScimError(409, detail, "uniqueness");

/** The change is in the log. A node that does not follow answers later reads as 503. */
async function applied({ replica, directory }: ScimDeps, link: Link): Promise<void> {
  await replica.waitFor(link, appliedMsMax);
  await directory.settled();
}

/** Reads the log to its head before this node says that something does not exist. @throws ScimError 503 */
export async function catchUp(deps: ScimDeps): Promise<void> {
  const status = await deps.databroker.status({ nodes: "omitted" }).catch(() => undefined);
  const head = status?.leader?.head;
  if (head === undefined || (await deps.replica.waitFor(head, appliedMsMax)) !== "reached")
    throw new ScimError(503, "this node is behind the log; try again");
  await deps.directory.settled();
}

/**
 * Gives people who sign in what the provisioned people give them, where a change that was made at the same time has
 * left that out. @returns the newest link
 */
export async function correlatePeople(
  deps: ScimDeps,
  caller: Pick<ScimCaller, "actor">,
  { users, link }: Readonly<{ users: Iterable<UserId>; link: Link }>,
): Promise<Link> {
  const people = new Set<UserId>();
  for (const userId of users) for (const person of deps.directory.peopleOf(userId)) people.add(person);
  let newest = link;
  for (const userId of people) {
    if (!deps.directory.isMismatch(userId)) continue;
    const provisioned = deps.directory.correlatedWith(userId);
    const done = await submitChange(deps, caller, { type: "correlateUser", userId, provisioned });
    if (done !== "again" && done.position > newest.position) newest = done;
  }
  return newest;
}

/** @throws ScimError 412 */
export function requireMatch(ifMatch: string | undefined, etag: string): void {
  if (ifMatch === undefined || ifMatch.trim() === "*") return;
  if (!isNamed(ifMatch, etag)) throw new ScimError(412, "the resource has another version");
}

/** Weak comparison (RFC 9110 §8.8.3.2). */
export function isNamed(list: string, etag: string): boolean {
  const opaque = (text: string): string => text.trim().replace(/^W\//, "");
  return list.trim() === "*" || list.split(",").some((each) => opaque(each) === opaque(etag));
}
