/**
 * Level readiness: which brokers and nodes cannot read a feature level yet. Pure.
 *
 * Once a level is final, a node that cannot read it permits nothing. So the leader refuses to finalize it while a
 * broker or node that is present, or may still decide, cannot read it or has not said. A process that is down learns it
 * when it returns: a node gets no lease, and a broker does not lead.
 */
import type { LesseeStatus } from "../../replication/lease/index.ts";
import { type Peer, peerSilentMsMax } from "./broker-presence.ts";

export type LevelReaders = Readonly<{
  /** The level that this build reads. */
  reads: number;
  lessees: readonly LesseeStatus[];
  peers: readonly Peer[];
  /** How long this broker has led; gossip of the others arrives meanwhile. Infinity: there are no others. */
  ledForMs: number;
}>;

/** @returns why the level cannot be finalized now, each reason with a name; empty: it can */
export function unreadyFor(level: number, { reads, lessees, peers, ledForMs }: LevelReaders): readonly string[] {
  const reasons: string[] = [];
  if (reads < level) reasons.push(`the leading broker reads level ${reads}`);
  for (const { node, fencedInMs, renew } of lessees) {
    if (renew === null && fencedInMs > 0)
      reasons.push(
        `${node} has sent nothing since this broker became leader, and may decide for another ${seconds(fencedInMs)}`,
      );
    else if (renew !== null && renew.reads < level && fencedInMs > 0)
      reasons.push(`${node} (version ${renew.version}) reads level ${renew.reads}`);
  }
  for (const { brokerId, version, reads: theirs } of peers)
    if (theirs < level) reasons.push(`broker ${brokerId} (version ${version}) reads level ${theirs}`);
  if (ledForMs < peerSilentMsMax)
    reasons.push(
      `this broker has led for only ${seconds(ledForMs)}, and gossip of the others may not have arrived yet`,
    );
  return reasons;
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1_000)} s`;
}
