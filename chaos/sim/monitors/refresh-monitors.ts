/** Refreshes: each refresh token is presented once, by the leader that has recorded it, and no session ends by our own fault. */
import type { CommandId } from "../../../src/events/index.ts";
import type { SimFactOf } from "../facts.ts";
import type { Place } from "./chains.ts";
import type { Monitor } from "./monitor.ts";
import type { Scene } from "./scene.ts";

export function watchRefreshes(scene: Scene): Monitor {
  const { chains, findings, looks } = scene;
  const leading = new Map<string, number>();
  /** Where each command's first event was written. */
  const written = new Map<CommandId, Place>();
  const presented = new Map<string, SimFactOf<"token-presented">[]>();

  /** Builds that record no intents are not judged. An intent that a promotion lost binds nobody. */
  const isBound = ({ intent }: SimFactOf<"token-presented">): boolean => {
    if (intent === null) return false;
    const place = written.get(intent);
    return place !== undefined && chains.contains(scene.head, place);
  };

  return {
    invariants: ["presented-once", "refresh-fenced", "refresh-kept"],
    before: {
      leading: (fact) => {
        if (fact.leading) leading.set(fact.process, fact.epoch);
        else if (leading.get(fact.process) === fact.epoch) leading.delete(fact.process);
      },
      killed: (fact) => {
        leading.delete(fact.process);
      },
      "token-sent": (fact) => {
        if (fact.intent === null) return;
        const place = written.get(fact.intent);
        const isRecorded = place !== undefined && place.link.epoch === fact.epoch;
        if (isRecorded && leading.get(fact.process) === fact.epoch) return;
        const why = isRecorded ? "which it knows that it no longer leads" : "whose log has no intent";
        const what = `${fact.process} sends ${fact.token} in epoch ${fact.epoch}, ${why}`;
        findings.add("refresh-fenced", what, [fact]);
      },
      "token-presented": (fact) => {
        looks.add("token-judged");
        const before = presented.get(fact.token) ?? [];
        presented.set(fact.token, [...before, fact]);
        const first = isBound(fact) ? before.find(isBound) : undefined;
        if (first === undefined) return;
        const what = `${first.process} and then ${fact.process} presented ${fact.token}`;
        findings.add("presented-once", what, [first, fact]);
      },
      "session-dismissed": (fact) => {
        looks.add("dismissal-judged");
        if (fact.because !== "reuse") return;
        const what = `${fact.process} ends ${fact.sessionId}: the provider had received ${fact.token} from the cluster before`;
        findings.add("refresh-kept", what, [fact]);
      },
    },
    after: {
      wrote: (fact) => {
        for (const { commandId, first } of fact.commands) {
          const entry = fact.entries.find(({ recorded }) => recorded.position === first);
          const place = entry && scene.find(entry.recorded);
          if (place !== undefined) written.set(commandId, place);
        }
      },
    },
  };
}
