/**
 * Runs a drill: lock, quiet time, fault, recovery, and in every case the undo of all that was done.
 *
 * - A guard rail or a signal aborts the step that is running. The undo list then runs to its end; no signal stops it.
 * - The record is written whatever happened, so that an aborted drill has its report too.
 */
import { setTimeout as delay } from "node:timers/promises";
import { formatLink, parseUnixMs } from "../../events/index.ts";
import type { Receipt } from "../../replication/index.ts";
import { runCanaryRound, slowEveryMs } from "./canary-round.ts";
import type { DrillProxy } from "./drill-file.ts";
import { acquireLock, lockGroup, releaseLock } from "./drill-lock.ts";
import { type DrillRun, DrillStoppedError, pauseFor, UndoList, waitUntil } from "./drill-run.ts";
import { isTarget } from "./guard.ts";
import { Observations } from "./observations.ts";
import { type DrillOperator, mayAnswerLater } from "./operator-changes.ts";
import type { RunFault, RunRecord, Topology } from "./run-record.ts";
import { type Outcome, returnWaitMs, verdictsOf } from "./verdicts.ts";
import { watchCluster, whyNotRecovered } from "./watch-cluster.ts";

export type DrillParts = Omit<DrillRun, "observations" | "undo" | "pace" | "pending" | "now" | "signal"> &
  Readonly<{
    readMetrics: (proxy: DrillProxy) => Promise<string>;
    /** Aborts on SIGINT and the like, with a DrillStoppedError. */
    interrupt: AbortSignal;
    command: string;
    quietMs: number;
    /** The run's zero on the monotonic clock. */
    origin: number;
  }>;

const answerMsMax = 20_000;
const servedMs = 2_000;

/** @throws CannotError before anything was changed: another drill holds the lock */
export async function runDrill(parts: DrillParts): Promise<RunRecord> {
  const startedAt = parseUnixMs(Date.now());
  const now = (): number => performance.now() - parts.origin;
  const stop = new AbortController();
  const watching = new AbortController();
  const observations = new Observations();
  const say = (text: string): void => {
    observations.note(now(), text);
    parts.say(text);
  };
  const run: DrillRun = {
    ...parts,
    observations,
    now,
    say,
    undo: new UndoList(),
    pace: { everyMs: slowEveryMs },
    pending: { change: null },
    signal: AbortSignal.any([parts.interrupt, stop.signal]),
  };
  const { userId } = run.prepared.canary;
  await acquireLock(run.operator, userId, run.signal);
  run.undo.add("change", { text: "release the drill lock", undo: () => releaseLock(run.operator, userId) });
  const onStop = (reason: string): void => stop.abort(new DrillStoppedError(reason));
  const watchers = startWatchers(run, parts, { signal: watching.signal, onStop }).catch((error: unknown) =>
    onStop(`the drill can no longer observe: ${error instanceof Error ? error.message : String(error)}`),
  );
  const ending: Ending = { stopped: null, failed: null, returnedMs: null, fault: null };
  try {
    await runSteps(run, parts, ending);
  } catch (error) {
    if (error instanceof DrillStoppedError) ending.stopped = error.message;
    else ending.failed = error instanceof Error ? error.message : String(error);
    say(`stopping: ${ending.stopped ?? ending.failed}`);
  }
  const notUndone = await run.undo.runAll(say);
  const leftOver = [...notUndone, ...(await findLeftOver(run))];
  observations.faultActive = false;
  if (ending.fault !== null) observations.faults.unshift(processFault(run, ending.fault, ending.returnedMs));
  await delay(1_000); // the last second of the charts shows the state after the undo
  const lost = await countLost(run);
  watching.abort();
  await watchers;
  const outcome: Outcome = {
    observations,
    lost,
    leftOver,
    returnedMs: ending.returnedMs,
    stopped: ending.stopped ?? ending.failed,
    windowMs: run.prepared.windowMs,
    peopleErrorsMax: run.file.peopleErrorsMax,
  };
  return recordOf(run, { startedAt, command: parts.command, outcome });
}

type ProcessFault = { readonly does: string; readonly fromMs: number; untilMs: number | null; problem: string | null };
type Ending = {
  stopped: string | null;
  failed: string | null;
  returnedMs: number | null;
  /** The process fault, once it has begun. */
  fault: ProcessFault | null;
};

async function runSteps(run: DrillRun, { quietMs }: DrillParts, ending: Ending): Promise<void> {
  const { drill, say } = run;
  say(`lock taken; observing for ${quietMs / 1_000} s before the fault`);
  await pauseFor(run, quietMs);
  if (drill.fault.type === "process") await runProcessFault(run, ending);
  else for (let round = 0; round < run.rounds; round++) await runCanaryRound(run, drill.fault.change);
  await pauseFor(run, Math.min(quietMs, 2_000));
}

