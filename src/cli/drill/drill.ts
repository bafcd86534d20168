/**
 * Drill: a safe fault against a running cluster, with the promises that are measured while it lasts.
 *
 * A drill is data; run-drill.ts runs it. It never touches a person: what it revokes is the canary's, and a process is
 * stopped only by the command that the operator gives. Pure.
 */
import type { Fact } from "../../events/index.ts";

/** What is taken from the canary. All but `remove-member` end its session. */
export type CanaryChange = "remove-member" | "revoke-session" | "suspend-user";

/** What is stopped, by a command of the operator. */
export type StoppedKind = "proxy" | "leader" | "standby" | "nats";

export type DrillFault =
  | Fact<"canary", { change: CanaryChange }>
  | Fact<"process", { kind: StoppedKind; how: "restart" | "pause" }>;

export const promises = {
  "nothing-after-receipt": "No request of the canary is permitted after a complete receipt",
  "streams-end": "Open streams of the canary have ended when the receipt is complete",
  "every-node-refuses": "Every proxy refuses the canary soon after the command",
  "receipt-complete": "The receipt is complete in time",
  acknowledged: "A revocation is acknowledged in time, also while the fault lasts",
  "nothing-lost": "No acknowledged change is lost",
  "others-serve": "The other proxies serve the canary while the fault lasts",
  "target-returns": "The process is back, and every node has caught up",
  "people-unharmed": "People see no more errors than the drill allows",
  restored: "Everything that the drill changed is as before",
} as const;
export type PromiseName = keyof typeof promises;

/**
 * Milliseconds; `window`: the longest that a silent node may decide, as the cluster reports it; `none`: not a time.
 */
export type Bound = number | "window" | "none";

export type Drill = Readonly<{
  name: string;
  /** One line, for `cardea drill list`. */
  summary: string;
  purpose: string;
  fault: DrillFault;
  /** What is done, as a sentence. */
  does: string;
  promises: Readonly<Partial<Record<PromiseName, Bound>>>;
}>;

/** Promises of every drill. */
export const always = {
  "nothing-after-receipt": "none",
  "streams-end": 250,
  "nothing-lost": "none",
  "people-unharmed": "none",
  restored: "none",
} as const satisfies Drill["promises"];

/** What stops every drill and refuses to begin it, in the words of the list. */
export function guardRailsOf({ fault }: Drill): readonly string[] {
  return [
    "begins only if one broker leads, every node has a lease, none is absent, no region is cut off, and no digest differs",
    "only one drill at a time, by a lock in the log: the group cardea-drill-lock",
    "changes only the canary user, whose session, group and route the drill file names",
    ...(fault.type === "canary"
      ? fault.change === "suspend-user"
        ? ["begins only if the canary user has no other session"]
        : []
      : [
          "stops one process only, by your command, and runs your undo command whatever happens",
          fault.kind === "proxy"
            ? "begins only if the region has another proxy, and stops if a second one is silent"
            : fault.kind === "nats"
              ? "stops if any proxy is silent"
              : "begins only if there is another broker, and stops if any proxy is silent",
          "begins only if the metrics of every proxy can be read",
        ]),
    "stops and undoes everything if people see errors, if a digest differs, if no broker leads for 20 s, on Ctrl-C",
  ];
}

export function formatBound(bound: Bound): string {
  if (bound === "none") return "";
  if (bound === "window") return "the window of a silent node";
  return bound < 1_000 ? `${bound} ms` : `${bound / 1_000} s`;
}
