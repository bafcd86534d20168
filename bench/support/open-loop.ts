/**
 * Open loop: requests at a fixed rate, evenly spaced to a quarter of a millisecond, whatever happens to earlier ones. A
 * separate process; argument: an `OpenLoopSetup` as JSON; prints an `OpenLoopSeen` as JSON.
 *
 * A request's time counts from the moment at which it was due, so waiting for a connection, or for this program, counts
 * (no coordinated omission). It also prints how late this program itself was. It must be cheap, because it shares its
 * core with the upstream: it uses plain sockets, and reads only the status and the length of responses.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { Worker } from "node:worker_threads";
import { percentile } from "./histogram.ts";
import type { MetronomeSetup } from "./metronome.ts";

export type OpenLoopSetup = Readonly<{
  port: number;
  /** JSON: a list of request heads per person. Connections are assigned to people in turn. */
  requestsFile: string;
  perSecond: number;
  seconds: number;
  warmUpS: number;
  connections: number;
}>;
/** Milliseconds. `lateP99`: from when a request was due until this program sent it. */
export type OpenLoopResult = Readonly<
  Record<"p50" | "p90" | "p99" | "p999" | "max" | "lateP99" | "requests" | "errors", number>
>;

const tickMs = 0.25;
/** A proxy with more waiting requests cannot sustain the rate. */
const behindSMax = 5;

const setup = JSON.parse(process.argv[2] ?? "") as OpenLoopSetup;
const people = JSON.parse(readFileSync(setup.requestsFile, "utf8")) as readonly (readonly string[])[];
const total = Math.ceil((setup.warmUpS + setup.seconds) * setup.perSecond);
const first = Math.ceil(setup.warmUpS * setup.perSecond);
const took: number[] = [];
const late: number[] = [];
let [sent, answered, errors] = [0, 0, 0];

const metronomeState = new Int32Array(new SharedArrayBuffer(8));
const workerData: MetronomeSetup = { state: metronomeState, everyMs: tickMs };
const finished = Promise.withResolvers<void>();
const idle: Connection[] = [];
const waiting: number[] = [];

class Connection {
  readonly #socket: Socket;
  readonly #requests: readonly string[];
  #n = 0;
  #text = "";

  constructor(socket: Socket, requests: readonly string[]) {
    this.#socket = socket;
    this.#requests = requests;
    socket.setNoDelay(true);
    socket.setEncoding("latin1");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (error) => finished.reject(error));
    socket.on("end", () => finished.reject(new Error("a connection was closed")));
    idle.push(this);
  }

  send(n: number): void {
    this.#n = n;
    this.#socket.write(this.#requests[n % this.#requests.length] ?? "", "latin1");
  }

  #receive(text: string): void {
    this.#text += text;
    const headEnd = this.#text.indexOf("\r\n\r\n");
    if (headEnd < 0) return;
    const length = /\r\ncontent-length: *(\d+)\r\n/i.exec(this.#text.slice(0, headEnd + 2))?.[1];
    if (length === undefined) finished.reject(new Error("a response without a length"));
    else if (this.#text.length >= headEnd + 4 + Number(length)) this.#finish();
  }

  #finish(): void {
    if (!this.#text.startsWith("HTTP/1.1 200 ")) errors++;
    this.#text = "";
    if (this.#n >= first) took.push(performance.now() - dueAt(this.#n));
    if (++answered === total) finished.resolve();
    const next = waiting.shift();
    if (next === undefined) idle.push(this);
    else this.send(next);
  }
}

for (let i = 0; i < setup.connections; i++) {
  const socket = connect(setup.port, "127.0.0.1");
  await once(socket, "connect");
  new Connection(socket, people[i % people.length] ?? []);
}
const startedAt = performance.now();
const metronome = new Worker(new URL("./metronome.ts", import.meta.url), { workerData });
metronome.on("error", finished.reject);
metronome.on("message", () => {
  Atomics.store(metronomeState, 0, 0);
  for (let now = performance.now(); sent < total && dueAt(sent) <= now; sent++) {
    if (sent >= first) late.push(now - dueAt(sent));
    const connection = idle.pop();
    if (connection === undefined) waiting.push(sent);
    else connection.send(sent);
  }
  if (waiting.length > behindSMax * setup.perSecond)
    finished.reject(new Error(`${waiting.length} requests wait: it does not sustain ${setup.perSecond} per second`));
});
await finished.promise;

function dueAt(n: number): number {
  return startedAt + Math.ceil((n * 1_000) / setup.perSecond / tickMs) * tickMs;
}

const result: OpenLoopResult = {
  p50: percentile(took, 50),
  p90: percentile(took, 90),
  p99: percentile(took, 99),
  p999: percentile(took, 99.9),
  max: percentile(took, 100),
  lateP99: percentile(late, 99),
  requests: took.length,
  errors,
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());
