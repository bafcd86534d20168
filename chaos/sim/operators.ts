/**
 * Operators: what people do to a system that works, at moments that are seldom good. Rolling upgrades and their
 * rollback, snapshots, truncation, changed files.
 */
import type { Fault } from "./faults.ts";
import { configurationAt } from "./sim-node.ts";
import { upgrade } from "./upgrade.ts";

export const operatorFaults = {
  upgrade,
  /** For a while nothing is kept that need not be: whoever leads lets go of what may go. */
  truncate: ({ cast }) => ({
    about: "no event is kept that two snapshots hold and nobody needs",
    undo: cast.keepNothing(),
  }),
  snapshot({ cast }) {
    const about = cast.snapshot();
    return about === undefined ? undefined : { about, undo: () => {} };
  },
  /** Another file: other policies, or routes that change what happens without a fresh lease. */
  configure(stage, { who, much }) {
    const node = stage.pick(stage.cast.nodes, who);
    if (node === undefined || !node.process.isUp) return undefined;
    node.process.run(() => node.configure(configurationAt(much)));
    return { about: `${node.process.name} gets another file`, undo: () => {} };
  },
} satisfies Readonly<Record<string, Fault>>;
