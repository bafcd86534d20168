/**
 * Operator changes of a drill: commands that are sent again under the same id until their answer is known.
 *
 * A command id makes the repetition harmless: the log answers with the first result. Operator tokens that come from a
 * configuration last five minutes, so the connection is renewed before that.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { ChangeAnswer, GroupView, LocalChangeAnswer, SessionView, UserView } from "../../console/index.ts";
import type { ClusterStatus } from "../../replication/index.ts";
import { isLocal } from "../operator/local-change.ts";
import {
  inPath,
  type OperatorClient,
  OperatorRefusedError,
  OperatorUnreachableError,
} from "../operator/operator-client.ts";
import { CannotError } from "../terminal/command.ts";

const renewAfterMs = 180_000;
const retryMs = 250;
/** No retry succeeds before the region of the server is connected again. */
const cutOffRetryMs = 5_000;
const answerMsMax = 10_000;

export type ChangeRequest = Readonly<{ path: string; body: object }>;

export const addMember = (group: string, userId: string): ChangeRequest => ({
  path: `/groups/${inPath(group)}/members`,
  body: { add: [userId] },
});
export const removeMember = (group: string, userId: string): ChangeRequest => ({
  path: `/groups/${inPath(group)}/members`,
  body: { remove: [userId] },
});

export type DrillOperator = Readonly<{
  client(): Promise<OperatorClient>;
  /**
   * @throws OperatorRefusedError with the outcome `none` only if no attempt made the change
   * @throws CannotError when there is no answer within `withinMs` @throws the signal's reason
   */
  submit(
    change: ChangeRequest,
    options: Readonly<{ withinMs: number; signal: AbortSignal; commandId?: string }>,
  ): Promise<ChangeAnswer>;
  /** The newest position of an acknowledged change of this drill; 0: none. */
  newestPosition(): number;
  status(answerMs?: number): Promise<ClusterStatus>;
  groups(): Promise<Readonly<{ groups: readonly GroupView[]; position: number }>>;
  users(): Promise<readonly UserView[]>;
  sessionsOf(user: string): Promise<readonly SessionView[]>;
  close(): Promise<void>;
}>;

export function createDrillOperator(connect: () => Promise<OperatorClient>): DrillOperator {
  let newest = 0;
  let current: Readonly<{ client: Promise<OperatorClient>; since: number }> | undefined;

  function client(): Promise<OperatorClient> {
    if (current !== undefined && performance.now() - current.since < renewAfterMs) return current.client;
    const previous = current?.client;
    const next = { client: connect(), since: performance.now() };
    current = next;
    next.client.catch(() => {
      if (current === next) current = undefined; // its caller hears it; the next call, perhaps an undo, connects anew
    });
    // A receipt may still be read over the previous connection. The end of the process closes it, if it comes first.
    if (previous !== undefined)
      setTimeout(() => {
        previous.then((one) => one.close()).catch(() => undefined); // it never connected, or is closed
      }, 130_000).unref();
    return next.client;
  }
  const get = async (path: string, answerMs = answerMsMax): Promise<unknown> => (await client()).get(path, answerMs);

  return {
    client,
    async submit({ path, body }, { withinMs, signal, commandId = randomUUID() }) {
      const giveUpAt = performance.now() + withinMs;
      let mayBeMade = false;
      for (;;) {
        signal.throwIfAborted();
        try {
          const leftMs = Math.max(1_000, Math.min(answerMsMax, giveUpAt - performance.now()));
          const answer = await (await client()).post(path, { ...body, commandId, wait: "none" }, leftMs);
          const change = answer as ChangeAnswer | LocalChangeAnswer;
          if (isLocal(change))
            throw new CannotError(`region ${change.region} is cut off, and only it accepted the change ${commandId}`);
          newest = Math.max(newest, change.link.position);
          return change;
        } catch (error) {
          if (!mayAnswerLater(error) || performance.now() >= giveUpAt)
            throw mayBeMade ? ofUnknownOutcome(error) : error;
          mayBeMade ||= !(error instanceof OperatorRefusedError && error.outcome === "none");
          const pauseMs = isCutOff(error) ? cutOffRetryMs : retryMs;
          await delay(pauseMs, undefined, { signal }).catch(() => undefined); // the next round throws the reason
        }
      }
    },
    newestPosition: () => newest,
    status: async (answerMs) => (await get("/nodes", answerMs)) as ClusterStatus,
    async groups() {
      const answer = (await get("/groups?limit=10000")) as {
        groups: readonly GroupView[];
        applied: Readonly<{ position: number }>;
      };
      return { groups: answer.groups, position: answer.applied.position };
    },
    users: async () => ((await get("/users?limit=10000")) as { users: readonly UserView[] }).users,
    sessionsOf: async (user) => {
      const query = new URLSearchParams({ user, status: "active", limit: "1000" });
      return ((await get(`/sessions?${query}`)) as { sessions: readonly SessionView[] }).sessions;
    },
    async close() {
      const open = await current?.client.catch(() => undefined); // it never connected, which its caller has heard
      await open?.close();
    },
  };
}

function isCutOff(error: unknown): boolean {
  return error instanceof OperatorRefusedError && error.reason === "home-unreachable";
}

/** The refusal of a repeated attempt says nothing of the attempts before. */
function ofUnknownOutcome(error: unknown): unknown {
  if (!(error instanceof OperatorRefusedError)) return error;
  const { message, status, reason, lastKnown } = error;
  return new OperatorRefusedError(message, { status, reason, outcome: "unknown", lastKnown });
}

/** No leader at the moment, no connection, or no answer in time. */
export function mayAnswerLater(error: unknown): boolean {
  if (error instanceof OperatorRefusedError) return error.status >= 500;
  return error instanceof OperatorUnreachableError || !(error instanceof CannotError);
}
