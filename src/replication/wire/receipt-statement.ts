/**
 * Receipt statement: the claims of a signed receipt, and the check that they are consistent.
 *
 * - The leader makes it once. An auditor can read it with nothing but the file and the public keys.
 * - It therefore uses absolute times and whole links, and holds ids only: no name, no e-mail, no claim.
 * - `contradictionIn` derives from the listed nodes whether the receipt may be called complete. It does not rely on the
 *   conclusion of the signer.
 *
 * Pure.
 */
import { hash as digestOf } from "node:crypto";
import * as z from "zod";
import {
  type BrokerId,
  type CommandId,
  formatLink,
  type Link,
  parseLink,
  parseStream,
  type Recorded,
  type UnixMs,
} from "../../events/index.ts";
import type { Receipt, ReceiptNode, ReceiptRegion } from "../databroker.ts";
import { isLostHistory } from "../log/continuity.ts";
import type { Durability } from "../log/log.ts";

/** The subjects of one kind of event in the change. */
export type StatedChange = Readonly<{
  /** `SessionRevoked` */
  type: string;
  /** `session`, `user`, `group` … */
  kind: string;
  /** Number of subjects. */
  count: number;
  /** The subjects, sorted; at most `statedIdsMax` of them. */
  ids: readonly string[];
  /** SHA-256 over all subjects, sorted, one per line, so that a list of any length can be compared with it. */
  idsSha256: string;
  /** User ids, for a change of a group's members. */
  added?: readonly string[];
  removed?: readonly string[];
}>;

/** The events recorded at the link of a receipt: the whole command if it ends there, otherwise only that event. */
export type RecordedChange = Readonly<{ commandId: CommandId | null; changes: readonly StatedChange[] }>;

export type StatedNode = Readonly<{
  node: string;
  boot: string;
  region: string;
  role: string;
  status: ReceiptNode["status"];
  /** The link up to which the node has confirmed enforcement. */
  enforced: string | null;
  /**
   * For `fenced`: the latest time at which it was fenced. For `unconfirmed`: the time at which it will be. ISO 8601.
   */
  fencedAt: string | null;
  reason: string;
  /**
   * For `applied`: by when the leader knew of it, ISO 8601 by the leader's clock. Absent: not known, or the receipt
   * predates this field.
   */
  confirmedAt?: string | undefined;
}>;

/** A region as the leader knew it at the time of the answer. */
export type StatedRegion = Readonly<{
  region: string;
  /** Numbers of the listed nodes. */
  applied: number;
  fenced: number;
  unconfirmed: number;
  /** Nodes that are not listed any more: silent, and fenced for a while. */
  absent: number;
  cutOff: boolean;
  /** When the leader last heard from a node of the region, ISO 8601; null: its nodes are in the leader's process. */
  heardAt: string | null;
}>;

export type ReceiptStatement = Readonly<{
  /** Version of the statement format. */
  version: 1;
  cluster: string;
  /** The broker that answered, in its epoch. */
  broker: string;
  epoch: number;
  /** ISO 8601, by the broker's clock. */
  at: string;
  status: Receipt["status"];
  complete: boolean;
  wait: Receipt["wait"];
  region: string | null;
  command: string | null;
  link: string | null;
  /** The durability of the change by then. Absent: the change is lost, or the receipt predates this field. */
  durability?: Durability | undefined;
  /** Null: the events at the link could not be read at the time of the answer. */
  changes: readonly StatedChange[] | null;
  /** The promise that `complete` makes for this change, in one sentence. */
  promise: string;
  nodes: readonly StatedNode[];
  /** Every region that the leader knew. Absent: the receipt predates this field. */
  regions?: readonly StatedRegion[] | undefined;
}>;

export const durabilityWords: Readonly<Record<Durability, string>> = {
  synchronous: "the primary and its synchronous standbys hold it",
  asynchronous: "best effort until a standby holds it, because a failover may lose it",
  local: "on the disk of one machine",
  volatile: "in the memory of one process, and lost when it ends",
};

export const statedIdsMax = 1_000;

export function changesIn(events: readonly Recorded[]): readonly StatedChange[] {
  const byType = new Map<string, Recorded[]>();
  for (const recorded of events) {
    const same = byType.get(recorded.type);
    if (same === undefined) byType.set(recorded.type, [recorded]);
    else same.push(recorded);
  }
  return [...byType].map(([type, all]) => changeOf(type, all));
}

function changeOf(type: string, all: readonly Recorded[]): StatedChange {
  const swept = all.flatMap(({ event }) => (event.type === "SessionsExpired" ? event.sessionIds : []));
  const streams = all.map(({ stream }) => parseStream(stream));
  const ids = [...new Set<string>(swept.length > 0 ? swept : streams.map(({ id }) => id))].sort();
  const members = all.flatMap(({ event }) => (event.type === "GroupMembersChanged" ? [event] : []));
  return {
    type,
    kind: swept.length > 0 ? "session" : (streams[0]?.kind ?? "cluster"),
    count: ids.length,
    ids: ids.slice(0, statedIdsMax),
    idsSha256: digestOfIds(ids),
    ...(members.length === 0
      ? {}
      : {
          added: members.flatMap(({ added }) => added).slice(0, statedIdsMax),
          removed: members.flatMap(({ removed }) => removed).slice(0, statedIdsMax),
        }),
  };
}

