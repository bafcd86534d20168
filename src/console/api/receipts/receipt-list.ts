/**
 * Receipt list: the changes of people that took access away, newest first, each with what its receipt says now.
 *
 * The leader answers each of them, as it answers one alone, so the list never says more than a receipt does.
 */
import { LogUnreachableError } from "../../../audit/index.ts";
import { type Epoch, formatLink, type Hash, type Link, type Position } from "../../../events/index.ts";
import type { Receipt } from "../../../replication/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import type { ChangeView } from "../changes/change-schemas.ts";
import { readChanges } from "../changes/changes-route.ts";
import { badRequest, type OperatorApiDeps, type RegisterRoute } from "../operator-route.ts";
import { type ListedReceipt, receiptsSchema } from "./receipt-schemas.ts";

const dayMs = 24 * 3_600_000;
/** Receipts that are requested at once. */
const atOnce = 5;
const types = [
  "SessionRevoked",
  "UserSessionsRevoked",
  "UserSuspended",
  "UserErased",
  "GroupMembersChanged",
  "GroupRemoved",
  "ServiceAccountRevoked",
  "DeviceRemoved",
];

export function registerReceiptList(route: RegisterRoute, deps: OperatorApiDeps): void {
  route("GET /receipts", async (request, reply) => {
    const query = receiptsSchema.safeParse(request.query);
    if (!query.success) return badRequest(reply, query.error);
    const { since, before, limit } = query.data;
    const ending = new AbortController();
    reply.raw.once("close", () => ending.abort());
    const fromMs = since === undefined ? deps.now() - dayMs : Date.parse(since);
    try {
      const { changes, next, applied } = await readChanges(deps, {
        query: { limit, ...(before === undefined ? {} : { before }) },
        filter: { types: new Set(types), actors: null, subjects: null, fromMs, toMs: null, folds: false },
        signal: ending.signal,
      });
      const acts = changes.filter((change): change is ChangeView => isAct(change as ChangeView));
      const receipts: ListedReceipt[] = [];
      for (let from = 0; from < acts.length; from += atOnce)
        receipts.push(...(await Promise.all(acts.slice(from, from + atOnce).map((act) => withReceipt(deps, act)))));
      return { receipts, next, since: new Date(fromMs).toISOString(), applied };
    } catch (error) {
      if (!(error instanceof LogUnreachableError)) throw error;
      return reply.code(503).header("retry-after", "1").send({ error: error.message });
    }
  });
}

const isAct = ({ cause, actor }: ChangeView): boolean =>
  cause != null && (actor.kind === "person" || actor.kind === "token");

async function withReceipt({ databroker }: OperatorApiDeps, change: ChangeView): Promise<ListedReceipt> {
  const { cause, epoch, position, hash, at, actor, text, type } = change;
  const link: Link = { epoch: epoch as Epoch, position: position as Position, hash: hash as Hash };
  const base = { commandId: cause ?? "", link: formatLink(link), position, at, actor, text, type };
  try {
    const receipt = await databroker.receipt({ type: "link", link }, { wait: "none", timeoutMs: 0 });
    return { ...base, ...summaryOf(receipt, Date.parse(at)) };
  } catch (error) {
    if (!(error instanceof BrokerUnavailableError)) throw error;
    const none = { applied: null, fenced: null, unconfirmed: null, enforcedMs: null, completeInMs: null };
    return { ...base, status: "unknown", ...none };
  }
}

/** @param recordedAt by the clock of the leader of that time */
export function summaryOf(
  { status, nodes, completeInMs }: Receipt,
  recordedAt: number,
): Pick<ListedReceipt, "status" | "applied" | "fenced" | "unconfirmed" | "enforcedMs" | "completeInMs"> {
  const count = (wanted: Receipt["nodes"][number]["status"]): number =>
    nodes.filter((node) => node.status === wanted).length;
  const confirmed = nodes.flatMap((node) => (node.status === "applied" ? [node.confirmedAt ?? null] : []));
  const isKnown = confirmed.length > 0 && confirmed.every((at) => at !== null);
  const last = Math.max(...confirmed.map((at) => at ?? 0));
  return {
    status,
    applied: count("applied"),
    fenced: count("fenced"),
    unconfirmed: count("unconfirmed"),
    enforcedMs: status === "complete" && isKnown ? Math.max(0, last - recordedAt) : null,
    completeInMs,
  };
}
