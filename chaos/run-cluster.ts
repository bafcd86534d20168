/**
 * Run cluster: one run from the first process to the final check, and its history.
 *
 * Clients and operator start on a healthy cluster and the planned faults follow. Then everything has to recover while
 * the clients continue; the final check happens after they have ended.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { LoadOptions } from "./client-load.ts";
import { type Cluster, startCluster } from "./cluster.ts";
import { becomeReady, inspect, statusClient, watchLeader } from "./ending.ts";
import { createFaultRunner } from "./faults.ts";
import { type Helper, startHelper } from "./helper-process.ts";
import { type Ending, type History, historyOf, type Ns, nsPerMs } from "./history.ts";
import { openHistoryFile, readHistoryFile } from "./history-file.ts";
import type { OperatorOptions } from "./operator.ts";
import type { Plan } from "./plan.ts";
import { newOrigin, runClock } from "./run-clock.ts";

export type RunOptions = Readonly<{
  plan: Plan;
  folder: string;
  /** The removed rule, and the processes that run without it. */
  weakened: Readonly<{ rule: string; processes: readonly string[] }> | null;
  print: (line: string) => void;
}>;
export type Seen = Readonly<{
  history: History;
  ending: Ending;
  /** How often a process could not start because a dependency was down. */
  restarts: number;
  /** When the clients started. */
  startedAt: Ns;
}>;

/** The time to recover after the last fault, with a process restart. */
const readyBoundMs = 20_000;
const answersPerSecondMin = 50_000 / 120;
/** How much longer clients continue on a slow machine to collect enough answers. */
const extraMs = 60_000;

/** @throws Error when the run is inconclusive: a client process ended, or there are too few answers */
export async function runCluster({ plan, folder, weakened, print }: RunOptions): Promise<Seen> {
  await using stack = new AsyncDisposableStack();
  const origin = newOrigin();
  const now = runClock(origin);
  const token = randomBytes(12).toString("hex");
  let startedAt = now();
  const say = (text: string): void =>
    print(`${((now() - startedAt) / nsPerMs / 1_000).toFixed(1).padStart(6)} s  ${text}`);
  const file = (name: string): string => join(folder, `${name}.jsonl`);
  const history = stack.adopt(openHistoryFile(file("main"), { process: "main", now }), (each) => each.close());
  const upstream = { origin, token, tickMs: 100 };
  const cluster = stack.adopt(await startCluster({ folder, upstream, weakened, say }), (each) => each.stop());
  const client = stack.adopt(statusClient(cluster), (each) => each.close());
  const watch = stack.adopt(watchLeader(client, { now, history }), (each) => each.stop());

  const world = { seed: plan.seed, origin, token, folder };
  const load = stack.adopt(startLoad(cluster, world), (each) => each.stop(1_000));
  const operator = stack.adopt(startOperator(cluster, world), (each) => each.stop(1_000));
  operator.onMessage((message) => {
    if (message.type === "session" || message.type === "retire" || message.type === "probe") load.send(message);
  });
  let answered = 0;
  load.onMessage((message) => {
    if (message.type === "progress") answered = message.counts["answered"] ?? 0;
  });
  await Promise.all([load.ready, operator.ready]);
  for (const helper of [load, operator]) helper.send({ type: "start" });
  startedAt = now();
  say("clients and operator are at work");

  const faults = createFaultRunner({ cluster, now, history, leader: watch.name, say });
  await Promise.race([faults.run(plan.faults, startedAt), failureOf([load, operator, cluster.upstream])]);
  await delay(Math.max(0, plan.seconds * 1_000 - (now() - startedAt) / nsPerMs));
  const readiness = await becomeReady(cluster, readyBoundMs);
  say(readiness.readyAfterMs === null ? "not all are ready" : "all are ready");
  const enough = Math.ceil(answersPerSecondMin * plan.seconds);
  for (const until = performance.now() + extraMs; answered < enough && performance.now() < until; ) await delay(500);
  await operator.stop(25_000);
  await load.stop(5_000);
  say("clients and operator have ended; looking at what is left");

  const ending = await inspect(cluster, client, readiness);
  const restarts = cluster.processes.reduce((sum, each) => sum + each.restarts, 0);
  watch.stop();
  await Promise.all([history.close(), cluster.upstream.stop(5_000)]);
  const entries = await Promise.all(
    ["main", "load", "operator", "upstream"].map((name) => readHistoryFile(file(name))),
  );
  const seen = historyOf(entries.flat());
  const judged = seen.request.filter(({ outcome }) => outcome === "answered").length;
  if (judged < enough) throw new Error(`only ${judged} answers of the ${enough} that are to be judged`);
  return { history: seen, ending, restarts, startedAt };
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

function startLoad(cluster: Cluster, { seed, origin, token, folder }: World): Helper {
  const options: LoadOptions = {
    ...{ seed, origin, token },
    history: join(folder, "load.jsonl"),
    nodes: cluster.proxies.map(({ name, ports }) => ({ name, port: ports.address })),
    perSecond: 900,
    plainPerNode: 40,
    downloadsPerNode: 5,
    socketsPerNode: 25,
    slowReadersPerNode: 8,
  };
  return startHelper({ name: "load", script: "client-load.ts", options, logFile: join(folder, "load.log") });
}

function startOperator(cluster: Cluster, { seed, origin, folder }: World): Helper {
  const options: OperatorOptions = {
    ...{ seed: seed + 1, origin },
    history: join(folder, "operator.jsonl"),
    configFile: cluster.authenticate.configFile,
    issuer: cluster.issuer,
    authenticatePort: cluster.authenticate.ports.address,
    proxyPorts: cluster.proxies.map(({ ports }) => ports.address),
    sessions: 300,
    revokers: 3,
  };
  return startHelper({ name: "operator", script: "operator.ts", options, logFile: join(folder, "operator.log") });
}
