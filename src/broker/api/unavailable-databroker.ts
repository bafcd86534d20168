/**
 * Unavailable databroker: the answers of a broker that cannot answer a call in its present part. The caller then tries
 * the next broker of its list, or tries again.
 */
import type { Databroker } from "../../replication/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";
import { unavailableResult } from "../leader/pending-commands.ts";

/**
 * A databroker that answers every call with this problem, and can be tried again.
 * @param reason `not-home`: a call for the home region has come to a broker of another region
 */
export function unavailableDatabroker(problem: string, reason: "no-leader" | "not-home" = "no-leader"): Databroker {
  async function refuse(): Promise<never> {
    throw new BrokerUnavailableError(problem, { reason });
  }
  return {
    submit: async ({ commandId }) => unavailableResult(commandId, problem),
    read: refuse,
    lease: refuse,
    receipt: refuse,
    status: refuse,
    takeSnapshot: refuse,
    history: refuse,
    configuration: refuse,
    configurations: refuse,
    holdsConfiguration: refuse,
    tokens: refuse,
    storedSignalStream: refuse,
  };
}
