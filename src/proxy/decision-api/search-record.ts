/**
 * Search record: one record for a search, with the people and routes that its answer names. Pure. A query that is not
 * valid is no search.
 */
import type { ActRecord } from "../../audit/index.ts";
import { roundedMs } from "../message/recorded-text.ts";
import type { ApiDecision } from "./api-decision.ts";
import { AuthzenUnavailableError } from "./authzen-parser.ts";
import type { DecisionApiDeps } from "./request-decider.ts";

/** `name`: of the client's key. */
export type Searcher = Readonly<{ name: string; requestId: string }>;

/** Called with each decision behind an entry of the answer. */
export type Found = (permit: Extract<ApiDecision, { type: "permit" }>) => void;

export type RecordSearch = <Result>(
  command: string,
  by: Searcher,
  search: (found: Found) => Promise<Result>,
) => Promise<Result>;

/** As many ids as a record of a command names. */
const targetsMax = 20;

export function createSearchRecorder(
  deps: Pick<DecisionApiDeps, "replica" | "clock" | "recorder" | "identity">,
): RecordSearch {
  const { replica, clock, recorder, identity } = deps;
  return async (command, { name, requestId }, search) => {
    const startedAt = clock.monotonic();
    const targets = new Set<string>();
    const write = (outcome: ActRecord["outcome"], code: string | null): void =>
      recorder.recordCommand?.("operator", {
        region: identity.region,
        at: clock.wall(),
        commandId: requestId,
        actor: `service:${name}`,
        command,
        targets: [...targets].slice(0, targetsMax),
        targetsMore: Math.max(0, targets.size - targetsMax),
        reason: null,
        outcome,
        code,
        link: replica.applied,
        latencyMs: roundedMs(clock.monotonic() - startedAt),
      });
    try {
      const result = await search(({ principal, route }) => {
        if (principal !== null) targets.add(`user:${principal.userId}`);
        targets.add(`route:${route.id}`);
      });
      write("done", null);
      return result;
    } catch (error) {
      if (error instanceof AuthzenUnavailableError) write("unavailable", error.message);
      throw error;
    }
  };
}
