/**
 * Level readiness: which brokers and nodes cannot read a feature level yet. Pure.
 *
 * After a level is finalized, whoever cannot read it permits nothing any more. So a leader refuses to finalize it while anybody who is
 * there, or may still be deciding, cannot read it, or has not said whether it can. What it cannot know of (somebody who is down) is
 * told when it comes back: it gets no lease, and a broker does not lead.
 */
import type { LesseeStatus } from "../../replication/index.ts";
import { type Peer, peerSilentMsMax } from "./broker-presence.ts";

export type LevelReaders = Readonly<{
  /** This build's own. */
  reads: number;
  lessees: readonly LesseeStatus[];
  peers: readonly Peer[];
  /** How long we have led: the other brokers tell us of themselves in that time. Infinity: there are none. */
  ledForMs: number;
}>;

/** @returns why the level cannot be finalized now, each with a name; empty: it can */
export function unreadyFor(level: number, { reads, lessees, peers, ledForMs }: LevelReaders): readonly string[] {
  const reasons: string[] = [];
  if (reads < level) reasons.push(`the leading broker reads level ${reads}`);
  for (const { node, fencedInMs, renew } of lessees) {
    if (renew === null && fencedInMs > 0)
      reasons.push(
        `${node} has not been heard from since this broker leads, and may decide for another ${seconds(fencedInMs)}`,
      );
    else if (renew !== null && renew.reads < level && fencedInMs > 0)
      reasons.push(`${node} (version ${renew.version}) reads level ${renew.reads}`);
  }
  for (const { brokerId, version, reads: theirs } of peers)
    if (theirs < level) reasons.push(`broker ${brokerId} (version ${version}) reads level ${theirs}`);
  if (ledForMs < peerSilentMsMax)
    reasons.push(`this broker leads only since ${seconds(ledForMs)}, and the others may not have been heard from yet`);
  return reasons;
}

function seconds(ms: number): string {
  return `${Math.ceil(ms / 1_000)} s`;
}
