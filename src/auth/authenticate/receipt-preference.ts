/** Receipt preference: whether a caller waits until a change is enforced, and the word that says whether it was. */
import type { Link } from "../../events/index.ts";
import type { Databroker } from "../../replication/index.ts";

const waitMsDefault = 10_000;
const waitMsMax = 60_000;

/** `Prefer: wait` or `wait=10`, in seconds (RFC 7240 §4.3). Null: not requested. */
export function waitMsOf(prefer: string | string[] | undefined): number | null {
  const found = /(?:^|[,;])\s*wait(?:\s*=\s*"?(\d{1,4})"?)?\s*(?=$|[,;])/i.exec(String(prefer ?? ""));
  if (found === null) return null;
  return found[1] === undefined ? waitMsDefault : Math.min(waitMsMax, Number(found[1]) * 1_000);
}

/** `complete`: every node that may permit something has enforced the change. */
export async function receiptWordOf(
  { databroker, region }: Readonly<{ databroker: Databroker; region: string }>,
  link: Link,
  timeoutMs: number,
): Promise<string> {
  try {
    const { complete } = await databroker.receipt({ type: "link", link }, { wait: "all", timeoutMs, region });
    return complete ? "complete" : "incomplete";
  } catch {
    return "unavailable"; // the change is in the log, whatever its receipt says
  }
}
