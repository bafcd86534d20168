/**
 * Stage: a healthy cluster under load, for a run that breaks it, from the first process to the final check.
 *
 * Clients and operator start on a healthy cluster, and then the act follows: planned faults, or scenarios. Afterwards
 * everything has to recover while the clients continue; the final check happens when they have ended.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { LoadOptions } from "../clients/client-load.ts";
import type { OperatorOptions } from "../clients/operator.ts";
import { type Cluster, startCluster } from "../cluster/cluster.ts";
import type { ClusterProcess, EndOfProcess } from "../cluster/cluster-process.ts";
import { type Helper, startHelper } from "../cluster/helper-process.ts";
import type { Topology } from "../cluster/topology.ts";
import { createFaultRunner, type FaultRunner } from "../faults/fault-runner.ts";
import { type Ending, type History, historyOf, type Ns, nsPerMs } from "../judge/history.ts";
import { type HistoryFile, openHistoryFile, readHistoryFile } from "../judge/history-file.ts";
import { watchLoad } from "../judge/machine-load.ts";
import { newOrigin, type RunClock, runClock } from "../judge/run-clock.ts";
import { wallClockAt } from "./audit-copies.ts";
import { becomeReady, inspect, statusClient, watchLeader } from "./ending.ts";
import { createHomeMoves, type HomeMoves } from "./home-moves.ts";
import { watchNodes } from "./node-watch.ts";

export type StageOptions = Readonly<{
  topology: Topology;
  seed: number;
  folder: string;
  /** The removed rule, and the processes that run without it. */
  weakened: Readonly<{ rule: string; processes: readonly string[] }> | null;
  /** Whether the audit spools of proxies are on small disks, which faults can fill. */
  smallDisks: boolean;
  print: (line: string) => void;
  /** What happens to the cluster. It throws when the run is inconclusive. */
  act: (stage: Stage) => Promise<void>;
}>;

export type Stage = Readonly<{
  cluster: Cluster;
  faults: FaultRunner;
  homeMoves: HomeMoves;
  history: HistoryFile;
  now: RunClock;
  /** When the clients started. */
  startedAt: Ns;
  /** The token of every response of the upstream. */
  token: string;
  say: (text: string) => void;
}>;

export type Seen = Readonly<{
  history: History;
  ending: Ending;
  /** How often a process could not start because a dependency was down. */
  restarts: number;
  /** When the clients started, in history time and by the wall clock. */
  startedAt: Ns;
  startedAtMs: number;
  /** When the clients had ended. */
  endedAt: Ns;
  processes: readonly Pick<ClusterProcess, "name" | "service" | "region">[];
}>;

/** The time to recover after the last fault, with a process restart. */
const readyBoundMs = 20_000;
/** How much longer clients continue on a slow machine to collect enough answers. */
const extraMs = 60_000;

