/**
 * Workers: several processes that share one listener, each a node of its own, and the process that looks after them.
 *
 * That one takes connections and hands them out in turn (node:cluster), answers for health and metrics, runs the databroker
 * where there is one, and passes on what it is told: SIGHUP, SIGTERM. It decides nothing about requests. A worker that ends is
 * started again, later each time it does so soon; one that ends before any was ready ends them all.
 */
import cluster, { type Worker } from "node:cluster";
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Registry } from "prom-client";
import type { Config } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { CannotError } from "../terminal/command.ts";
import { startHealthServer } from "./health-server.ts";
import { mergeMetrics } from "./merged-metrics.ts";
import { takeBackHanded } from "./orphaned-connections.ts";
import { commonShare, type Readiness } from "./readiness.ts";
import type { Share } from "./worker-shares.ts";

const variable = "CARDEA_WORKER";
const againMsMin = 500;
const againMsMax = 30_000;
/** One that ran for so long begins anew with short pauses. */
const soonMs = 60_000;
const askMsMax = 5_000;

/** Which worker this process is. */
export function ownShare(env: Readonly<Record<string, string | undefined>>): Share | undefined {
  const text = env[variable];
  return cluster.isWorker && text !== undefined ? (JSON.parse(text) as Share) : undefined;
}

export function newShare(index: number): Share {
  return { index, access: `cardea:${randomBytes(24).toString("base64url")}` };
}

/** Tells the process that looks after us where our health is asked for. */
export function tellHealth(port: number | null): void {
  process.send?.({ health: port });
}

/** To be called at the end of a worker: what connects it with the others keeps it from ending. */
export function leaveWorkers(): void {
  cluster.worker?.disconnect();
}

/** A process that health and metrics are asked of. */
type Member = { readonly label: string; readonly share: Share; port: number | null; up: boolean };

export type Workers = Readonly<{
  /** Settles when no worker has ever been ready and one has ended. */
  failed: Promise<CannotError>;
  hangUp(): void;
  /** Not ready any more; settles when every worker has ended. */
  stop(): Promise<void>;
}>;

/** @param beside the databroker beside them, where there is one, and where its health is asked for */
export async function startWorkers(
  config: Config,
  parts: Readonly<{ logger: Logger; beside: Readonly<{ share: Share; port: number | null }> | null }>,
): Promise<Workers> {
  const { logger } = parts;
  const failed = Promise.withResolvers<CannotError>();
  const members: Member[] =
    parts.beside === null
      ? []
      : [{ label: "databroker", share: parts.beside.share, port: parts.beside.port, up: true }];
  const running = new Map<Worker, Promise<unknown>>();
  const listening = new WeakSet<Worker>();
  let stopping = false;
  let anyReady = false;
  cluster.schedulingPolicy = cluster.SCHED_RR;

  function start(member: Member, pauseMs: number): void {
    const startedAt = performance.now();
    const worker = cluster.fork({ [variable]: JSON.stringify(member.share) });
    worker.once("listening", () => listening.add(worker));
    takeBackHanded(worker, () => [...running.keys()].some((each) => each.isConnected() && listening.has(each)));
    worker.on("error", (error) => {
      if (worker.process.pid === undefined) throw error; // it could not be started
      // It has just ended, and is not known to have: its `exit` follows.
      logger.warn({ worker: member.share.index, error: error.message }, "a worker could not be told something");
    });
    worker.on("message", (said: Readonly<{ health?: number | null }>) => {
      if (said.health === undefined) return;
      member.port = said.health;
      member.up = true;
      anyReady = true;
    });
    const exited = new Promise<void>((resolve) => {
      worker.once("exit", (code, signal) => {
        running.delete(worker);
        member.up = false;
        resolve();
        if (stopping) return;
        const facts = { worker: member.share.index, pid: worker.process.pid, code, signal };
        if (!anyReady) {
          failed.resolve(new CannotError(`worker ${member.share.index} ended with ${code ?? signal} before it served`));
          return;
        }
        const next = performance.now() - startedAt > soonMs ? againMsMin : pauseMs;
        logger.error({ ...facts, againInMs: next }, "a worker has ended; it is started again");
        void delay(next, undefined, { ref: false }).then(() => {
          if (!stopping) start(member, Math.min(next * 2, againMsMax));
        });
      });
    });
    running.set(worker, exited);
  }

  for (let index = 1; index <= config.workers; index++) {
    const member: Member = { label: String(index), share: newShare(index), port: null, up: false };
    members.push(member);
    start(member, againMsMin);
  }

  async function ask({ share, port }: Member, path: string): Promise<Response> {
    const authorization = `Basic ${Buffer.from(share.access).toString("base64")}`;
    return fetch(`http://127.0.0.1:${port}${path}`, {
      headers: { authorization },
      signal: AbortSignal.timeout(askMsMax),
    });
  }

  /** Ready when everybody who takes connections is, and somebody does. */
  async function readiness(): Promise<Readiness> {
    if (stopping) return { ready: false, reasons: ["draining"] };
    const up = members.filter((member) => member.up);
    const answers = await Promise.all(
      up.map(async (member): Promise<Readiness> => {
        try {
          const answer = (await (await ask(member, "/readyz")).json()) as Readiness;
          return { ...answer, reasons: answer.reasons.map((reason) => `${member.label}: ${reason}`) };
        } catch {
          return { ready: false, reasons: [`${member.label}: does not answer`] };
        }
      }),
    );
    const serves = up.some(({ share }) => share.index > 0);
    const reasons = [...(serves ? [] : ["no worker serves"]), ...answers.flatMap((answer) => answer.reasons)];
    const routes = commonShare(answers.flatMap((answer) => answer.routes ?? []));
    return {
      ready: serves && answers.every((answer) => answer.ready),
      reasons,
      ...(routes === undefined ? {} : { routes }),
    };
  }

  async function* metrics(): AsyncGenerator<string> {
    const texts = await Promise.all(
      members
        .filter(({ up }) => up)
        .map(async (member) => {
          const text = await ask(member, "/metrics")
            .then((answer) => answer.text())
            .catch(() => "");
          return [member.label, text] as const;
        }),
    );
    yield `# HELP cardea_workers Workers that serve.\n# TYPE cardea_workers gauge\ncardea_workers ${members.filter(({ up, share }) => up && share.index > 0).length}\n`;
    yield mergeMetrics(new Map(texts));
  }

  const health =
    config.metricsAddress === null
      ? null
      : await startHealthServer({
          ...{ listen: config.metricsAddress, registry: new Registry(), readiness, access: config.metrics },
          collect: () => undefined,
          more: metrics,
        });

  function signal(name: NodeJS.Signals): void {
    for (const worker of running.keys()) worker.process.kill(name);
  }

  return {
    failed: failed.promise,
    hangUp: () => signal("SIGHUP"),
    async stop() {
      stopping = true;
      signal("SIGTERM");
      await Promise.all(running.values());
      await health?.close();
    },
  };
}
