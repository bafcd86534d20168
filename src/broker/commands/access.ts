/**
 * Access: which streams carrying out a command reads and writes, so that a batch never holds two commands of which one
 * could see the other's change. All of them are carried out against one head; what touches the same stream waits for the
 * next batch. Pure, and generous: a stream too many costs a batch, one too few would cost the truth.
 */
import {
  type Command,
  clusterStream,
  configurationStream,
  groupStream,
  type Projection,
  type Stream,
  sessionStream,
  sweepStream,
  type UserId,
  unreachable,
  userStream,
} from "../../events/index.ts";
import { groupsSaidBy } from "./session-commands.ts";

export type Access = Readonly<{ reads: readonly Stream[]; writes: readonly Stream[] }>;

/** Final facts about a credential or person: these overtake the others. */
export function tightens(command: Command): boolean {
  switch (command.type) {
    case "revokeSession":
    case "revokeSessions":
    case "revokeUserSessions":
    case "suspendUser":
    case "eraseUser":
    case "reassertTightenings":
      return true;
    default:
      return false;
  }
}

export function accessOf(command: Command, projection: Projection): Access {
  switch (command.type) {
    case "createSession": {
      const { sessionId, userId, groupIds } = command;
      const groups = groupIds === null ? [] : [...groupIds, ...groupsSaidBy(projection, userId)].map(groupStream);
      const others = projection.sessionsOf(userId);
      const counted = others.length >= command.maxSessionsPerUser ? others.map(sessionStream) : [];
      return { reads: [...groups, ...counted], writes: [sessionStream(sessionId), userStream(userId)] };
    }
    case "refreshSession": {
      const userId = projection.session(command.sessionId)?.userId ?? undefined;
      const groups = command.groupIds ?? [];
      if (userId === undefined) return { reads: [], writes: [sessionStream(command.sessionId)] };
      const held = command.groupIds === null ? [] : groupsSaidBy(projection, userId);
      return {
        reads: [...groups, ...held].map(groupStream),
        writes: [sessionStream(command.sessionId), userStream(userId)],
      };
    }
    case "startRefresh":
    case "keepTokens": {
      const userId = projection.session(command.sessionId)?.userId ?? undefined;
      return { reads: userId === undefined ? [] : [userStream(userId)], writes: [sessionStream(command.sessionId)] };
    }
    case "revokeSession":
      return { reads: [], writes: [sessionStream(command.sessionId)] };
    case "revokeSessions":
      return { reads: [], writes: command.sessionIds.map(sessionStream) };
    case "revokeUserSessions":
    case "suspendUser":
    case "restoreUser":
    case "eraseUser":
      return { reads: [], writes: [userStream(command.userId)] };
    case "changeGroupMembers":
      return { reads: [...command.added, ...command.removed].map(userStream), writes: [groupStream(command.groupId)] };
    case "removeGroup":
      return { reads: [], writes: [groupStream(command.groupId)] };
    case "expireSessions":
      return { reads: [], writes: [sweepStream, ...command.sessionIds.map(sessionStream)] };
    case "activateConfiguration":
      return { reads: [], writes: [configurationStream(command.nodeId)] };
    case "recordSnapshot":
    case "finalizeUpgrade":
      return { reads: [], writes: [clusterStream] };
    case "reassertTightenings":
      return { reads: [], writes: command.events.map(({ stream }) => stream) };
    default:
      return unreachable(command);
  }
}

/** The person whose key carrying out a command may need. */
export function personIn(command: Command, projection: Projection): UserId | undefined {
  if (command.type === "createSession") return command.userId;
  if (command.type === "refreshSession") return projection.session(command.sessionId)?.userId ?? undefined;
  return undefined;
}

/** Streams in use, to be compared with those of the next command. */
export class AccessSet {
  readonly #reads = new Set<Stream>();
  readonly #writes = new Set<Stream>();

  add({ reads, writes }: Access): void {
    for (const stream of reads) this.#reads.add(stream);
    for (const stream of writes) this.#writes.add(stream);
  }

  /** True when one of the two would see, or undo, the other's change. */
  conflicts({ reads, writes }: Access): boolean {
    for (const stream of writes) if (this.#writes.has(stream) || this.#reads.has(stream)) return true;
    for (const stream of reads) if (this.#writes.has(stream)) return true;
    return false;
  }
}
