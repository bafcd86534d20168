/**
 * Mass change monitors: what takes a group from too many people waits for an operator.
 *
 * - No change takes a group from more people than the limit, counted with those of its source within the window, unless
 *   an operator has released it.
 * - A held change has no effect. A released one has it once, in the same batch; a dropped or ended one never.
 * - What is within the limit is not held.
 *
 * Ends of memberships and windows are times of the leader's clock: what is near one counts as neither.
 */
import type { MassChangeLimits } from "../../../../src/broker/commands/performed.ts";
import { type Command, decode, sourceOfClient } from "../../../../src/events/index.ts";
import type { SimFactOf } from "../../facts.ts";
import type { LogPoint } from "../chains.ts";
import type { GroundTruth } from "../ground-truth.ts";
import { formatLink } from "../log-monitors.ts";
import type { Monitor } from "../monitor.ts";
import { listIn } from "./logout-monitors.ts";
import { type WrittenCommand, WrittenCommands } from "./written-commands.ts";

type EventOf<Type extends string> = Extract<NonNullable<LogPoint["recorded"]>["event"], { type: Type }>;
type Held = Readonly<{ point: LogPoint; event: EventOf<"MassChangeHeld" | "HeldChangeEnded" | "HeldChangeNarrowed"> }>;
type Loss = Readonly<{ point: LogPoint; at: number; user: string }>;

const slackMs = 3_000;

