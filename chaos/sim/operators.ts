/**
 * Operator actions: what people do to a running system, often at a bad moment.
 *
 * They upgrade and roll back builds, take snapshots, truncate the log and change configuration files.
 */
import type { Fault } from "./faults.ts";
import { configurationAt } from "./sim-node.ts";
import { upgrade } from "./upgrade.ts";

export const operatorFaults = {
  upgrade,
  /** For a while the leader truncates every event that retention does not require. */
  truncate: ({ actors }) => ({
    about: "only events that must be kept are kept",
    undo: actors.keepNothing(),
  }),
  snapshot({ actors }) {
    const about = actors.snapshot();
    return about === undefined ? undefined : { about, undo: () => {} };
  },
  /** Activates another file: other policies, or routes that behave differently without a fresh lease. */
  configure(context, { who, much }) {
    const node = context.pick(context.actors.nodes, who);
    if (node === undefined || !node.process.isUp) return undefined;
    node.process.run(() => node.configure(configurationAt(much)));
    return { about: `${node.process.name} gets another file`, undo: () => {} };
  },
} satisfies Readonly<Record<string, Fault>>;
