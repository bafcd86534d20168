/**
 * Local receipt JWS: signed receipts of one region, for a revocation that it accepted by itself while it was cut off
 * (docs/receipts.md).
 *
 * - Its type in the header is its own, so a reader that knows only receipts of the cluster refuses it: it promises
 *   nothing of other regions.
 * - Key and encoding are those of the receipts of the cluster (receipt-jws.ts).
 * - `localContradictionIn` derives from the listed brokers and nodes whether it may be called complete.
 *
 * Pure.
 */
import * as z from "zod";
import { formatLink, parseLink, type UnixMs } from "../../events/index.ts";
import type { LocalReceipt } from "../databroker.ts";
import { deniedStreams, type LocalRevocation } from "./local-revocation.ts";
import { digestOfIds, type StatedChange, statedIdsMax } from "./receipt-statement.ts";

export const localReceiptType = "cardea-local-receipt+jwt";

export type LocalReceiptStatement = Readonly<{
  version: 1;
  scope: "region";
  cluster: string;
  region: string;
  /** The broker that accepted the command, and the number of the revocation in its store. */
  broker: string;
  seq: number;
  /** ISO 8601, by that broker's clock. */
  acceptedAt: string;
  /** The broker that answered, at this time by its clock. */
  answeredBy: string;
  at: string;
  status: "complete" | "incomplete";
  complete: boolean;
  command: string;
  actor: string;
  /** What the accepting broker had applied: the ids are those that it knew there. */
  basis: string;
  change: Omit<StatedChange, "type">;
  promise: string;
  brokers: readonly Readonly<{ broker: string; stored: boolean }>[];
  nodes: readonly Readonly<{
    node: string;
    boot: string;
    role: string;
    status: "applied" | "fenced" | "unconfirmed";
    confirmed: number | null;
    /** For `fenced`: the latest time at which it was fenced. For `unconfirmed`: when it will be. ISO 8601. */
    fencedAt: string | null;
    reason: string;
  }>[];
}>;

/** The exact meaning of `complete`. */
export function localPromiseOf({ command, region }: Pick<LocalRevocation, "command" | "region">): string {
  const whose = command === "suspendUser" ? "for this user" : "on these sessions";
  const scope = `no node of region ${region} permits another request, or carries another byte, ${whose}`;
  return `${scope}; it says nothing of other regions, which learn of it when the region is connected again`;
}

export function stateLocalReceipt(
  receipt: Omit<LocalReceipt, "signed">,
  of: Readonly<{ cluster: string; answeredBy: string; revocation: LocalRevocation }>,
): LocalReceiptStatement {
  const { revocation } = of;
  const isUser = revocation.command === "suspendUser";
  const ids = deniedStreams(revocation)
    .map((stream) => stream.slice(stream.indexOf(":") + 1))
    .sort();
  return {
    version: 1,
    scope: "region",
    cluster: of.cluster,
    region: receipt.region,
    broker: receipt.broker,
    seq: receipt.seq,
    acceptedAt: iso(receipt.acceptedAt),
    answeredBy: of.answeredBy,
    at: iso(receipt.at),
    status: receipt.complete ? "complete" : "incomplete",
    complete: receipt.complete,
    command: receipt.commandId,
    actor: revocation.actor,
    basis: formatLink(receipt.basis),
    change: {
      kind: isUser ? "user" : "session",
      count: ids.length,
      ids: ids.slice(0, statedIdsMax),
      idsSha256: digestOfIds(ids),
    },
    promise: localPromiseOf(revocation),
    brokers: receipt.brokers,
    nodes: receipt.nodes.map(({ node, boot, role, status, confirmed, fencedInMs, reason }) => ({
      node,
      boot,
      role,
      status,
      confirmed,
      fencedAt: status === "applied" ? null : iso((receipt.at + fencedInMs) as UnixMs),
      reason,
    })),
  };
}

const text = z.string().max(1_000);
const time = z.iso.datetime();
const count = z.number().int().nonnegative();
const stated = z.object({
  version: z.literal(1),
  scope: z.literal("region"),
  cluster: text,
  region: text,
  broker: text,
  seq: count,
  acceptedAt: time,
  answeredBy: text,
  at: time,
  status: z.enum(["complete", "incomplete"]),
  complete: z.boolean(),
  command: text,
  actor: text,
  basis: text,
  change: z.object({ kind: text, count, ids: z.array(text), idsSha256: z.string().regex(/^[0-9a-f]{64}$/) }),
  promise: text,
  brokers: z.array(z.object({ broker: text, stored: z.boolean() })),
  nodes: z.array(
    z.object({
      node: text,
      boot: text,
      role: text,
      status: z.enum(["applied", "fenced", "unconfirmed"]),
      confirmed: count.nullable(),
      fencedAt: time.nullable(),
      reason: text,
    }),
  ),
});

/** @returns undefined when the value is not a statement of a local receipt */
export function parseLocalStatement(value: unknown): LocalReceiptStatement | undefined {
  const parsed = stated.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

/** Finds a contradiction in the statement; undefined when it is consistent. */
export function localContradictionIn(statement: LocalReceiptStatement): string | undefined {
  const { status, complete, nodes, brokers, change, basis, at } = statement;
  if (complete !== (status === "complete")) return `it calls itself ${status} and says complete: ${complete}`;
  if (!isLink(basis)) return "its basis is malformed";
  if (brokers.length === 0) return "it names no broker";
  for (const { node, status: said, confirmed, fencedAt } of nodes) {
    if (said === "applied" && confirmed === null) return `node ${node} is called applied, without what it confirmed`;
    if (said === "unconfirmed" && fencedAt === null) return `node ${node} is unconfirmed, without a time`;
    if (said === "fenced" && (fencedAt === null || Date.parse(fencedAt) > Date.parse(at)))
      return `node ${node} is called fenced before its lease expired`;
  }
  const open = nodes.filter(({ status: said }) => said === "unconfirmed").map(({ node }) => node);
  const without = brokers.filter(({ stored }) => !stored).map(({ broker }) => broker);
  const missing = [...open, ...without];
  if (complete && missing.length > 0) return `it calls itself complete, and ${missing.join(", ")} had not confirmed`;
  if (!complete && missing.length === 0) return "it calls itself incomplete, and nothing is unconfirmed";
  return change.ids.length >= change.count && digestOfIds(change.ids) !== change.idsSha256
    ? "its list of ids does not match its digest"
    : undefined;
}

function isLink(value: string): boolean {
  try {
    parseLink(value);
    return true;
  } catch {
    return false;
  }
}

function iso(at: UnixMs): string {
  return new Date(at).toISOString();
}