/** @throws Error when the run is inconclusive: a client process ended, or there are too few answers */
export async function runOnStage(options: StageOptions): Promise<Seen> {
  const { topology, seed, folder, weakened, smallDisks, print, act } = options;
  await using stack = new AsyncDisposableStack();
  const origin = newOrigin();
  const now = runClock(origin);
  const originMs = wallClockAt(now);
  const token = randomBytes(12).toString("hex");
  let startedAt = now();
  const say = (text: string): void =>
    print(`${((now() - startedAt) / nsPerMs / 1_000).toFixed(1).padStart(6)} s  ${text}`);
  const file = (name: string): string => join(folder, `${name}.jsonl`);
  const history = stack.adopt(openHistoryFile(file("main"), { process: "main", now }), (each) => each.close());
  const upstream = { origin, token, tickMs: 100 };
  let isWritten = false;
  const onProcessEnd = (node: string, how: EndOfProcess): void => {
    if (!isWritten) history.write({ type: "process-end", at: now(), node, how });
  };
  const started = await startCluster({ topology, folder, upstream, weakened, smallDisks, say, onProcessEnd });
  const cluster = stack.adopt(started, (each) => each.stop());
  const client = stack.adopt(statusClient(cluster), (each) => each.close());
  const watch = stack.adopt(watchLeader(client, { now, history }), (each) => each.stop());

  const world = { seed, origin, token, folder };
  const clients = stack.adopt(startLoad(cluster, world), (each) => each.stop(1_000));
  const operator = stack.adopt(startOperator(cluster, world), (each) => each.stop(1_000));
  operator.onMessage((message) => {
    if (message.type === "session" || message.type === "retire" || message.type === "probe") clients.send(message);
  });
  let answered = 0;
  clients.onMessage((message) => {
    if (message.type === "progress") answered = message.counts["answered"] ?? 0;
  });
  await Promise.all([clients.ready, operator.ready]);
  for (const helper of [clients, operator]) helper.send({ type: "start" });
  const load = watchLoad();
  startedAt = now();
  const startedAtMs = Date.now();
  say("clients and operator are at work");
  const samples = stack.adopt(watchNodes(cluster, { now, history }), (each) => each.stop());

  const homeMoves = createHomeMoves(cluster, { now, history, say });
  const faults = createFaultRunner({ cluster, homeMoves, now, history, leader: watch.name, say });
  const stage: Stage = { cluster, faults, homeMoves, history, now, startedAt, token, say };
  await Promise.race([act(stage), failureOf([clients, operator, cluster.upstream])]);
  await faults.healAll();
  const readiness = await becomeReady(cluster, readyBoundMs);
  say(readiness.readyAfterMs === null ? "not all are ready" : "all are ready");
  const perSecond = topology.answersPerSecondMin / load();
  const enough = Math.ceil((perSecond * (now() - startedAt)) / nsPerMs / 1_000);
  for (const until = performance.now() + extraMs; answered < enough && performance.now() < until; ) await delay(500);
  await operator.stop(25_000);
  await clients.stop(5_000);
  const endedAt = now();
  say("clients and operator have ended; looking at what is left");

  const ending = await inspect(cluster, client, { readiness, now, originMs });
  const restarts = cluster.processes.reduce((sum, each) => sum + each.restarts, 0);
  watch.stop();
  samples.stop();
  isWritten = true;
  await Promise.all([history.close(), cluster.upstream.stop(5_000)]);
  const entries = await Promise.all(
    ["main", "load", "operator", "upstream"].map((name) => readHistoryFile(file(name))),
  );
  const seen = historyOf(entries.flat());
  const judged = seen.request.filter(({ outcome }) => outcome === "answered").length;
  if (judged < enough) throw new Error(`only ${judged} answers of the ${enough} that are to be judged`);
  const { processes } = cluster;
  return { history: seen, ending, restarts, startedAt, startedAtMs, endedAt, processes };
}

/** A run without its clients is inconclusive. Never resolves. */
function failureOf(helpers: readonly Helper[]): Promise<never> {
  const ends = helpers.map(async ({ name, exited }): Promise<never> => {
    const code = await exited;
    throw new Error(`${name} ended with ${code} in the middle of the run`);
  });
  const failure = Promise.race(ends);
  failure.catch(() => {}); // after the run the clients end normally
  for (const end of ends) end.catch(() => {});
  return failure;
}

type World = Readonly<{ seed: number; origin: string; token: string; folder: string }>;

function startLoad({ proxies, topology }: Cluster, { seed, origin, token, folder }: World): Helper {
  const options: LoadOptions = {
    seed,
    origin,
    token,
    history: join(folder, "load.jsonl"),
    nodes: proxies.map(({ name, region, ports }) => ({ name, region, port: ports.address })),
    ...topology.load,
  };
  return startHelper({ name: "load", script: "clients/client-load.ts", options, logFile: join(folder, "load.log") });
}

function startOperator({ regions, home, issuer, topology }: Cluster, { seed, origin, folder }: World): Helper {
  const options: OperatorOptions = {
    seed: seed + 1,
    origin,
    history: join(folder, "operator.jsonl"),
    configFile: home.authenticate.configFile,
    issuer,
    doors: regions.map(({ name, authenticate, proxies }) => ({
      region: name,
      port: authenticate.ports.address,
      proxyPorts: proxies.map(({ ports }) => ports.address),
    })),
    sessions: topology.sessions,
    revokers: 3,
  };
  const logFile = join(folder, "operator.log");
  return startHelper({ name: "operator", script: "clients/operator.ts", options, logFile });
}
