/**
 * Workers: several processes that share one listener, each a node, and the parent process that supervises them.
 *
 * - The parent accepts connections and distributes them in turn (node:cluster), answers for health and metrics, runs
 *   the databroker if there is one, and forwards SIGHUP and SIGTERM. It decides no request.
 * - A worker that ends is restarted, with a growing pause if it ends soon. If one ends before any was ready, all end.
 */
import cluster, { type Worker } from "node:cluster";
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Registry } from "prom-client";
import type { Config } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { CannotError } from "../terminal/command.ts";
import { flagsForGc, gcFacts } from "./gc/gc-threads.ts";
import { startHealthServer } from "./health-server.ts";
import { reassignOrphanedConnections } from "./orphaned-connections.ts";
import { commonShare, type ProcessReadiness } from "./readiness.ts";
import type { Share } from "./worker-shares.ts";

const environmentVariable = "CARDEA_WORKER";
const restartMsMin = 500;
const restartMsMax = 30_000;
/** A worker that ran this long is restarted with the shortest pause again. */
const stableAfterMs = 60_000;
const requestMsMax = 5_000;

/** The share of this process; undefined: it is not a worker. */
export function workerShareOf(env: Readonly<Record<string, string | undefined>>): Share | undefined {
  const text = env[environmentVariable];
  return cluster.isWorker && text !== undefined ? (JSON.parse(text) as Share) : undefined;
}

export function newShare(index: number): Share {
  return { index, access: `cardea:${randomBytes(24).toString("base64url")}` };
}

/** Reports the port of this worker's health server to the parent. */
export function reportHealthPort(port: number | null): void {
  process.send?.({ health: port });
}

/** Call it at the end of a worker: its channel to the parent keeps the process alive. */
export function disconnectWorker(): void {
  cluster.worker?.disconnect();
}

/** A process whose health and metrics the parent collects. */
type Member = { readonly label: string; readonly share: Share; port: number | null; up: boolean };

export type Workers = Readonly<{
  /** Settles if a worker ends before any was ready. */
  failed: Promise<CannotError>;
  reload(): void;
  /** Stops being ready at once; settles when every worker has ended. */
  stop(): Promise<void>;
}>;

/** @param parts.databroker the databroker in this process, and the port of its health server; null: none */
export async function startWorkers(
  config: Config,
  parts: Readonly<{ logger: Logger; databroker: Readonly<{ share: Share; port: number | null }> | null }>,
): Promise<Workers> {
  const { logger } = parts;
  const failed = Promise.withResolvers<CannotError>();
  const members: Member[] =
    parts.databroker === null
      ? []
      : [{ label: "databroker", share: parts.databroker.share, port: parts.databroker.port, up: true }];
  const running = new Map<Worker, Promise<unknown>>();
  const listening = new WeakSet<Worker>();
  let stopping = false;
  let anyReady = false;
  cluster.schedulingPolicy = cluster.SCHED_RR;
  cluster.setupPrimary({ execArgv: [...flagsForGc(gcFacts({ processes: config.workers }))] });

  function start(member: Member, pauseMs: number): void {
    const startedAt = performance.now();
    const worker = cluster.fork({ [environmentVariable]: JSON.stringify(member.share) });
    worker.once("listening", () => listening.add(worker));
    reassignOrphanedConnections(worker, () =>
      [...running.keys()].some((each) => each.isConnected() && listening.has(each)),
    );
    worker.on("error", (error) => {
      if (worker.process.pid === undefined) throw error; // it did not start
      // It has just ended; its `exit` follows.
      logger.warn(
        { worker: member.share.index, error: error.message },
        "cannot send a message to a worker that has just ended",
      );
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
          failed.resolve(
            new CannotError(`worker ${member.share.index} ended with ${code ?? signal} before it was ready`),
          );
          return;
        }
        const next = performance.now() - startedAt > stableAfterMs ? restartMsMin : pauseMs;
        logger.error({ ...facts, againInMs: next }, "a worker ended; restarting it");
        void delay(next, undefined, { ref: false }).then(() => {
          if (!stopping) start(member, Math.min(next * 2, restartMsMax));
        });
      });
    });
    running.set(worker, exited);
  }

  for (let index = 1; index <= config.workers; index++) {
    const member: Member = { label: String(index), share: newShare(index), port: null, up: false };
    members.push(member);
    start(member, restartMsMin);
  }

  async function requestFrom({ share, port }: Member, path: string): Promise<Response> {
    const authorization = `Basic ${Buffer.from(share.access).toString("base64")}`;
    return fetch(`http://127.0.0.1:${port}${path}`, {
      headers: { authorization },
      signal: AbortSignal.timeout(requestMsMax),
    });
  }

  /** Ready if a worker accepts connections and all that do are ready. */
  async function readiness(): Promise<ProcessReadiness> {
    if (stopping) return { ready: false, reasons: ["draining"] };
    const up = members.filter((member) => member.up);
    const answers = await Promise.all(
      up.map(async (member): Promise<ProcessReadiness> => {
        try {
          const answer = (await (await requestFrom(member, "/readyz")).json()) as ProcessReadiness;
          return { ...answer, reasons: answer.reasons.map((reason) => `${member.label}: ${reason}`) };
        } catch {
          return { ready: false, reasons: [`${member.label}: does not answer`] };
        }
      }),
    );
    const serves = up.some(({ share }) => share.index > 0);
    const reasons = [...(serves ? [] : ["no worker is ready"]), ...answers.flatMap((answer) => answer.reasons)];
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
          const text = await requestFrom(member, "/metrics")
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
          listen: config.metricsAddress,
          registry: new Registry(),
          readiness,
          access: config.metrics,
          collect: () => undefined,
          moreMetrics: metrics,
        });

  function signal(name: NodeJS.Signals): void {
    for (const worker of running.keys()) worker.process.kill(name);
  }

  return {
    failed: failed.promise,
    reload: () => signal("SIGHUP"),
    async stop() {
      stopping = true;
      signal("SIGTERM");
      await Promise.all(running.values());
      await health?.close();
    },
  };
}

/**
 * Joins metrics in Prometheus' text format. Each sample gets the label `worker`.
 * @param texts by the value of that label
 */
export function mergeMetrics(texts: ReadonlyMap<string, string>): string {
  /** Lines of HELP and TYPE, then samples. */
  const families = new Map<string, { head: string[]; samples: string[] }>();
  for (const [worker, text] of texts) {
    let family = { head: [] as string[], samples: [] as string[] };
    for (const line of text.split("\n")) {
      const [, about, name = ""] = /^# (HELP|TYPE) (\S+)/.exec(line) ?? [];
      if (about !== undefined) {
        family = families.get(name) ?? { head: [], samples: [] };
        families.set(name, family);
        if (!family.head.includes(line)) family.head.push(line);
      } else if (line !== "" && !line.startsWith("#")) {
        family.samples.push(labelled(line, worker));
      }
    }
  }
  return [...families.values()].map(({ head, samples }) => `${[...head, ...samples].join("\n")}\n`).join("");
}

function labelled(sample: string, worker: string): string {
  const [, name = "", labels, rest = ""] = /^([^\s{]+)(?:\{(.*)\})?( .*)$/.exec(sample) ?? [];
  return `${name}{worker="${worker}"${labels === undefined || labels === "" ? "" : `,${labels}`}}${rest}`;
}
