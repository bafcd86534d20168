/**
 * Cluster process: one real `cardea run` on loopback, and what a test can do to it.
 *
 * Its ports, configuration and data folder survive restarts and end with the test.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RouteShare } from "../../../src/cli/process/readiness.ts";
import { Child, type Exit } from "../../support/child.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";

export type ProcessPorts = Readonly<{ address: number; metrics: number; broker: number }>;

const root = join(import.meta.dirname, "../../..");
/** Compiles once for all processes of all tests, so a restart takes about a second. */
export const fasterStart = { NODE_COMPILE_CACHE: join(root, ".cache/compile") };
/** No load balancer needs a drain delay here, and no stream that a test left open is worth waiting for. */
const quickDrain = { DRAIN_DELAY: "0s", DRAIN_TIMEOUT: "5s" };

const readyWithinMs = 120_000;
const exitWithinMs = 60_000;
/** A process on a busy machine answers late. */
const answerWithinMs = 15_000;

export class ClusterProcess {
  readonly name: string;
  readonly region: string;
  readonly ports: ProcessPorts;
  readonly dataDir: string;
  readonly configFile: string;
  readonly #logFile: string;
  readonly #env: Readonly<Record<string, string>>;
  /** The program of the next start: this build or another one. */
  program = mainFile;
  #child: Child | undefined;

  constructor(
    spec: Readonly<{
      name: string;
      region: string;
      ports: ProcessPorts;
      folder: string;
      dataDir: string;
      config: object;
      env?: Readonly<Record<string, string>>;
    }>,
  ) {
    this.#env = spec.env ?? {};
    this.name = spec.name;
    this.region = spec.region;
    this.ports = spec.ports;
    this.dataDir = spec.dataDir;
    this.configFile = join(spec.folder, `${spec.name}.yaml`);
    this.#logFile = join(spec.folder, `${spec.name}.log`);
    writeFileSync(this.configFile, JSON.stringify(spec.config, null, 2), { mode: 0o600 });
  }

  get brokerUrl(): string {
    return `http://127.0.0.1:${this.ports.broker}`;
  }
  get running(): boolean {
    return this.#child?.running === true;
  }
  log(): string {
    return readFileSync(this.#logFile, "utf8");
  }

  /** Waits until the process ends by itself. */
  async exited(): Promise<Exit | undefined> {
    return this.#child?.exited;
  }
  /** The process has logged that it was paused: until its next grant it rightly permits nothing. */
  hasReportedPause(): boolean {
    return /did not run for a while; permitting nothing until a new grant/.test(this.log());
  }

  /** Starts the process without waiting until it serves. */
  async launch(): Promise<void> {
    this.#child = await Child.start({
      command: process.execPath,
      args: ["--no-warnings", this.program, "run", "-c", this.configFile],
      logFile: this.#logFile,
      env: { ...fasterStart, ...quickDrain, ...this.#env },
    });
  }
  async start(): Promise<void> {
    await this.launch();
    await this.ready();
  }
  /** Ends the process as a crash would. */
  async kill(): Promise<void> {
    await this.#child?.kill();
  }
  /** SIGTERM: the process drains, sends its goodbye, and ends. */
  async end(): Promise<Exit | undefined> {
    return this.#child?.end("SIGTERM", { withinMs: exitWithinMs });
  }
  async restart(): Promise<void> {
    await this.end();
    await this.start();
  }
  pause(): void {
    this.#child?.pause();
  }
  resume(): void {
    this.#child?.resume();
  }

  async ready(): Promise<void> {
    let reasons: readonly string[] = [];
    try {
      await waitFor(
        `${this.name} to be ready`,
        async () => {
          reasons = this.running ? await this.notReadyReasons() : ["the process has ended"];
          return reasons.length === 0 || !this.running;
        },
        { withinMs: readyWithinMs },
      );
      if (!this.running) throw new Error("the process has ended");
    } catch (cause) {
      throw new Error(`${this.name} is not ready: ${reasons.join("; ")}\n${this.log().slice(-4_000)}`, { cause });
    }
  }

  /** The reasons on its readiness page; empty if it serves. */
  async notReadyReasons(): Promise<readonly string[]> {
    try {
      const response = await this.#fetch("/readyz");
      const answer = (await response.json()) as { ready: boolean; reasons: readonly string[] };
      return answer.ready ? [] : answer.reasons;
    } catch {
      return ["no response"];
    }
  }

  /** The response of `/readyz`. @param query begins with `?` */
  async readiness(query = ""): Promise<Readonly<{ status: number; routes: RouteShare }>> {
    const response = await this.#fetch(`/readyz${query}`);
    const { routes } = (await response.json()) as Readonly<{ routes: RouteShare }>;
    return { status: response.status, routes };
  }

  /** One value of its `/metrics`. @throws when there is no such line (yet): a missing metric is no 0 */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const wanted = Object.entries(labels).map(([key, value]) => `${key}="${value}"`);
    const lines = (await (await this.#fetch("/metrics")).text()).split("\n");
    const line = lines.find(
      (each) =>
        (each.startsWith(`${name}{`) || each.startsWith(`${name} `)) && wanted.every((pair) => each.includes(pair)),
    );
    if (line === undefined) throw new Error(`${this.name} has no metric ${name}{${wanted.join(",")}}`);
    return Number(line.slice(line.lastIndexOf(" ") + 1));
  }

  #fetch(path: string): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.ports.metrics}${path}`, { signal: AbortSignal.timeout(answerWithinMs) });
  }
}