export function watchMassChanges(truth: GroundTruth, limits: MassChangeLimits | null): Monitor {
  const { chains, findings, observations, rights } = truth;
  const written = new WrittenCommands(truth);
  /** By the id of the held change. */
  const held = new Map<string, Held[]>();
  /** By source; also when a release begins its count again. */
  const losses = new Map<string, Loss[]>();

  /** @param surely leaves out memberships that are near their own end */
  function losersOf({ before, points }: WrittenCommand, surely: boolean): Set<string> {
    const losers = new Set<string>();
    for (const { recorded, before: previous } of points) {
      if (recorded === null) continue;
      const { event, recordedAt } = recorded;
      const group = event.type === "GroupMembersChanged" || event.type === "GroupRemoved" ? event.groupId : null;
      if (group === null || previous === null) continue;
      const users = event.type === "GroupMembersChanged" ? event.removed : rights.membersOf(group);
      const after = truth.find(recorded) ?? before;
      for (const user of users) {
        const end = rights.endOf(user, group, previous);
        if (surely && end !== null && end < recordedAt + slackMs) continue;
        const isIn = rights.groupDenial(user, group, previous) === null;
        if (isIn && rights.groupDenial(user, group, after) !== null) losers.add(user);
      }
    }
    return losers;
  }

  function checkLoss(command: WrittenCommand, fact: SimFactOf<"wrote">): void {
    const { recorded } = command.last;
    if (recorded === null || limits === null) return;
    const releases = command.points.some(
      ({ recorded: own }) => own?.event.type === "HeldChangeEnded" && own.event.outcome === "released",
    );
    const losers = losersOf(command, true);
    if (losers.size === 0) return;
    const { actor, recordedAt } = recorded;
    const [source = actor] = actor.split("#", 1);
    const earlier = /^(?:operator|user):/.test(source) ? [] : recentLosses(source, command.before, recordedAt);
    for (const user of losers)
      if (!releases) listIn(losses, source).push({ point: command.last, at: recordedAt, user });
    if (releases || command.command?.type === "releaseHeldChange") return;
    observations.add("loss-checked");
    const counted = new Set([...losers, ...earlier]).size;
    const limit = limitAt();
    if (counted <= limit) return;
    const what = `${source} takes a group from ${losers.size} people at ${formatLink(command.last.link)}, ${counted} with those before, and more than ${limit} need an operator`;
    findings.add("mass-held", what, [fact]);
  }

  function recentLosses(source: string, before: LogPoint, recordedAt: number): readonly string[] {
    if (limits === null) return [];
    const since = Math.max(recordedAt - limits.windowMs + slackMs, countBegins(source, before));
    return (losses.get(source) ?? [])
      .filter(({ point, at }) => at > since && chains.contains(before, point))
      .map(({ user }) => user);
  }

  /** A release begins the count of its source again. */
  function countBegins(source: string, before: LogPoint): number {
    let newest = Number.NEGATIVE_INFINITY;
    for (const all of held.values()) {
      const [first] = all;
      if (first?.event.type !== "MassChangeHeld" || first.event.source !== source) continue;
      for (const { event, point } of all)
        if (event.type === "HeldChangeEnded" && event.outcome === "released" && chains.contains(before, point))
          newest = Math.max(newest, point.recorded?.recordedAt ?? newest);
    }
    return newest;
  }

  /** The limits of the simulation make the share irrelevant: one person in groups is 1 of 1. */
  function limitAt(): number {
    return limits === null ? Number.POSITIVE_INFINITY : Math.min(limits.peopleMax, limits.peopleMin);
  }

  function historyAt(heldId: string, point: LogPoint): readonly Held[] {
    return (held.get(heldId) ?? []).filter((each) => each.point !== point && chains.contains(point, each.point));
  }

  function checkHeld(command: WrittenCommand, fact: SimFactOf<"wrote">): void {
    for (const point of command.points) {
      const event = point.recorded?.event;
      if (event?.type === "MassChangeHeld") noteHeld(command, { point, event }, fact);
      else if (event?.type === "HeldChangeEnded") {
        if (event.outcome === "released" || event.outcome === "dropped") checkDecided(command, { point, event }, fact);
        listIn(held, event.heldId).push({ point, event });
      } else if (event?.type === "HeldChangeNarrowed") listIn(held, event.heldId).push({ point, event });
    }
    const isRelease = command.command?.type === "releaseHeldChange";
    const isEnded = command.points.some(({ recorded }) => recorded?.event.type === "HeldChangeEnded");
    if (isRelease && !isEnded)
      findings.add("held-decided", `a release at ${formatLink(command.last.link)} does not end what was held`, [fact]);
  }

  function noteHeld(
    command: WrittenCommand,
    { point, event }: Readonly<{ point: LogPoint; event: EventOf<"MassChangeHeld"> }>,
    fact: SimFactOf<"wrote">,
  ): void {
    observations.add("held-checked");
    listIn(held, event.heldId).push({ point, event });
    if (losersOf(command, false).size > 0)
      findings.add("held-inert", `a change that is held at ${formatLink(point.link)} has an effect`, [fact]);
    const isOperator = event.source.startsWith("operator:");
    if (isOperator && event.people <= limitAt() && limits !== null) {
      const what = `a change of ${event.people} people is held at ${formatLink(point.link)}, and ${limitAt()} are no mass change`;
      findings.add("held-inert", what, [fact]);
    }
  }

  function checkDecided(
    command: WrittenCommand,
    { point, event }: Readonly<{ point: LogPoint; event: EventOf<"HeldChangeEnded"> }>,
    fact: SimFactOf<"wrote">,
  ): void {
    observations.add("held-decision-checked");
    const before = historyAt(event.heldId, point);
    const isOver = before.at(-1)?.event.type === "HeldChangeEnded";
    if (before.length === 0 || isOver) {
      const was = before.at(-1)?.event;
      const state = was?.type === "HeldChangeEnded" ? was.outcome : "never held";
      findings.add(
        "held-decided",
        `${event.heldId} is ${event.outcome} at ${formatLink(point.link)}, and was ${state}`,
        [fact],
      );
      return;
    }
    const newest = before.findLast((each) => each.event.type === "MassChangeHeld")?.event;
    if (event.outcome !== "released" || newest?.type !== "MassChangeHeld") return;
    const remaining = remainingOf(before, decode(newest.template) as Command, command.last);
    if (remaining === null) return;
    const what = `${event.heldId} is released at ${formatLink(point.link)}, and ${remaining} still has what it takes`;
    findings.add("held-decided", what, [fact]);
  }

  /** A person who still has what the released change had to take; null: there is none. */
  function remainingOf(before: readonly Held[], command: Command, after: LogPoint): string | null {
    const isOfGroup = command.type === "changeGroupMembers" || command.type === "writeProvisionedGroup";
    if (!isOfGroup && command.type !== "announceEnds") return null;
    const removed = new Set<string>();
    for (const { event } of before) {
      if (event.type === "HeldChangeNarrowed") for (const user of event.withdrawn) removed.delete(user);
      if (event.type !== "MassChangeHeld") continue;
      if (event.base === "empty") removed.clear();
      for (const user of event.added) removed.delete(user);
      for (const user of event.removed) removed.add(user);
    }
    const remains = [...removed].find((user) =>
      command.type === "announceEnds"
        ? rights.isKnown(user, after) && rights.userDenial(user, after) === null
        : rights.sourcesOf(user, command.groupId, after).has(sourceOf(command)),
    );
    return remains ?? null;
  }

  function sourceOf(command: Extract<Command, { type: "changeGroupMembers" | "writeProvisionedGroup" }>): string {
    return command.type === "changeGroupMembers" ? command.source : sourceOfClient(command.client);
  }

  return {
    invariants: ["mass-held", "held-inert", "held-decided"],
    ...written.handlers((command, fact) => {
      checkLoss(command, fact);
      checkHeld(command, fact);
    }),
  };
}
