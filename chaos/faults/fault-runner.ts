/**
 * Fault runner: makes faults and undoes them, and records what was really done, to which process and when.
 *
 * A fault heals what it broke, whatever happens meanwhile. `clear` is when every process that no other fault affects
 * was ready again.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { type Ns, nsPerMs } from "../judge/history.ts";
import type { HistoryFile } from "../judge/history-file.ts";
import type { RunClock } from "../judge/run-clock.ts";
import type { HomeMoves } from "../run/home-moves.ts";
import type { FaultKind } from "./fault-kinds.ts";
import type { Injection } from "./injection.ts";
import { injections } from "./injections.ts";
import type { PlannedFault } from "./plan.ts";

export type FaultTools = Readonly<{
  cluster: Cluster;
  homeMoves: HomeMoves;
  now: RunClock;
  history: HistoryFile;
  /** The name of the leading broker, as far as known. */
  leader: () => string | null;
  say: (text: string) => void;
}>;

export type FaultRequest = Readonly<{ kind: FaultKind; target: string; scenario: string | null }>;

/** A fault in force. */
export type ActiveFault = Readonly<{
  /** Undoes it. A second call does nothing. @throws Error when it cannot be undone */
  heal(): Promise<void>;
  /** Resolves when it is undone and clear, or its bound has passed. */
  cleared: Promise<void>;
}>;

export type FaultRunner = Readonly<{
  /** Runs a plan. Resolves when the last fault is clear or its bound has passed. */
  run(faults: readonly PlannedFault[], startedAt: Ns): Promise<void>;
  /** @throws Error when it cannot be made; what it broke is healed then */
  begin(request: FaultRequest): Promise<ActiveFault>;
  /** Undoes every fault that is in force, and waits until all are clear. */
  healAll(): Promise<void>;
}>;

const clearWithinMs = 30_000;
const pollEveryMs = 100;

export function createFaultRunner({ cluster, homeMoves, now, history, leader, say }: FaultTools): FaultRunner {
  /** Processes under a fault are not expected to be ready. */
  const held = new Map<string, number>();
  const active = new Set<ActiveFault>();
  const clearing = new Set<Promise<void>>();
  let count = 0;

  async function run(faults: readonly PlannedFault[], startedAt: Ns): Promise<void> {
    const under: Promise<void>[] = [];
    for (const fault of faults) {
      const leftMs = fault.atMs - (now() - startedAt) / nsPerMs;
      await delay(Math.max(0, leftMs));
      under.push(runFault(fault));
    }
    await Promise.all(under);
  }

  /** Never throws: a fault that could not be made is in the history with its problem. */
  async function runFault({ kind, target, forMs }: PlannedFault): Promise<void> {
    try {
      const fault = await begin({ kind, target, scenario: null });
      await delay(forMs);
      await fault.heal();
      await fault.cleared;
    } catch (error) {
      say(`${kind} ${target} failed: ${error}`);
    }
  }

  async function begin({ kind, target, scenario }: FaultRequest): Promise<ActiveFault> {
    const index = count++;
    const [leads, stands] = homeBrokers();
    const note = (text: string): void => history.write({ type: "note", at: now(), text });
    const id = `fault-${index}`;
    const aim = { cluster, homeMoves, home: homeMoves.home(), id, target, leader: leads, follower: stands, note };
    const injection = injections[kind](aim);
    const beginAt = now();
    say(`${kind} ${injection.target}`);
    hold(injection.holds, 1);
    const record = { kind, index, scenario, injection, begin: beginAt };
    try {
      await injection.begin();
    } catch (error) {
      await finish(record, { inForceFrom: null, problem: String(error) });
      throw error;
    }
    const inForceFrom = now();
    let healed: Promise<string> | undefined;
    const cleared = Promise.withResolvers<void>();
    const fault: ActiveFault = {
      async heal() {
        healed ??= finish(record, { inForceFrom, problem: "" }).then(({ problem, clear }) => {
          active.delete(fault);
          void clear.then(cleared.resolve);
          return problem;
        });
        const problem = await healed;
        if (problem !== "") throw new Error(`${kind} ${injection.target} was not undone: ${problem}`);
      },
      cleared: cleared.promise,
    };
    active.add(fault);
    return fault;
  }

  type Begun = Readonly<{
    kind: FaultKind;
    index: number;
    scenario: string | null;
    injection: Injection;
    begin: Ns;
  }>;

  /** Undoes a fault and records it once it is clear. */
  async function finish(
    { kind, index, scenario, injection, begin }: Begun,
    { inForceFrom, problem: before }: Readonly<{ inForceFrom: Ns | null; problem: string }>,
  ): Promise<Readonly<{ problem: string; clear: Promise<void> }>> {
    const until = now();
    let problem = before;
    try {
      await injection.heal();
    } catch (error) {
      problem ||= String(error);
    }
    hold(injection.holds, -1);
    const end = now();
    const { target, regions, isolates } = injection;
    const inForce = inForceFrom === null ? null : { from: inForceFrom, until };
    const clear = whenClear(end).then((clearAt) =>
      history.write({
        type: "fault",
        index,
        what: kind,
        target,
        regions,
        isolates,
        scenario,
        begin,
        inForce,
        end,
        clear: clearAt,
        problem,
      }),
    );
    clearing.add(clear);
    void clear.then(() => clearing.delete(clear));
    return { problem, clear };
  }

  function hold(names: readonly string[], by: 1 | -1): void {
    for (const name of names) held.set(name, (held.get(name) ?? 0) + by);
  }

  async function whenClear(from: Ns): Promise<Ns> {
    const expected = (): readonly ClusterProcess[] =>
      cluster.processes.filter(({ name }) => (held.get(name) ?? 0) === 0);
    while (now() - from < clearWithinMs * nsPerMs) {
      const at = now();
      const reasons = await Promise.all(expected().map((each) => each.whyNotReady()));
      if (reasons.every((each) => each.length === 0)) return at;
      await delay(pollEveryMs);
    }
    return now();
  }

  /** The leading broker and another of its region; where there is none, the leading one again. */
  function homeBrokers(): readonly [ClusterProcess, ClusterProcess] {
    const brokers = cluster.processes.filter(({ service }) => service === "databroker");
    const leads = brokers.find(({ name }) => name === leader()) ?? homeMoves.home().brokers[0];
    if (leads === undefined) throw new RangeError("the home region needs a broker");
    return [leads, brokers.find((each) => each !== leads && each.region === leads.region) ?? leads];
  }

  async function healAll(): Promise<void> {
    const problems = await Promise.allSettled([...active].map((fault) => fault.heal()));
    for (const each of problems) if (each.status === "rejected") say(String(each.reason));
    await Promise.all([...clearing]);
  }

  return { run, begin, healAll };
}