/** Stops the process, changes the canary's rights while it is away, brings it back, and waits until all is well. */
async function runProcessFault(run: DrillRun, ending: Ending): Promise<void> {
  const { drill, hook, prepared, observations, undo, now, say } = run;
  if (hook === null || drill.fault.type !== "process") throw new TypeError("a process fault needs a hook");
  const fault: ProcessFault = { does: hook.does, fromMs: now(), untilMs: null, problem: null };
  const bringBack = async (): Promise<void> => {
    if (hook.undoes !== null) say(hook.undoes);
    await hook.undo();
    fault.untilMs = now();
  };
  const undone = undo.add("process", { text: hook.undoes ?? "the fault", undo: bringBack });
  ending.fault = fault;
  observations.awayTarget = drill.fault.kind === "proxy" ? prepared.target : null;
  observations.faultActive = true;
  say(hook.does);
  try {
    await hook.inject();
  } catch (error) {
    fault.problem = error instanceof Error ? error.message : String(error);
    throw error;
  }
  if (drill.fault.how === "pause") {
    // Others must serve while it is silent. It wakes while the canary has no right, and must not permit it.
    await pauseFor(run, run.faultMs);
    await runCanaryRound(run, "remove-member", { whileRevoked: bringBack });
  } else {
    do {
      await pauseFor(run, servedMs); // the other proxies must serve the canary meanwhile
      await runCanaryRound(run, "remove-member");
    } while (now() < fault.fromMs + run.faultMs);
    await bringBack();
  }
  undone();
  const since = fault.untilMs ?? now();
  observations.faultActive = false;
  ending.returnedMs = await waitForReturn(run, since);
  observations.awayTarget = null;
  await runCanaryRound(run, "remove-member");
}

/** @returns null: not within the bound */
async function waitForReturn(run: DrillRun, since: number): Promise<number | null> {
  const { operator, prepared, observations, file, now, say, drill } = run;
  const { nodes, brokers } = prepared.status;
  const wanted = { nodes: nodes.length, brokers: 1 + brokers.length };
  const withinMs = returnWaitMs(drill, prepared.windowMs);
  let why: string | null = "nothing is known yet";
  const all = await waitUntil(run, { withinMs, everyMs: 250 }, async () => {
    const status = await operator.status().catch(() => null); // asked again
    why = status === null ? "no status can be read" : whyNotRecovered(status, wanted);
    const refusing = file.proxies.find(({ node }) => {
      const probe = observations.lastProbes.get(node);
      return probe === undefined || probe.sentAt < since || probe.answer !== "permitted";
    });
    if (why === null && refusing !== undefined) why = `${refusing.node} does not permit the canary`;
    return why === null;
  });
  say(all ? `everything works again after ${Math.round(now() - since)} ms` : `not recovered: ${why}`);
  return all ? now() - since : null;
}

async function startWatchers(
  run: DrillRun,
  parts: DrillParts,
  { signal, onStop }: Readonly<{ signal: AbortSignal; onStop: (reason: string) => void }>,
): Promise<void> {
  const { file, operator, observations, prepared, now, pace, probes } = run;
  const regionOf = (name: string): string =>
    prepared.status.nodes.find(({ node }) => isTarget(node, name))?.region ?? "unknown";
  const probing = file.proxies.map(async (proxy) => {
    const region = regionOf(proxy.node);
    while (!signal.aborted) {
      observations.addProbe(await probes.send(proxy), region);
      // The abort ends the pause; the loop's condition ends the probes.
      await delay(pace.everyMs, undefined, { signal }).catch(() => undefined);
    }
  });
  const rules = {
    target: prepared.target,
    peopleErrorsMax: file.peopleErrorsMax,
    needsMetrics: run.drill.fault.type === "process",
  };
  const watching = watchCluster({
    file,
    operator,
    observations,
    rules,
    regionOf,
    now,
    onStop,
    signal,
    readMetrics: parts.readMetrics,
  });
  await Promise.all([...probing, watching]);
}

/** Reads whether the canary has what it had, rather than trust that the undo worked. @returns what it lacks */
async function findLeftOver({ operator, prepared, file, drill }: DrillRun): Promise<readonly string[]> {
  const { userId } = prepared.canary;
  try {
    const { groups, position } = await groupsAt(operator, operator.newestPosition());
    const isMember = (group: string): boolean =>
      groups.find(({ id }) => id === group)?.members.some((one) => one.member && one.userId === userId) === true;
    if (position < operator.newestPosition())
      return ["the operator API is behind the log, so the undo could not be checked"];
    const isSuspended = drill.fault.type === "canary" && drill.fault.change === "suspend-user";
    const user = isSuspended ? (await operator.users()).find(({ id }) => id === userId) : undefined;
    return [
      ...(isMember(file.canary.group) ? [] : [`the canary user is not in ${file.canary.group}`]),
      ...(isMember(lockGroup) ? [`the canary user is still in ${lockGroup}`] : []),
      ...(user !== undefined && user.status !== "active" ? [`the canary user is ${user.status}`] : []),
    ];
  } catch (error) {
    return [`the undo could not be checked: ${error instanceof Error ? error.message : String(error)}`];
  }
}

