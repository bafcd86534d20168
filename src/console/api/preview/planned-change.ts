/** Planned change: the people and sessions that a command would concern, in this node's copy of the log. */
import { type Command, type GroupId, parseCommandId, type SessionId, type UserId } from "../../../events/index.ts";
import type { AccessChange } from "../held/route-losses.ts";
import type { WorkTurns } from "../lists/turns.ts";
import type { Operator, OperatorApiDeps } from "../operator-route.ts";
import type { PreviewCommand } from "./preview-schemas.ts";

type CommandOf<Type extends Command["type"]> = Extract<Command, { type: Type }>;
export type PreviewedCommand = CommandOf<
  | "revokeSessions"
  | "revokeUserSessions"
  | "suspendUser"
  | "restoreUser"
  | "eraseUser"
  | "changeGroupMembers"
  | "removeGroup"
>;
/** `more`: a filter matches more sessions than the command names. */
export type Planned = Readonly<{ given: PreviewCommand; command: PreviewedCommand; more: boolean }>;

export type Affected = Readonly<{
  people: readonly UserId[];
  /** Live sessions that end. */
  sessions: number;
  endedSessions: ReadonlySet<SessionId>;
  /** Live sessions of these people. */
  liveSessions: number;
  access: AccessChange;
  effect: Readonly<{ refusal: string | null; changes: boolean; held: boolean }>;
}>;

const noGroups: ReadonlyMap<UserId, readonly GroupId[]> = new Map();

export async function affectedBy(
  deps: OperatorApiDeps,
  { actor }: Pick<Operator, "actor">,
  { command }: Planned,
  turns: WorkTurns,
): Promise<Affected> {
  // A process that is only a proxy never loads the broker.
  const { previewChange, previewEffect } = await import("../../../broker/index.ts");
  const { projection } = deps.replica;
  const now = deps.now();
  if (command.type === "changeGroupMembers" || command.type === "removeGroup") {
    const commandId = parseCommandId(deps.uuid());
    const limits = deps.massChange === undefined ? {} : { limits: deps.massChange };
    const preview = previewChange(projection, { commandId, actor, command }, { now, ...limits });
    if (preview === undefined) throw new TypeError("a change of groups cannot be counted");
    const { refusal, taken, given, counted, limit } = preview;
    const people = [...new Set([...preview.people, ...given.keys()])];
    const held = refusal === null && preview.people.length > 0 && counted > limit;
    const named = command.type === "removeGroup" ? 1 : command.added.length + command.removed.length;
    return {
      people,
      sessions: 0,
      endedSessions: new Set(),
      liveSessions: (await liveSessionsOf(deps, people, turns)).size,
      access: { ...taken, given },
      effect: { refusal, changes: refusal === null && named > 0, held },
    };
  }
  const { refusal, changes } = previewEffect(projection, command, now);
  const effect = { refusal, changes, held: false };
  if (command.type === "revokeSessions") {
    const ended = new Set<SessionId>();
    const people = new Set<UserId>();
    for (const id of command.sessionIds) {
      const session = projection.session(id);
      await turns.step();
      if (session?.status !== "active" || session.expiresAt <= now) continue;
      if (projection.statusOf(session).status !== "active") continue;
      ended.add(id);
      people.add(session.userId);
    }
    const liveSessions = (await liveSessionsOf(deps, [...people], turns)).size;
    const access = { groups: noGroups, ended: [...people] };
    return { people: [...people], sessions: ended.size, endedSessions: ended, liveSessions, access, effect };
  }
  const people = [command.userId];
  const live = await liveSessionsOf(deps, people, turns);
  const isRestore = command.type === "restoreUser";
  const isBarred = projection.user(command.userId)?.status === "suspended";
  const access = isRestore
    ? { groups: noGroups, ended: [], restored: isBarred ? people : [] }
    : { groups: noGroups, ended: people };
  const ended: ReadonlySet<SessionId> = isRestore ? new Set() : live;
  return { people, sessions: ended.size, endedSessions: ended, liveSessions: live.size, access, effect };
}

async function liveSessionsOf(
  { replica, now }: OperatorApiDeps,
  people: readonly UserId[],
  turns: WorkTurns,
): Promise<ReadonlySet<SessionId>> {
  const { projection } = replica;
  const live = new Set<SessionId>();
  for (const userId of people) {
    for (const id of projection.sessionsOf(userId)) {
      const session = projection.session(id);
      if (session?.status !== "active" || session.expiresAt <= now()) continue;
      if (projection.statusOf(session).status === "active") live.add(id);
    }
    await turns.step();
  }
  return live;
}
