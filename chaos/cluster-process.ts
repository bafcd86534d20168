/**
 * Cluster process: one of our own processes, and what can be done to it.
 *
 * Ports and data survive a kill. Nobody but its owner starts it again, except when it could not start because something
 * else was down: then a supervisor would.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "../test/support/child.ts";
import { waitFor } from "../test/support/wait-for.ts";
import type { ProcessPorts, ProcessSpec } from "./cluster-config.ts";

/** The exit code of a command that could not be carried out. */
const couldNotStart = 3;
const restartMs = 500;

export class ClusterProcess {
  readonly name: string;
  readonly ports: ProcessPorts;
  readonly region: string;
  readonly configFile: string;
  readonly logFile: string;
  readonly #entry: string;
  readonly #env: Readonly<Record<string, string>>;
  /** How often it had to be started again because something that it needs was down. */
  restarts = 0;
  /** It is to stay down until somebody starts it. */
  #down = true;
  #child: Child | undefined;
  /** Ends that nobody here has caused, and that say something is wrong with the process itself. */
  readonly #crashes: string[] = [];

  constructor(
    spec: ProcessSpec,
    place: Readonly<{ folder: string; config: object; entry: string; env: Readonly<Record<string, string>> }>,
  ) {
    this.name = spec.name;
    this.ports = spec.ports;
    this.region = spec.region;
    this.configFile = join(place.folder, `${spec.name}.yaml`);
    this.logFile = join(place.folder, `${spec.name}.log`);
    this.#entry = place.entry;
    this.#env = place.env;
    writeFileSync(this.configFile, JSON.stringify(place.config, null, 2), { mode: 0o600 });
  }

  get crashes(): readonly string[] {
    return this.#crashes;
  }
  get running(): boolean {
    return this.#child?.running === true;
  }

  async start(): Promise<void> {
    this.#down = false;
    if (this.running) return;
    const child = await Child.start({
      command: process.execPath,
      args: ["--no-warnings", this.#entry, "run", "-c", this.configFile],
      logFile: this.logFile,
      // Nobody waits for streams of clients that are told to stay.
      env: { DRAIN_DELAY: "0s", DRAIN_TIMEOUT: "3s", ...this.#env },
    });
    this.#child = child;
    void child.exited.then(({ code, signal }) => this.#onEnd(child, code ?? signal));
  }

  /** As a supervisor does it: what could not start because something else is down is started again a little later. */
  #onEnd(child: Child, how: number | string | null): void {
    if (this.#child !== child) return;
    if (how !== couldNotStart) {
      this.#crashes.push(`${this.name} ended by itself with ${how}`);
      return;
    }
    this.#child = undefined;
    this.restarts += 1;
    setTimeout(() => {
      if (this.#child === undefined && !this.#down) void this.start();
    }, restartMs).unref();
  }

  /** As a crash would. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    this.#down = true;
    await child?.kill();
  }

  /** Drains and ends. */
  async end(withinMs = 10_000): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    this.#down = true;
    await child?.end("SIGTERM", { withinMs });
  }

  pause(): void {
    this.#child?.pause();
  }
  resume(): void {
    this.#child?.resume();
  }

  /** In its own words why it does not serve; empty when it does. */
  async whyNotReady(): Promise<readonly string[]> {
    if (!this.running) return ["not running"];
    try {
      const response = await fetch(`http://127.0.0.1:${this.ports.metrics}/readyz`, {
        signal: AbortSignal.timeout(1_000),
      });
      const { ready, reasons } = (await response.json()) as { ready: boolean; reasons: string[] };
      return ready ? [] : reasons;
    } catch {
      return ["does not answer"];
    }
  }
}

/** @throws WaitedInVainError naming the processes */
export async function whenReady(processes: readonly ClusterProcess[], withinMs: number): Promise<void> {
  await waitFor(
    `${processes.map(({ name }) => name).join(", ")} to be ready`,
    async () => {
      const reasons = await Promise.all(processes.map((each) => each.whyNotReady()));
      return reasons.every((each) => each.length === 0);
    },
    { withinMs, everyMs: 100 },
  );
}