/** The node that answers may be behind for a moment. */
async function groupsAt(operator: DrillOperator, position: number): ReturnType<DrillOperator["groups"]> {
  const giveUpAt = performance.now() + answerMsMax;
  for (;;) {
    try {
      const answer = await operator.groups();
      if (answer.position >= position || performance.now() >= giveUpAt) return answer;
    } catch (error) {
      if (!mayAnswerLater(error) || performance.now() >= giveUpAt) throw error;
    }
    await delay(200);
  }
}

/** @returns how many acknowledged changes the log has lost; null: it could not be asked */
async function countLost({ observations, operator }: DrillRun): Promise<number | null> {
  let lost = 0;
  for (const link of observations.links) {
    try {
      const client = await operator.client();
      const path = `/receipts/link:${formatLink(link)}?wait=none&timeoutMs=0`;
      const receipt = (await client.get(path, answerMsMax)) as Receipt;
      if (receipt.status === "lost") lost++;
    } catch {
      return null; // the verdict says that it was not measured
    }
  }
  return lost;
}

function processFault({ drill, prepared, now }: DrillRun, fault: ProcessFault, returnedMs: number | null): RunFault {
  const { target, status } = prepared;
  const untilMs = fault.untilMs ?? now();
  const region = status.nodes.find(({ node }) => target !== null && isTarget(node, target))?.region ?? null;
  return {
    name: drill.name,
    target: target ?? "",
    region,
    fromMs: fault.fromMs,
    untilMs,
    clearMs: returnedMs === null ? null : untilMs + returnedMs,
    text: fault.does,
    problem: fault.problem,
  };
}

function recordOf(
  { drill, prepared, observations, now, file }: DrillRun,
  { startedAt, command, outcome }: Readonly<{ startedAt: RunRecord["startedAt"]; command: string; outcome: Outcome }>,
): RunRecord {
  const verdicts = verdictsOf(drill, outcome);
  const broken = verdicts.filter(({ result }) => result === "broken");
  const { leader, nodes } = prepared.status;
  const versions = [...new Set([leader?.version ?? "", ...nodes.map(({ version }) => version)])].filter(
    (one) => one !== "",
  );
  const end = outcome.stopped === null ? "" : `; stopped: ${outcome.stopped}`;
  return {
    format: 1,
    kind: "drill",
    name: drill.name,
    purpose: drill.purpose,
    startedAt,
    durationMs: now(),
    version: versions.join(", "),
    seed: null,
    command,
    stopped: outcome.stopped,
    verdicts,
    summary: `drill ${drill.name}: ${broken.length === 0 ? "no promise broken" : `${broken.length} promises BROKEN`}, ${observations.revocations.length} revocations${end}`,
    facts: [
      { name: "Cluster", value: prepared.status.cluster },
      { name: "Canary", value: file.canary.url.origin },
      ...(prepared.target === null ? [] : [{ name: "Target", value: prepared.target }]),
      { name: "Window of a silent node", value: `${Math.round(prepared.windowMs / 100) / 10} s` },
      ...prepared.warnings.map((value) => ({ name: "Note", value })),
    ],
    topology: topologyOf(prepared.status),
    faults: observations.faults,
    notes: observations.notes,
    traffic: observations.traffic(),
    revocations: observations.revocations,
    receipts: observations.receipts,
    nodes: observations.nodes(),
    head: observations.head,
    evidence: observations.evidence,
  };
}

/** The status does not say in which region the home's brokers are, unless there is only one. */
function topologyOf({ leader, brokers, nodes }: DrillRun["prepared"]["status"]): Topology {
  const regions = [...new Set(nodes.map(({ region }) => region))].sort();
  const [only = "", another] = regions;
  const home = another === undefined ? only : "home brokers";
  const names = [...(leader === null ? [] : [leader.brokerId]), ...brokers.map(({ brokerId }) => brokerId)];
  return {
    regions: [...new Set([home, ...regions])].map((name) => ({ name, home: name === home })),
    processes: [
      ...names.map((name) => ({ name, kind: "broker", region: home }) as const),
      ...nodes.map(({ node, role, region }) => ({ name: node, kind: kindOf(role), region })),
    ],
  };
}

function kindOf(role: string): Topology["processes"][number]["kind"] {
  switch (role) {
    case "proxy":
    case "authorize":
    case "broker":
      return role;
    default:
      return "other";
  }
}
