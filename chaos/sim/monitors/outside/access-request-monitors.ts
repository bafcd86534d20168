/**
 * Access request monitors: what an approver decides, and what follows from it.
 *
 * - A request is decided once, while it waits, by another person than the one who asked.
 * - A membership of the source `request` is given by an approval alone, in the same batch and with the same end. It is
 *   gone when the log says that the request has ended.
 */
import type { SimFactOf } from "../../facts.ts";
import type { LogPoint } from "../chains.ts";
import type { GroundTruth } from "../ground-truth.ts";
import { formatLink } from "../log-monitors.ts";
import type { Monitor } from "../monitor.ts";
import { listIn } from "./logout-monitors.ts";
import { type WrittenCommand, WrittenCommands } from "./written-commands.ts";

type EventOf<Type extends string> = Extract<NonNullable<LogPoint["recorded"]>["event"], { type: Type }>;
type Step = Readonly<{
  point: LogPoint;
  event: EventOf<"AccessRequested" | "AccessRequestDecided" | "AccessRequestEnded">;
}>;

export function watchAccessRequests(truth: GroundTruth): Monitor {
  const { chains, findings, observations, rights } = truth;
  const written = new WrittenCommands(truth);
  const steps = new Map<string, Step[]>();

  function historyAt(requestId: string, point: LogPoint): readonly Step[] {
    return (steps.get(requestId) ?? []).filter((each) => each.point !== point && chains.contains(point, each.point));
  }

  function checkDecided(
    { points, last }: WrittenCommand,
    { point, event }: Readonly<{ point: LogPoint; event: EventOf<"AccessRequestDecided"> }>,
    fact: SimFactOf<"wrote">,
  ): void {
    observations.add("request-decision-checked");
    const before = historyAt(event.requestId, point);
    const [asked] = before;
    const wrong = (what: string): void =>
      findings.add("request-decided", `${event.requestId} is ${event.decision} at ${formatLink(point.link)}, ${what}`, [
        fact,
      ]);
    if (asked?.event.type !== "AccessRequested") {
      wrong("and was never made");
      return;
    }
    if (before.length > 1) wrong(`and was ${before.at(-1)?.event.type} before`);
    const actor = point.recorded?.actor;
    if (actor === `operator:${event.userId}` || actor === `user:${event.userId}`) wrong("by the person who asked");
    const { groupId } = asked.event;
    const given = points.find(({ recorded }) => {
      const own = recorded?.event;
      return own?.type === "GroupMembersChanged" && own.requestId === event.requestId && own.added.length === 1;
    })?.recorded?.event;
    const isGiven = given?.type === "GroupMembersChanged" && given.groupId === groupId && given.until === event.until;
    if ((event.decision === "approved") !== isGiven) wrong(isGiven ? "and gives access" : "and gives no such access");
    if (isGiven && !rights.sourcesOf(event.userId, groupId, last).has("request")) wrong("and the access is not there");
  }

  function checkEnded(
    { last }: WrittenCommand,
    { point, event }: Readonly<{ point: LogPoint; event: EventOf<"AccessRequestEnded"> }>,
    fact: SimFactOf<"wrote">,
  ): void {
    observations.add("request-end-checked");
    const [asked] = historyAt(event.requestId, point);
    if (asked?.event.type !== "AccessRequested" || event.outcome === "replaced") return;
    const wish = asked.event;
    const others = [...steps.entries()].filter(([requestId]) => requestId !== event.requestId);
    const { groupId } = wish;
    if (others.some(([requestId]) => isInForce(requestId, wish, last))) return;
    if (!rights.sourcesOf(event.userId, groupId, last).has("request")) return;
    findings.add("request-access", `${event.requestId} ends at ${formatLink(point.link)}, and its access stays`, [
      fact,
    ]);
  }

  /** As far as the request's own events say. */
  function isInForce(requestId: string, { userId, groupId }: EventOf<"AccessRequested">, point: LogPoint): boolean {
    const all = historyAt(requestId, point);
    const [asked] = all;
    if (asked?.event.type !== "AccessRequested") return false;
    if (asked.event.groupId !== groupId || asked.event.userId !== userId) return false;
    const newest = all.at(-1)?.event;
    return newest?.type === "AccessRequestDecided" && newest.decision === "approved";
  }

  function checkGiven(command: WrittenCommand, fact: SimFactOf<"wrote">): void {
    for (const { recorded, link } of command.points) {
      const event = recorded?.event;
      if (event?.type !== "GroupMembersChanged" || event.source !== "request" || event.added.length === 0) continue;
      const isDecided = command.points.some(({ recorded: other }) => {
        const own = other?.event;
        return own?.type === "AccessRequestDecided" && own.requestId === event.requestId && own.decision === "approved";
      });
      if (!isDecided)
        findings.add("request-access", `access is given at ${formatLink(link)} without an approval`, [fact]);
    }
  }

  return {
    invariants: ["request-decided", "request-access"],
    ...written.handlers((command, fact) => {
      checkGiven(command, fact);
      for (const point of command.points) {
        const event = point.recorded?.event;
        if (event?.type === "AccessRequestDecided") checkDecided(command, { point, event }, fact);
        if (event?.type === "AccessRequestEnded") checkEnded(command, { point, event }, fact);
        if (
          event?.type === "AccessRequested" ||
          event?.type === "AccessRequestDecided" ||
          event?.type === "AccessRequestEnded"
        )
          listIn(steps, event.requestId).push({ point, event });
      }
    }),
  };
}
