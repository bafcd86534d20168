/** Blast radius: the people and routes that a change of groups would concern. */
import { typedActor } from "../../../audit/index.ts";
import { type Command, type GroupId, massChangeFrom, parseCommandId, type UserId } from "../../../events/index.ts";
import type { OperatorApiDeps } from "../operator-route.ts";
import { profileOfUser } from "../operator-views.ts";
import { findRouteLosses, type RouteLosses, type TakenFrom } from "./route-losses.ts";

/** People who are named; the others are counted. */
const namedMax = 1_000;
const groupsMax = 1_000;
const routesMax = 1_000;

export type BlastRadius = Readonly<{
  /** How many people would lose a group or their access now. */
  people: number;
  /** The first thousand of them. */
  named: readonly Readonly<{ userId: string; email: string }>[];
  groups: readonly string[];
  /** The routes of this server's configuration whose policies name one of the groups, the first thousand. */
  routes: readonly string[];
  /** Who would lose which of these routes. */
  lost: RouteLosses;
  /** Why the change would be refused now; null: it would not. */
  refusal: string | null;
}>;
export type PreviewAnswer = Readonly<{ dryRun: true; held: boolean; counted: number; limit: number }> & BlastRadius;

/** What a change would do, without making it. */
export async function answerPreview(
  deps: OperatorApiDeps,
  actor: string,
  command: Command,
): Promise<PreviewAnswer | undefined> {
  // A process that is only a proxy never loads the broker.
  const { previewChange } = await import("../../../broker/index.ts");
  // The answer names people, and nothing else records who has seen it.
  if (command.type === "changeGroupMembers" || command.type === "removeGroup") {
    const operation = `POST /groups/:group/${command.type === "removeGroup" ? "remove" : "members"}`;
    const targets = [`group:${command.groupId}`];
    deps.access.read({ operation, actor: typedActor(actor), targets, ip: deps.callerIp() });
  }
  const commandId = parseCommandId(deps.uuid());
  const now = deps.now();
  const limits = deps.massChange === undefined ? {} : { limits: deps.massChange };
  const preview = previewChange(deps.replica.projection, { commandId, actor, command }, { now, ...limits });
  if (preview === undefined) return undefined;
  const { counted, limit } = preview;
  const { level } = deps.replica.projection;
  return {
    dryRun: true,
    held: level >= massChangeFrom && preview.refusal === null && preview.people.length > 0 && counted > limit,
    counted,
    limit,
    ...(await describeRadius(deps, preview)),
  };
}

export async function describeRadius(
  deps: OperatorApiDeps,
  {
    people,
    groups,
    refusal,
    taken,
  }: Readonly<{ people: readonly UserId[]; groups: readonly GroupId[]; refusal: string | null; taken: TakenFrom }>,
): Promise<BlastRadius> {
  const lost = await findRouteLosses(deps, taken);
  const named = new Set(groups as readonly string[]);
  const routes = (deps.routePolicies?.() ?? [])
    .filter(({ policy }) => policy.groupsNamed.some((group) => named.has(group)))
    .map(({ from }) => from);
  return {
    people: people.length,
    named: people
      .slice(0, namedMax)
      .map((userId) => ({ userId, email: profileOfUser(deps.replica, userId)?.email ?? "" })),
    groups: groups.slice(0, groupsMax),
    routes: [...new Set(routes)].slice(0, routesMax),
    lost,
    refusal,
  };
}
