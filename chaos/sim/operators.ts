/**
 * Operators: what people do to a system that works, at moments that are seldom good. Rolling upgrades and their rollback, snapshots,
 * truncation, changed files.
 */
import type { Fault } from "./faults.ts";
import { upgrade } from "./upgrade.ts";

const retentionLookMs = 500;

export const operatorFaults = {
  upgrade,
  /** For a while nothing is kept that need not be: whoever leads looks now and then for what may go. */
  truncate(stage, { much }) {
    const { cast } = stage;
    let over = false;
    const look = (): void => {
      if (over) return;
      const about = cast.truncate(much);
      if (about !== undefined) cast.world.note("operator", about);
      cast.world.after(retentionLookMs, look);
    };
    look();
    return {
      about: "no event is kept that two snapshots hold and nobody needs",
      undo: () => {
        over = true;
      },
    };
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
