/** Member origin: when the log last changed a membership, and who did. */
import {
  decodeEvents,
  type GroupId,
  groupStream,
  type Position,
  type Recorded,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import { BrokerUnavailableError } from "../../../replication/wire/index.ts";
import { describeActor } from "../changes/change-view.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import type { MemberView } from "../operator-views.ts";

export type MemberWithOrigin = MemberView &
  Readonly<{ since: string | null; by: string | null; byName: string | null }>;

/** Events that are read for one page; members of the others have no origin. */
const readMax = 100;
const atOnce = 8;

export async function withOrigins(
  deps: OperatorApiDeps,
  groupId: GroupId,
  members: readonly MemberView[],
): Promise<readonly MemberWithOrigin[]> {
  const positions = new Map<string, Position>();
  for (const { userId } of members) {
    const { position, exact } = deps.replica.places.ofMembership(userId as UserId, groupId);
    if (exact && position > 0) positions.set(userId, position);
  }
  const wanted = new Map<Position, string>();
  for (const [userId, position] of positions)
    if (wanted.size < readMax && !wanted.has(position)) wanted.set(position, userId);
  const events = await readEvents(deps, groupId, [...wanted]);
  return members.map((member) => {
    const event = events.get(positions.get(member.userId) ?? (0 as Position));
    if (event === undefined) return { ...member, since: null, by: null, byName: null };
    const by = event.actor;
    const since = new Date(event.recordedAt).toISOString();
    return { ...member, since, by, byName: describeActor(by, deps.replica).name };
  });
}

export function withoutOrigins(members: readonly MemberView[]): readonly MemberWithOrigin[] {
  return members.map((member) => ({ ...member, since: null, by: null, byName: null }));
}

async function readEvents(
  deps: OperatorApiDeps,
  groupId: GroupId,
  wanted: readonly (readonly [Position, string])[],
): Promise<ReadonlyMap<Position, Recorded>> {
  const events = new Map<Position, Recorded>();
  for (let from = 0; from < wanted.length; from += atOnce) {
    const some = wanted.slice(from, from + atOnce);
    const pages = await Promise.all(
      some.map(([upTo, userId]) => {
        const streams = [groupStream(groupId), userStream(userId as UserId)];
        return deps.databroker.history({ streams, upTo, depth: 1 }).catch((error: unknown) => {
          if (error instanceof BrokerUnavailableError) return undefined;
          throw error;
        });
      }),
    );
    if (pages.includes(undefined)) return events; // no broker answers: the page is shown without
    for (const page of pages)
      for (const { previous, bytes } of page?.found ?? [])
        for (const recorded of decodeEvents([bytes], previous)) events.set(recorded.position, recorded);
  }
  return events;
}
