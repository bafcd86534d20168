/**
 * Open loop: requests at a fixed rate, evenly spaced to a quarter of a millisecond, whatever happens to earlier ones. A
 * separate process; argument: an `OpenLoopSetup` as JSON; prints an `OpenLoopSeen` as JSON.
 *
 * A request's time counts from the moment at which it was due, so waiting for a connection, or for this program, counts
 * (no coordinated omission). It also prints how late this program itself was. It must be cheap, because it shares its
 * core with the upstream: it uses plain sockets, and reads only the status and the length of responses. Over HTTP/2 it
 * frames requests itself (raw-http2.ts) and refers to lines that it sent before, as browsers do.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { Worker } from "node:worker_threads";
import { formatInteger, formatString } from "../../src/proxy/http2/hpack/text.ts";
import { percentile } from "./histogram.ts";
import type { MetronomeSetup } from "./metronome.ts";
import { RawHttp2 } from "./raw-http2.ts";

export type OpenLoopSetup = Readonly<{
  port: number;
  /** JSON: a list of request heads per person. Connections are assigned to people in turn. */
  requestsFile: string;
  perSecond: number;
  seconds: number;
  warmUpS: number;
  connections: number;
  /** Requests at once on each connection, which is then HTTP/2 over TLS; 0: plain HTTP/1.1. */
  streams: number;
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
/** Sends one request at a time. */
type Slot = { send(n: number): void };
const idle: Slot[] = [];
const waiting: number[] = [];

function finish(slot: Slot, n: number, { isOk }: Readonly<{ isOk: boolean }>): void {
  if (!isOk) errors++;
  if (n >= first) took.push(performance.now() - dueAt(n));
  if (++answered === total) finished.resolve();
  const next = waiting.shift();
  if (next === undefined) idle.push(slot);
  else slot.send(next);
}

class Connection implements Slot {
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
    else if (this.#text.length >= headEnd + 4 + Number(length)) {
      const isOk = this.#text.startsWith("HTTP/1.1 200 ");
      this.#text = "";
      finish(this, this.#n, { isOk });
    }
  }
}

/** Lines that a browser sends again and again, so that they are in the dynamic table. */
const repeated =
  /^(user-agent|cookie|accept|accept-encoding|accept-language|sec-ch-ua|sec-ch-ua-mobile|sec-ch-ua-platform|sec-fetch-site|sec-fetch-mode|sec-fetch-dest)$/;
/** Less than every peer's table has. */
const tableBytesMax = 4_000;

class Http2Connection {
  readonly #requests: readonly string[];
  readonly #connection: RawHttp2;
  /** The position of each line in the dynamic table. */
  readonly #table = new Map<string, number>();
  #tableBytes = 0;
  #nextId = 1;
  readonly #open = new Map<number, { n: number; slot: Slot; isOk: boolean }>();

  constructor(socket: Socket, requests: readonly string[]) {
    this.#requests = requests;
    const fail = (why: string): void => finished.reject(new Error(`a connection ended: ${why}`));
    this.#connection = new RawHttp2(
      socket,
      { side: "client" },
      {
        onHeaders: (id, fields, endStream) => {
          const request = this.#open.get(id);
          if (request !== undefined && fields[0] === ":status") request.isOk = fields[1] === "200";
          if (endStream) this.#onEnd(id);
        },
        onData: (id, _bytes, endStream) => {
          if (endStream) this.#onEnd(id);
        },
        onReset: (id, code) => fail(`stream ${id} was reset (${code})`),
        onGone: fail,
      },
    );
    for (let i = 0; i < setup.streams; i++) {
      const slot: Slot = { send: (n) => this.#send(n, slot) };
      idle.push(slot);
    }
  }

  #send(n: number, slot: Slot): void {
    const id = this.#nextId;
    this.#nextId += 2;
    this.#open.set(id, { n, slot, isOk: false });
    const block = this.#encode(this.#requests[n % this.#requests.length] ?? "");
    this.#connection.sendHeaders(id, block, { endStream: true });
  }

  #onEnd(id: number): void {
    const request = this.#open.get(id);
    this.#open.delete(id);
    if (request !== undefined) finish(request.slot, request.n, request);
  }

  /** @param head of HTTP/1.1 */
  #encode(head: string): string {
    const [first = "", ...lines] = head.split("\r\n");
    let block = "\x82\x87"; // GET, https
    block += formatInteger(4, 4, 0) + formatString(first.split(" ")[1] ?? "");
    for (const line of lines) {
      const at = line.indexOf(": ");
      const name = line.slice(0, at).toLowerCase();
      const value = line.slice(at + 2);
      if (name === "host") block += formatInteger(1, 4, 0) + formatString(value);
      else if (at > 0 && name !== "connection") block += this.#field(name, value);
    }
    return block;
  }

  #field(name: string, value: string): string {
    const line = `${name}: ${value}`;
    const position = this.#table.get(line);
    if (position !== undefined) return formatInteger(62 + this.#table.size - 1 - position, 7, 0x80);
    const text = formatString(name) + formatString(value);
    const bytes = name.length + value.length + 32;
    if (!repeated.test(name) || this.#tableBytes + bytes > tableBytesMax) return `\x00${text}`;
    this.#tableBytes += bytes;
    this.#table.set(line, this.#table.size);
    return `\x40${text}`;
  }
}

for (let i = 0; i < setup.connections; i++) {
  const requests = people[i % people.length] ?? [];
  if (setup.streams === 0) {
    const socket = connect(setup.port, "127.0.0.1");
    await once(socket, "connect");
    new Connection(socket, requests);
  } else {
    const how = { port: setup.port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["h2"] };
    const socket = connectTls(how);
    await once(socket, "secureConnect");
    new Http2Connection(socket, requests);
  }
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
