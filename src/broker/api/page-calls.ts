/** Page calls: requests pages of the log from the core, for as long as the reader waits. */
import type { Link } from "../../events/index.ts";
import type { PageOutcome } from "../../replication/index.ts";
import type { Moment } from "../../replication/lease/index.ts";
import { BrokerUnavailableError } from "../../replication/wire/index.ts";
import type { BrokerInput, PageAnswer } from "../core/messages.ts";
import type { PendingRequests } from "../core/pending-requests.ts";
import type { PageRequest } from "./local-databroker.ts";

/** @returns a function that throws BrokerUnavailableError if there is no page, or the reader has stopped waiting */
export function createPageCalls(
  parts: Readonly<{ pages: PendingRequests<PageAnswer>; feed: (input: BrokerInput) => void; moment: () => Moment }>,
): (after: Link, request: PageRequest) => Promise<PageOutcome> {
  const { pages, feed, moment } = parts;
  return async (after, { limit, waitMs, signal }) => {
    const answer = await pages.request(
      (id) =>
        feed({ type: "pageRequested", at: moment(), id, after, limit, waitMs: signal?.aborted === true ? 0 : waitMs }),
      (id, settle) => {
        signal?.addEventListener(
          "abort",
          () => {
            feed({ type: "requestCancelled", at: moment(), id });
            settle({ type: "unavailable", message: "the reader has stopped waiting" });
          },
          { once: true },
        );
      },
    );
    if (answer.type === "unavailable") throw new BrokerUnavailableError(answer.message);
    return answer;
  };
}
