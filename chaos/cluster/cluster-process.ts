/**
 * Cluster process: one process of the cluster under test, and the faults that can be done to it.
 *
 * Ports and data survive a kill. Only its owner restarts it, except when it could not start because a dependency was
 * down: then it restarts itself, as a supervisor would.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Child } from "../../test/support/child.ts";
import { waitFor } from "../../test/support/wait-for.ts";
import { auditFileIn, type ProcessPorts, type ProcessSpec } from "./cluster-config.ts";

/** `drained`: it ended by itself when it was told to, with exit code 0. */
export type EndOfProcess = "drained" | "killed";

/** The exit code of a command that could not be done. */
const couldNotStart = 3;
const restartMs = 500;
const slowDisk = join(import.meta.dirname, "slow-disk.ts");
const answerMs = 1_000;

export class ClusterProcess {
  readonly name: string;
  readonly ports: ProcessPorts;
  readonly region: string;
  readonly service: ProcessSpec["service"];
  readonly configFile: string;
  readonly logFile: string;
  /** The file of its audit records. */
  readonly auditFile: string;
  readonly #entry: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #enter: readonly string[];
  readonly #onEnd: (how: EndOfProcess) => void;
  readonly #slowDiskFile: string;
  /** Restarts because a dependency was down. */
  restarts = 0;
  /** True while it must stay down until it is started. */
  #down = true;
  #child: Child | undefined;
  /** Exits that no fault caused: something is wrong with the process itself. */
  readonly #crashes: string[] = [];

  constructor(
    spec: ProcessSpec,
    location: Readonly<{
      folder: string;
      config: object;
      entry: string;
      env: Readonly<Record<string, string>>;
      /** What enters the namespace in which it runs; empty: it runs in this one. */
      enter: readonly string[];
      onEnd: (how: EndOfProcess) => void;
    }>,
  ) {
    this.name = spec.name;
    this.ports = spec.ports;
    this.region = spec.region.name;
    this.service = spec.service;
    this.configFile = join(location.folder, `${spec.name}.yaml`);
    this.logFile = join(location.folder, `${spec.name}.log`);
    this.auditFile = auditFileIn(join(location.folder, "data", spec.name));
    this.#slowDiskFile = join(location.folder, `${spec.name}.slow-disk`);
    this.#entry = location.entry;
    this.#env = location.env;
    this.#enter = location.enter;
    this.#onEnd = location.onEnd;
    writeFileSync(this.configFile, JSON.stringify(location.config, null, 2), { mode: 0o600 });
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
    const program = ["--no-warnings", "--import", slowDisk, this.#entry, "run", "-c", this.configFile];
    const [command = "", ...args] = [...this.#enter, process.execPath, ...program];
    const child = await Child.start({
      command,
      args,
      logFile: this.logFile,
      // Do not wait for streams of clients that stay open.
      env: { DRAIN_DELAY: "0s", DRAIN_TIMEOUT: "3s", CARDEA_CHAOS_SLOW_DISK: this.#slowDiskFile, ...this.#env },
    });
    this.#child = child;
    void child.exited.then(({ code, signal }) => this.#ended(child, code ?? signal));
  }

  /** Restarts a process that could not start because a dependency was down, as a supervisor does. */
  #ended(child: Child, how: number | string | null): void {
    this.#onEnd(how === 0 ? "drained" : "killed");
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

  /** Kills it, as a crash does. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    this.#down = true;
    await child?.kill();
  }

  /** Drains it and ends it. */
  async end(withinMs = 10_000): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    this.#down = true;
    await child?.end("SIGTERM", { withinMs });
  }

  /** Makes each sync of a file take that much longer; 0: as usual. */
  slowDisk(ms: number): void {
    if (ms > 0) writeFileSync(this.#slowDiskFile, String(ms));
    else rmSync(this.#slowDiskFile, { force: true });
  }

  pause(): void {
    this.#child?.pause();
  }
  resume(): void {
    this.#child?.resume();
  }

  /** Its page of metrics. @throws Error when it does not answer in time */
  async metrics(): Promise<string> {
    const url = `http://127.0.0.1:${this.ports.metrics}/metrics`;
    const response = await fetch(url, { signal: AbortSignal.timeout(answerMs) });
    return response.text();
  }

  /** Its own explanation why it does not serve; empty when it does. */
  async whyNotReady(): Promise<readonly string[]> {
    if (!this.running) return ["not running"];
    try {
      const response = await fetch(`http://127.0.0.1:${this.ports.metrics}/readyz`, {
        signal: AbortSignal.timeout(answerMs),
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
