/**
 * Refresh monitors: the leader that recorded a refresh token presents it exactly once, and no session ends through our
 * own fault.
 */
import type { CommandId } from "../../../src/events/index.ts";
import type { SimFactOf } from "../facts.ts";
import type { LogPoint } from "./chains.ts";
import type { GroundTruth } from "./ground-truth.ts";
import type { Monitor } from "./monitor.ts";

/** Upper bound, ms, of 5 s by a clock that may run at a wrong rate. */
const lateMs = 8_000;

export function watchRefreshes(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;
  const leading = new Map<string, number>();
  /** By command: the point and time of its first event. */
  const written = new Map<CommandId, Readonly<{ point: LogPoint; at: number }>>();
  /** By process: the end of its machine's last sleep, during which clocks stop. Infinity: it sleeps now. */
  const slept = new Map<string, number>();
  const presented = new Map<string, SimFactOf<"token-presented">[]>();

  /** Ignores builds that record no intents, and intents that a promotion lost. */
  const isBound = ({ intent }: SimFactOf<"token-presented">): boolean => {
    if (intent === null) return false;
    const point = written.get(intent)?.point;
    return point !== undefined && chains.contains(truth.head, point);
  };

  return {
    invariants: ["presented-once", "refresh-fenced", "refresh-kept"],
    before: {
      leading: (fact) => {
        if (fact.leading) leading.set(fact.process, fact.epoch);
        else if (leading.get(fact.process) === fact.epoch) leading.delete(fact.process);
      },
      paused: (fact) => {
        if (fact.how === "suspended") slept.set(fact.process, Number.POSITIVE_INFINITY);
      },
      resumed: (fact) => {
        if (slept.has(fact.process)) slept.set(fact.process, fact.at);
      },
      killed: (fact) => {
        leading.delete(fact.process);
      },
      "token-sent": (fact) => {
        if (fact.intent === null) return;
        const intent = written.get(fact.intent);
        const isRecorded = intent?.point.link.epoch === fact.epoch;
        const knowsEnd = leading.get(fact.process) !== fact.epoch;
        const isLate =
          intent !== undefined && fact.at - intent.at > lateMs && (slept.get(fact.process) ?? 0) < intent.at;
        if (isRecorded && !knowsEnd && !isLate) return;
        const why = !isRecorded
          ? "whose log has no intent"
          : knowsEnd
            ? "which it knows that it no longer leads"
            : `${Math.round(fact.at - (intent?.at ?? 0))} ms after its intent`;
        const what = `${fact.process} sends ${fact.token} in epoch ${fact.epoch}, ${why}`;
        findings.add("refresh-fenced", what, [fact]);
      },
      "token-presented": (fact) => {
        observations.add("token-checked");
        const before = presented.get(fact.token) ?? [];
        presented.set(fact.token, [...before, fact]);
        const first = isBound(fact) ? before.find(isBound) : undefined;
        if (first === undefined) return;
        const what = `${first.process} and then ${fact.process} presented ${fact.token}`;
        findings.add("presented-once", what, [first, fact]);
      },
      "session-dismissed": (fact) => {
        observations.add("dismissal-checked");
        if (fact.because !== "reuse") return;
        const what = `${fact.process} ends ${fact.sessionId}: the provider had received ${fact.token} from the cluster before`;
        findings.add("refresh-kept", what, [fact]);
      },
    },
    after: {
      wrote: (fact) => {
        for (const { commandId, first } of fact.commands) {
          const entry = fact.entries.find(({ recorded }) => recorded.position === first);
          const point = entry && truth.find(entry.recorded);
          if (point !== undefined) written.set(commandId, { point, at: fact.at });
        }
      },
    },
  };
}