/** Digest of ids given in any order; each counts once. */
export function digestOfIds(ids: readonly string[]): string {
  return digestOf("sha256", [...new Set(ids)].sort().join("\n"), "hex");
}

const endsSessions = new Set(["SessionRevoked", "UserSessionsRevoked", "UserSuspended", "UserErased"]);
const endsCredentials = new Set(["DeviceRemoved", "ServiceAccountRevoked"]);

/**
 * The exact meaning of `complete` for a change, stated no stronger than it is.
 * @param nodes the nodes of the receipt; a fenced one may be frozen, with data that its kernel still sends
 */
export function promiseOf(
  changes: readonly Pick<StatedChange, "type">[] | null,
  nodes: readonly Pick<StatedNode, "status">[] = [],
): string {
  const promise = promiseOfApplied(changes?.map(({ type }) => type) ?? []);
  return nodes.some(({ status }) => status === "fenced") ? `${promise}; ${keptByKernels}` : promise;
}

function promiseOfApplied(types: readonly string[]): string {
  if (types.some((type) => endsSessions.has(type))) {
    const whose = types.includes("SessionRevoked") ? "these sessions" : "the sessions that this user had";
    const erased = types.includes("UserErased") ? `; ${keyDropped}` : "";
    return `no node permits another request, or carries another byte, on ${whose}${erased}`;
  }
  if (types.some((type) => endsCredentials.has(type)))
    return "no node permits another request on the strength of this credential";
  if (types.includes("GroupMembersChanged") || types.includes("GroupRemoved"))
    return "every node decides by the changed memberships, and has closed what they no longer permit; what other rights permit continues";
  return "every node decides by the log up to this change, and has closed what it no longer permits";
}

const keyDropped = "each applied node has dropped the key of the person and the personal data that it had opened";
const keptByKernels = "the kernel of a fenced node may still send what it held of connections that were open";

/** Builds the claims of a receipt before the leader sends it. */
export function stateReceipt(
  receipt: Receipt,
  of: Readonly<{
    cluster: string;
    brokerId: BrokerId;
    at: UnixMs;
    recorded: RecordedChange | null;
    durability: Durability | null;
  }>,
): ReceiptStatement {
  const changes = of.recorded?.changes ?? null;
  return {
    version: 1,
    cluster: of.cluster,
    broker: of.brokerId,
    epoch: receipt.epoch,
    at: iso(of.at),
    status: receipt.status,
    complete: receipt.complete,
    wait: receipt.wait,
    region: receipt.region,
    command: receipt.commandId ?? of.recorded?.commandId ?? null,
    link: receipt.link === null ? null : formatLink(receipt.link),
    ...(of.durability === null ? {} : { durability: of.durability }),
    changes,
    promise: promiseOf(changes, receipt.nodes),
    nodes: receipt.nodes.map((node) => stateNode(node, of.at)),
    ...(receipt.regions === undefined ? {} : { regions: receipt.regions.map((region) => stateRegion(region, of.at)) }),
  };
}

/** No time after the receipt's own: the leader's wall clock may have been set back meanwhile. */
function stateRegion({ heardAt, ...region }: ReceiptRegion, at: UnixMs): StatedRegion {
  return { ...region, heardAt: heardAt === null ? null : iso(Math.min(heardAt, at) as UnixMs) };
}

function stateNode(node: ReceiptNode, at: UnixMs): StatedNode {
  const { fencedInMs, enforced, confirmedAt = null } = node;
  return {
    node: node.node,
    boot: node.boot,
    region: node.region,
    role: node.role,
    status: node.status,
    enforced: enforced === null ? null : formatLink(enforced),
    fencedAt: fencedInMs === null ? null : iso((at + fencedInMs) as UnixMs),
    reason: node.reason,
    ...(confirmedAt === null ? {} : { confirmedAt: iso(Math.min(confirmedAt, at) as UnixMs) }),
  };
}

