/**
 * Policy lab: checks and tests policy texts in a thread of its own, so that no text delays the requests of this
 * process.
 *
 * - The thread starts with the first call, and ends when there was none for a minute.
 * - It answers one call at a time. A call that takes too long or too much memory ends the thread.
 */
import { Worker } from "node:worker_threads";
import { type CheckedText, type PolicyLab, PolicyLabError, type TestedText } from "../../../console/index.ts";
import { type LabAnswer, type LabCall, routeText } from "./lab-calls.ts";

export type LabBounds = Readonly<{
  /** The longest call, the start of the thread included. */
  callMs: number;
  idleMs: number;
  /** Calls that wait or run. */
  callsMax: number;
  memoryMb: number;
}>;

const defaults: LabBounds = { callMs: 10_000, idleMs: 60_000, callsMax: 8, memoryMb: 256 };

type Waiting = Readonly<{
  call: LabCall;
  resolve: (answer: LabAnswer["answer"]) => void;
  reject: (error: Error) => void;
}>;

export class WorkerPolicyLab implements PolicyLab {
  readonly #bounds: LabBounds;
  readonly #waiting: Waiting[] = [];
  #running: Waiting | null = null;
  #worker: Worker | null = null;
  #timer: NodeJS.Timeout | undefined;
  #calls = 0;
  #isClosed = false;

  constructor(bounds: Partial<LabBounds> = {}) {
    this.#bounds = { ...defaults, ...bounds };
  }

  check({ text, route }: Parameters<PolicyLab["check"]>[0]): Promise<CheckedText> {
    return this.#call({ text, table: null, route: route === null ? null : routeText(route) }) as Promise<CheckedText>;
  }

  test({ text, table, route }: Parameters<PolicyLab["test"]>[0]): Promise<TestedText> {
    return this.#call({ text, table, route: route === null ? null : routeText(route) }) as Promise<TestedText>;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const { reject } of this.#waiting.splice(0))
      reject(new PolicyLabError("busy", "this server is shutting down"));
    await this.#end(new PolicyLabError("busy", "this server is shutting down"));
  }

  #call(call: Omit<LabCall, "id">): Promise<LabAnswer["answer"]> {
    const count = this.#waiting.length + (this.#running === null ? 0 : 1);
    if (this.#isClosed || count >= this.#bounds.callsMax)
      return Promise.reject(new PolicyLabError("busy", "this server checks other policies: try again"));
    this.#calls += 1;
    const id = this.#calls;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ call: { id, ...call }, resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    if (this.#running !== null || this.#isClosed) return;
    const next = this.#waiting.shift();
    clearTimeout(this.#timer);
    if (next === undefined) {
      this.#timer = setTimeout(() => void this.#end(null), this.#bounds.idleMs).unref();
      return;
    }
    this.#running = next;
    this.#worker ??= this.#start();
    this.#worker.postMessage(next.call);
    const seconds = Math.round(this.#bounds.callMs / 1_000);
    const late = new PolicyLabError("costly", `the policy takes longer than ${seconds} s to check: simplify it`);
    this.#timer = setTimeout(() => void this.#end(late), this.#bounds.callMs).unref();
  }

  #start(): Worker {
    // The built program has it in its own folder; the sources have it in another one.
    const file = import.meta.url.endsWith(".ts") ? "../../policy/policy-worker.ts" : "./policy-worker.js";
    const worker = new Worker(new URL(file, import.meta.url), {
      name: "cardea policy",
      execArgv: [], // the thread does not inherit the options of the process
      resourceLimits: { maxOldGenerationSizeMb: this.#bounds.memoryMb },
    });
    worker.unref();
    worker.on("message", ({ id, answer }: LabAnswer) => {
      if (this.#worker !== worker || this.#running?.call.id !== id) return;
      const { resolve } = this.#running;
      this.#running = null;
      resolve(answer);
      this.#next();
    });
    worker.on("error", (cause: unknown) => {
      if (this.#worker !== worker) return;
      const isMemory = cause instanceof Error && "code" in cause && cause.code === "ERR_WORKER_OUT_OF_MEMORY";
      const what = isMemory ? "the policy takes too much memory to check: simplify it" : "the policy cannot be checked";
      void this.#end(new PolicyLabError("costly", what, { cause }));
    });
    return worker;
  }

  /** Ends the thread, and what runs in it; what waits gets a new thread. */
  async #end(error: PolicyLabError | null): Promise<void> {
    const [worker, running] = [this.#worker, this.#running];
    this.#worker = null;
    this.#running = null;
    if (running !== null && error !== null) running.reject(error);
    if (!this.#isClosed && (running !== null || this.#waiting.length > 0)) this.#next();
    await worker?.terminate();
  }
}
