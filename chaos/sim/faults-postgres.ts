/**
 * Faults of Postgres:
 * - absent standbys, and commits that hang and are cancelled;
 * - crashes, failovers by the procedure and without proof, and old primaries that are still up;
 * - asynchronous mode, and backups restored over the log.
 */

import type { PlannedFault } from "./fault-plan.ts";
import type { Fault, FaultContext, Undo } from "./faults.ts";
import { both } from "./faults-links.ts";
import { down, paused, up } from "./faults-processes.ts";
import type { PostgresServer } from "./postgres-server.ts";

const cancelEveryMs = 250;
const retryMs = 400;

export const postgresFaults = {
  "kill-standby": onStandby((standby) => down(standby.process)),
  "pause-standby": onStandby((standby) => paused(standby.process)),
  "cut-standby": onStandby((standby, { actors }) =>
    actors.world.network.part([standby.process], [actors.postgres.primary.process]),
  ),
  /** Commits hang until a standby is back. */
  "kill-standbys"({ actors }) {
    return { about: "every standby", undo: both(...actors.postgres.standbys().map((one) => down(one.process))) };
  },
  /** Commits hang, and an operator who wants to help cancels their wait. */
  "cancel-wait"(context, { forMs }) {
    const { world, postgres } = context.actors;
    const undo = awayFromStandbys(context);
    for (let at = cancelEveryMs; at < forMs; at += cancelEveryMs) world.after(at, () => postgres.cancelWait());
    return { about: `${postgres.primary.name}: commits hang, and are cancelled`, undo };
  },
  "lose-answer"({ actors }) {
    actors.postgres.primary.loseNext("answer");
    return { about: actors.postgres.primary.name, undo: () => {} };
  },
  "lose-statement"({ actors }) {
    actors.postgres.primary.loseNext("statement");
    return { about: actors.postgres.primary.name, undo: () => {} };
  },
  /**
   * Delays the answers of Postgres to the leader for a long time, and then delivers them. An answer may confirm a
   * commit that another leader's commits have followed.
   */
  "late-answers"({ actors }) {
    const { primary } = actors.postgres;
    const leader = actors.brokers.find((broker) => broker.leads());
    if (leader === undefined) return undefined;
    const undo = actors.world.network.cut(primary.process, leader.process);
    return { about: `${primary.name} to ${leader.process.name}, which leads`, undo };
  },
  "slow-disk"(context, { who, much }) {
    const server = context.pick(context.actors.postgres.servers, who);
    if (server === undefined) return undefined;
    server.diskFactor = 5 + 200 * much * much;
    return {
      about: server.name,
      undo: () => {
        server.diskFactor = 1;
      },
    };
  },
  /** Another session's open transaction holds the head row. */
  "lock-row"({ actors }) {
    const server = actors.postgres.primary;
    if (!server.isReady) return undefined;
    const lockHolder = {};
    let wanted = true;
    const granted = (): void => {
      if (!wanted) server.lock.release(lockHolder);
    };
    server.lock.take(lockHolder, 10_000, { granted, timedOut: () => {} });
    return {
      about: server.name,
      undo: () => {
        wanted = false;
        server.lock.release(lockHolder);
      },
    };
  },
  "crash-primary"({ actors }) {
    const { process, name } = actors.postgres.primary;
    return { about: name, undo: down(process) };
  },
  "pause-primary"({ actors }) {
    const { process, name } = actors.postgres.primary;
    return { about: name, undo: paused(process) };
  },
  /** Commits that hang at the crash are visible after the restart, though no standby has them. */
  "hang-and-crash"(context, { forMs, much }) {
    const { world, postgres } = context.actors;
    const { primary } = postgres;
    const heal = awayFromStandbys(context);
    world.after(forMs * (0.2 + 0.5 * much), () => {
      if (primary.isPrimary) primary.process.restart();
    });
    return { about: `${primary.name} hangs, then crashes and is back at once`, undo: heal };
  },
  /** The primary dies, and another server replaces it. */
  failover(context) {
    const { primary } = context.actors.postgres;
    primary.process.kill();
    failOver(context, "procedure");
    return { about: `${primary.name} dies`, undo: () => up(primary.process) };
  },
  /**
   * The primary is cut off together with the brokers that still reach it. It does not know that another server has
   * replaced it.
   */
  "failover-zombie"(context, { who, much }) {
    const { world, postgres, brokers } = context.actors;
    const { primary } = postgres;
    const leader = brokers.find((broker) => broker.leads());
    const with_ = much < 0.4 ? [] : much < 0.7 ? brokers : [leader ?? context.pick(brokers, who)];
    const friends = new Set(with_.map((broker) => broker?.process));
    const others = context.infrastructure.filter((one) => one !== primary.process && !friends.has(one));
    const heal = world.network.part([primary.process], others);
    failOver(context, "procedure");
    return { about: `${primary.name} is cut off with ${friends.size} brokers, and replaced`, undo: heal };
  },
  /** A node that keeps serving is cut off from the whole system while leader and primary are replaced. */
  "failover-cut-node"(context, { who, much }) {
    const { world, postgres, nodes, brokers } = context.actors;
    const node = context.pick(nodes, who);
    const leader = brokers.find((broker) => broker.leads());
    if (node === undefined || leader === undefined) return undefined;
    const heal = world.network.part([node.process], context.infrastructure);
    const { primary } = postgres;
    const revive = down(leader.process);
    if (much < 0.5) {
      primary.process.kill();
      failOver(context, "procedure");
    }
    const about = `${node.process.name} is cut off while ${leader.process.name} dies${much < 0.5 ? ` and ${primary.name} is replaced` : ""}`;
    return { about, undo: both(heal, revive, () => up(primary.process)) };
  },
  /** An operator in a hurry promotes any server that is up. */
  "failover-unsafe"(context, { much }) {
    const { primary } = context.actors.postgres;
    const heal = much < 0.5 ? down(primary.process) : awayFromStandbys(context);
    failOver(context, "unsafe");
    return { about: `${primary.name} is replaced without proof`, undo: heal };
  },
  asynchronous({ actors, options }) {
    actors.postgres.setSynchronous(0);
    return { about: "commits wait for no standby", undo: () => actors.postgres.setSynchronous(options.synchronous) };
  },
  /**
   * Commits hang. Like a manager that prefers availability, the fault empties the standby names to release them, then
   * sets the names again. Sometimes the primary dies before a standby is back.
   */
  "empty-names"(context, { forMs, much }) {
    const { world, postgres } = context.actors;
    const { primary } = postgres;
    const { synchronous } = context.options;
    const heal = awayFromStandbys(context);
    world.after(forMs * 0.3, () => postgres.setSynchronous(0));
    world.after(forMs * (0.3 + 0.5 * much), () => postgres.setSynchronous(synchronous));
    let revive: Undo = () => {};
    if (much < 0.3)
      world.after(forMs * 0.7, () => {
        if (postgres.primary !== primary || postgres.isBusy) return;
        revive = down(primary.process);
        failOver(context, "procedure");
      });
    const undo = (): void => {
      heal();
      postgres.setSynchronous(synchronous);
      revive();
    };
    return { about: `${primary.name}: commits hang, and the names of its standbys are emptied and set again`, undo };
  },
  "restore-backup"({ actors }, { much }) {
    if (actors.postgres.isBusy) return undefined;
    const ageMs = Math.round(500 + 8_000 * much);
    actors.postgres.restoreBackup(ageMs);
    return { about: `a backup ${ageMs} ms old is restored`, undo: () => {} };
  },
} satisfies Readonly<Record<string, Fault>>;

/** Retries like an operator at a keyboard, until the failover works or another server is the primary. */
function failOver(context: FaultContext, how: "procedure" | "unsafe", triesLeft = 20): void {
  const { world, postgres } = context.actors;
  const before = postgres.primary;
  postgres.failOver(how, (outcome) => {
    if (outcome.type === "promoted") return;
    world.note("operator", `no failover: ${outcome.reason}`);
    if (triesLeft === 0) return;
    world.after(retryMs, () => {
      if (postgres.primary === before) failOver(context, how, triesLeft - 1);
    });
  });
}

function awayFromStandbys({ actors }: FaultContext): Undo {
  const { primary } = actors.postgres;
  return actors.world.network.part(
    [primary.process],
    actors.postgres.standbys().map(({ process }) => process),
  );
}

function onStandby(act: (standby: PostgresServer, context: FaultContext, planned: PlannedFault) => Undo): Fault {
  return (context, planned) => {
    const standby = context.pick(context.actors.postgres.standbys(), planned.who);
    return standby && { about: standby.name, undo: act(standby, context, planned) };
  };
}