const text = z.string().max(1_000);
const time = z.iso.datetime();
const stated = z.object({
  version: z.literal(1),
  cluster: text,
  broker: text,
  epoch: z.number().int().nonnegative(),
  at: time,
  status: z.enum(["complete", "incomplete", "lost"]),
  complete: z.boolean(),
  wait: z.enum(["all", "region", "none"]),
  region: text.nullable(),
  command: text.nullable(),
  link: text.nullable(),
  durability: z.enum(["synchronous", "asynchronous", "local", "volatile"]).optional(),
  changes: z
    .array(
      z.object({
        type: text,
        kind: text,
        count: z.number().int().nonnegative(),
        ids: z.array(text),
        idsSha256: z.string().regex(/^[0-9a-f]{64}$/),
        added: z.array(text).optional(),
        removed: z.array(text).optional(),
      }),
    )
    .nullable(),
  promise: text,
  nodes: z.array(
    z.object({
      node: text,
      boot: text,
      region: text,
      role: text,
      reason: text,
      status: z.enum(["applied", "fenced", "unconfirmed"]),
      enforced: text.nullable(),
      fencedAt: time.nullable(),
      confirmedAt: time.optional(),
    }),
  ),
  regions: z
    .array(
      z.object({
        region: text,
        applied: z.number().int().nonnegative(),
        fenced: z.number().int().nonnegative(),
        unconfirmed: z.number().int().nonnegative(),
        absent: z.number().int().nonnegative(),
        cutOff: z.boolean(),
        heardAt: time.nullable(),
      }),
    )
    .optional(),
});

/** @returns undefined when the value is not a receipt statement */
export function parseStatement(value: unknown): ReceiptStatement | undefined {
  const parsed = stated.safeParse(value);
  return parsed.success ? (parsed.data as ReceiptStatement) : undefined;
}

/**
 * Finds a contradiction in the statement; undefined when it is consistent.
 *
 * A node is applied only if it has confirmed the position of the receipt or a later one. It is fenced only if it was
 * fenced by the time of the answer. Complete means that every required node is one or the other.
 */
export function contradictionIn(statement: ReceiptStatement): string | undefined {
  const { status, complete, nodes, changes } = statement;
  if (complete !== (status === "complete")) return `it calls itself ${status} and says complete: ${complete}`;
  const link = linkIn(statement.link);
  if (link === "malformed") return "its link is malformed";
  if (status === "lost") return nodes.length > 0 ? "it says that the change is lost, and lists nodes" : undefined;
  if (link === null) return "it names no link";
  for (const node of nodes) {
    const wrong = wrongOf(node, link, statement.at);
    if (wrong !== undefined) return `node ${node.node} ${wrong}`;
  }
  const awaited = nodes.filter(
    ({ region }) => statement.wait !== "region" || !statement.region || region === statement.region,
  );
  const open = awaited.filter((node) => node.status === "unconfirmed");
  if (complete && open.length > 0)
    return `it calls itself complete, and ${open.map(({ node }) => node).join(", ")} had not confirmed`;
  if (!complete && open.length === 0) return "it calls itself incomplete, and no node is unconfirmed";
  const wrongRegion = regionContradictionIn(statement);
  if (wrongRegion !== undefined) return wrongRegion;
  const short = changes?.find(({ ids, count, idsSha256 }) => ids.length >= count && digestOfIds(ids) !== idsSha256);
  return short === undefined ? undefined : `its list of ${short.type} does not match its digest`;
}

/** The regions only summarize the nodes. `complete` never follows from them. */
function regionContradictionIn({ regions = [], nodes, at }: ReceiptStatement): string | undefined {
  for (const stated of regions) {
    const own = nodes.filter((node) => node.region === stated.region && !isLostHistory(node));
    const differs = statuses.some((status) => own.filter((node) => node.status === status).length !== stated[status]);
    if (differs) return `its numbers of region ${stated.region} do not match its nodes`;
    if (stated.heardAt !== null && Date.parse(stated.heardAt) > Date.parse(at))
      return `it says that region ${stated.region} was heard from after the receipt`;
  }
  return undefined;
}

const statuses = ["applied", "fenced", "unconfirmed"] as const satisfies readonly StatedNode["status"][];

function wrongOf({ status, enforced, fencedAt, confirmedAt }: StatedNode, link: Link, at: string): string | undefined {
  if (confirmedAt !== undefined && status !== "applied") return `is called ${status}, with a time of confirmation`;
  if (confirmedAt !== undefined && Date.parse(confirmedAt) > Date.parse(at)) return "had confirmed after the receipt";
  switch (status) {
    case "applied": {
      const place = linkIn(enforced);
      if (place === null || place === "malformed") return "is called applied, without the position that it confirmed";
      const reached = place.position >= link.position && place.epoch >= link.epoch;
      return reached
        ? undefined
        : `is called applied, but had confirmed position ${place.position} of epoch ${place.epoch}`;
    }
    case "fenced":
      return fencedAt !== null && Date.parse(fencedAt) <= Date.parse(at)
        ? undefined
        : "is called fenced before its lease expired";
    case "unconfirmed":
      return fencedAt === null ? "is unconfirmed, without a time at which it is fenced" : undefined;
  }
}

function linkIn(value: string | null): Link | null | "malformed" {
  if (value === null) return null;
  try {
    return parseLink(value);
  } catch {
    return "malformed";
  }
}

function iso(at: UnixMs): string {
  return new Date(at).toISOString();
}
