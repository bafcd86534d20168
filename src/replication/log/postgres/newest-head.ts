/**
 * Newest head: which of several Postgres servers holds the newest proven history of the log, and which others rival it.
 * Pure; postgres/server-heads.ts queries the servers.
 *
 * - An epoch is proven when the head row holds a link of that epoch which a clean commit has covered (`durable`). An
 *   old primary that was not stopped keeps accepting connections, but it gets no clean commit and so proves no newer
 *   epoch.
 * - Before the first commit after a promotion the epochs are equal. The timeline is then newer on the promoted server.
 * - A server that did not answer may hold a newer epoch, unless the newest server shows that its commits are
 *   replicated at present: the standbys that it needs for that have not stopped, so no other server was promoted in the
 *   order of docs/adr/0019-promotion-without-timing.md.
 */
import { type Epoch, formatLink, type Incarnation, type Link } from "../../../events/index.ts";
import type { Durability } from "../log.ts";

/** The head row of one server. */
export type LogHead = Readonly<{
  cluster: string;
  epoch: Epoch;
  incarnation: Incarnation | null;
  brokerId: string | null;
  brokerUrl: string | null;
  beat: number;
  head: Link;
  /** The newest link that the writer knew to be covered by a clean commit. */
  durable: Link;
  /** Whether the standbys of a primary hold its log now. `asynchronous` also where this was not checked. */
  durability: Durability;
}>;

export type ServerHead = Readonly<{
  /** Host and port, for people. */
  host: string;
  /** `cluster_name` of the server. */
  name: string;
  role: "primary" | "standby";
  /** `refused`: `default_transaction_read_only` is on. */
  writes: "accepted" | "refused";
  /** Null: the role may not see it. */
  system: string | null;
  timeline: number | null;
  /** Null: the server has no log in this schema. */
  log: LogHead | null;
}>;

export type UnreadServer = Readonly<{ host: string; problem: string }>;

export type SeenHeads = Readonly<{ servers: readonly ServerHead[]; unread: readonly UnreadServer[] }>;

export type Rival = Readonly<{ host: string; why: string }>;

export type NewestHead = Readonly<{
  /** Null: no server that answers has the log. */
  newest: ServerHead | null;
  /** Former primaries that refuse writes and whose events the newest log holds. */
  fenced: readonly ServerHead[];
  rivals: readonly Rival[];
  /** Why the newest server could still be an old one; null: it is shown to be the newest. */
  doubt: string | null;
}>;

/** The server with the newest proven epoch; null: none has the log of this cluster. */
export function newestOf({ servers }: Pick<SeenHeads, "servers">, cluster: string): ServerHead | null {
  const [first = null] = servers
    .filter(({ log }) => log !== null && log.cluster === cluster)
    .toSorted((a, b) => compareHeads(b, a));
  return first;
}

/** Negative: `a` is older than `b`. */
export function compareHeads(a: ServerHead, b: ServerHead): number {
  const epochs = (a.log?.durable.epoch ?? 0) - (b.log?.durable.epoch ?? 0);
  if (epochs !== 0) return epochs;
  if (a.role !== b.role) return a.role === "primary" ? 1 : -1;
  // A primary that its standbys follow was not replaced.
  const [followedA, followedB] = [isFollowed(a), isFollowed(b)];
  if (followedA !== followedB) return followedA ? 1 : -1;
  const sameSystem = a.system !== null && a.system === b.system;
  const timelines = sameSystem ? (a.timeline ?? 0) - (b.timeline ?? 0) : 0;
  return timelines === 0 ? (a.log?.durable.position ?? 0) - (b.log?.durable.position ?? 0) : timelines;
}

function isFollowed({ log }: ServerHead): boolean {
  return log?.durability === "synchronous";
}

/** The link of another server that the newest one must hold, unless that server rivals it. */
export function linkToHold({ role, log }: ServerHead): Link | null {
  if (log === null) return null;
  // A standby may show a commit before its primary does: only what is proven can be compared.
  return role === "primary" ? log.head : log.durable;
}

/** @param holds the hosts whose link (`linkToHold`) the newest server holds */
export function judgeHeads(
  { servers, unread }: SeenHeads,
  { cluster, holds }: Readonly<{ cluster: string; holds: ReadonlySet<string> }>,
): NewestHead {
  const newest = newestOf({ servers }, cluster);
  if (newest === null) return { newest, fenced: [], rivals: [], doubt: null };
  const others = servers.filter((server) => server !== newest);
  const fenced = others.filter(
    ({ host, role, writes }) => role === "primary" && writes === "refused" && holds.has(host),
  );
  const rivals = others
    .filter((server) => !fenced.includes(server))
    .flatMap((server): Rival[] => {
      const why = rivalry(server, { cluster, isHeld: holds.has(server.host) });
      return why === null ? [] : [{ host: server.host, why }];
    });
  return { newest, fenced, rivals, doubt: doubtOf(newest, { unread, rivals }) };
}

function rivalry(
  { role, log }: ServerHead,
  { cluster, isHeld }: Readonly<{ cluster: string; isHeld: boolean }>,
): string | null {
  const acts = role === "primary" ? "acts as a primary" : "is a standby";
  if (log === null) return role === "primary" ? "acts as a primary and has no log" : null;
  if (log.cluster !== cluster) return `holds the log of cluster ${JSON.stringify(log.cluster)}`;
  const at = `epoch ${log.epoch}, head ${formatLink(log.head)}`;
  if (!isHeld) return `${acts} and holds events that the newest log does not hold (${at})`;
  return role === "primary" ? `${acts} (${at})` : null;
}

function doubtOf(
  newest: ServerHead,
  { unread, rivals }: Readonly<{ unread: readonly UnreadServer[]; rivals: readonly Rival[] }>,
): string | null {
  if (newest.role === "standby")
    return rivals.length === 0 && unread.length === 0
      ? null
      : "its primary was not read, so newer events may exist there";
  if (unread.length === 0 || isFollowed(newest)) return null;
  const silent = unread.map(({ host }) => host).join(", ");
  return `${silent} did not answer and may hold a newer epoch`;
}
