/**
 * Operators: what people do to a system that works, at moments that are seldom good. Rolling upgrades and their rollback, snapshots,
 * truncation, changed files.
 */
import type { Fault } from "./faults.ts";
import { upgrade } from "./upgrade.ts";

export const operatorFaults = {
  upgrade,
  truncate(stage, { much }) {
    const about = stage.cast.truncate(much);
    return about === undefined ? undefined : { about, undo: () => {} };
  },
  snapshot(stage, { who }) {
    const about = stage.cast.snapshot(who);
    return about === undefined ? undefined : { about, undo: () => {} };
  },
  /** Another file: a route changes its mind about what happens when it is stale. */
  configure(stage, { who, much }) {
    const node = stage.pick(stage.cast.nodes, who);
    if (node === undefined || !node.process.isUp) return undefined;
    node.process.run(() => node.configure(1 + Math.floor(much * 4)));
    return { about: `${node.process.name} gets another file`, undo: () => {} };
  },
} satisfies Readonly<Record<string, Fault>>;
