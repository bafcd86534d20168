/**
 * Home role: which part a broker plays whose region may hold the leader: it contends for the lead while the Postgres
 * primary is in its region, and serves its region otherwise. Pure.
 *
 * Nothing safe rests on this choice. A broker that wrongly contends at an old primary gets no clean commit, so it
 * publishes, grants and answers nothing (docs/protocol.md §4.4). The choice only has to settle, and not to flap.
 */
import type { Epoch, Incarnation } from "../../events/index.ts";
import type { NewestHead, SeenHeads, ServerHead } from "../../replication/log/index.ts";

/** `home`: it contends for the lead. `region`: it serves its region and never leads. */
export type HomeRole = "home" | "region";

export type HomeEvidence = SeenHeads &
  NewestHead &
  Readonly<{
    /** The Postgres servers of the broker's own region, named as in the connection string. */
    own: ReadonlySet<string>;
    /** The epoch of a leader in another region, as its brokers report it; null: none is known. */
    elsewhere: Epoch | null;
  }>;

export type ChosenRole = Readonly<{ role: HomeRole; why: string }>;

/** @param current null: the broker has just started */
export function chooseRole(current: HomeRole | null, evidence: HomeEvidence): ChosenRole {
  const { newest, own, elsewhere } = evidence;
  const keep = (why: string): ChosenRole => ({ role: current ?? "region", why });
  if (newest === null) {
    if (elsewhere !== null) return { role: "region", why: `another region leads epoch ${elsewhere}` };
    return mayCreateLog(evidence)
      ? { role: "home", why: "the only primary is in this region, and no log exists yet" }
      : keep("no Postgres server with the log answers");
  }
  if (!own.has(newest.host))
    return { role: "region", why: `${nameOf(newest)} has the newest proven epoch, and it is in another region` };
  if (elsewhere !== null && elsewhere > provenEpochOf(newest))
    return { role: "region", why: `another region leads the later epoch ${elsewhere}` };
  if (newest.role === "standby") return keep(`${newest.host} is a standby, and its primary does not answer`);
  if (newest.writes === "refused") return keep(`${newest.host} is a primary and refuses writes`);
  return { role: "home", why: `the primary ${newest.host} is in this region` };
}

/**
 * The leader before the home region moved here: the newest primary is in this region, and its log still names a broker
 * of another one. No broker here has to wait for that leader's silence. If it still writes to this primary, the next
 * epoch fences it, and it then changes its own part. Null: none.
 *
 * @param ownUrls the addresses of the brokers of this region
 */
export function formerLeader({ newest, own }: HomeEvidence, ownUrls: ReadonlySet<string>): Incarnation | null {
  const log = newest?.log ?? null;
  if (newest === null || log === null || newest.role !== "primary" || !own.has(newest.host)) return null;
  return log.brokerUrl === null || ownUrls.has(log.brokerUrl) ? null : log.incarnation;
}

/** Whether to ask the brokers of other regions who leads: what this broker sees may be an old primary. */
export function mustAskElsewhere({ newest, doubt }: Pick<HomeEvidence, "newest" | "doubt">): boolean {
  return newest === null || doubt !== null;
}

/** Whether the home region seems to be moving or lost, so that the servers must be read more often. */
export function isUnsettled({ servers, newest }: Pick<HomeEvidence, "servers" | "newest">): boolean {
  const primaries = servers.filter(({ role, writes }) => role === "primary" && writes === "accepted");
  return newest === null || newest.role === "standby" || newest.writes === "refused" || primaries.length !== 1;
}

function mayCreateLog({ servers, unread, own }: HomeEvidence): boolean {
  const primaries = servers.filter(({ role }) => role === "primary");
  const [only] = primaries;
  return (
    primaries.length === 1 &&
    only !== undefined &&
    own.has(only.host) &&
    unread.length === 0 &&
    servers.every(({ log }) => log === null)
  );
}

function provenEpochOf({ log }: ServerHead): number {
  return log?.durable.epoch ?? 0;
}

function nameOf({ role, host }: ServerHead): string {
  return role === "primary" ? `the primary ${host}` : `the standby ${host}`;
}
