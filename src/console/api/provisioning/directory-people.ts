/**
 * Operator API: asks every directory about one person now, and answers with what each has said.
 *
 * The leader asks. The request is in the log, so a directory that has not answered in time is still asked.
 */
import type { FastifyReply } from "fastify";
import {
  type DirectoryPersonAnswer,
  directoriesFrom,
  type Link,
  parseCommandId,
  type UnixMs,
  type UserId,
} from "../../../events/index.ts";
import { submitCommand } from "../operator-changes.ts";
import { directoryStateOf } from "../operator-provisioning.ts";
import { badRequest, nameIn, type OperatorApiDeps, type RegisterRoute, tryParse } from "../operator-route.ts";
import { findAtHead, oneUser, sendNameProblem } from "../person-names.ts";
import { askSchema } from "./directory-schemas.ts";

export type DirectoryPersonView = Readonly<{
  directory: string;
  /** `waiting`: no answer in time; it is still asked. `refused`: the request could not be recorded. */
  result: DirectoryPersonAnswer["result"] | "waiting" | "refused";
  said: string;
  changed: boolean;
  position: number | null;
}>;
export type AskAnswer = Readonly<{ userId: UserId; directories: readonly DirectoryPersonView[]; applied: Link }>;

const waitMsMax = 30_000;
const lookEveryMs = 100;

export function registerDirectoryPeople(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("POST /users/:user/ask", async (request, reply, { actor }) => {
    const name = nameIn((request.params as { user: string }).user);
    const found = await findAtHead(deps, () => oneUser(deps.replica, name, "any"));
    if (typeof found !== "string") return sendNameProblem(reply, found);
    const body = askSchema.safeParse(request.body ?? {});
    if (!body.success) return badRequest(reply, body.error);
    const until = (deps.now() + Math.min(body.data.timeoutMs ?? 10_000, waitMsMax)) as UnixMs;
    return answerAsk(deps, { userId: found, actor, until }, reply);
  });
}

async function answerAsk(
  deps: OperatorApiDeps,
  { userId, actor, until }: Readonly<{ userId: UserId; actor: string; until: UnixMs }>,
  reply: FastifyReply,
): Promise<AskAnswer> {
  const ending = new AbortController();
  reply.raw.once("close", () => ending.abort());
  const requestId = deps.uuid();
  const asked = await Promise.all(
    deps.directories.map(async ({ name }) => ({ name, problem: await ask(deps, { name, userId, actor, requestId }) })),
  );
  const waiting = new Set(asked.filter(({ problem }) => problem === null).map(({ name }) => name));
  const answers = new Map<string, DirectoryPersonAnswer>();
  while (waiting.size > 0 && !ending.signal.aborted) {
    for (const name of waiting) {
      const answer = directoryStateOf(deps.replica, name).people.find(({ id }) => id === requestId)?.answer;
      if (answer === null || answer === undefined) continue;
      answers.set(name, answer);
      waiting.delete(name);
    }
    if (waiting.size === 0 || deps.now() >= until) break;
    await deps.sleep(lookEveryMs, ending.signal).catch(() => undefined);
  }
  const nothing = { changed: false, position: null };
  const directories = asked.map(({ name, problem }): DirectoryPersonView => {
    if (problem !== null) return { directory: name, result: "refused", said: problem, ...nothing };
    const answer = answers.get(name);
    if (answer === undefined)
      return { directory: name, result: "waiting", said: "no answer yet; the leader goes on asking", ...nothing };
    const { result, said, changed, position } = answer;
    return { directory: name, result, said, changed, position };
  });
  return { userId, directories, applied: deps.replica.applied };
}

/** @returns why the request was not recorded; null: it was */
async function ask(
  deps: OperatorApiDeps,
  { name, userId, actor, requestId }: Readonly<{ name: string; userId: UserId; actor: string; requestId: string }>,
): Promise<string | null> {
  const { level } = deps.replica.projection;
  if (level < directoriesFrom)
    return `directories need level ${directoriesFrom}, and the cluster is at level ${level}: run cardea cluster finalize`;
  const commandId = tryParse(parseCommandId, deps.uuid());
  if (commandId === undefined) return "no id could be made";
  const command = { type: "requestDirectoryPerson", directory: name, requestId, userId } as const;
  const result = await submitCommand(deps, { commandId, actor, command });
  return result.type === "done" ? null : result.message;
}
