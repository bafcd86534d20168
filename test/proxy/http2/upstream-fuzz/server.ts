/**
 * Server by script: answers the first requests of a connection with given bytes, whatever they are, and later ones
 * with a valid response. It checks what the client sends: order, windows, and header blocks.
 */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { HpackDecoder } from "../../../../src/proxy/http2/hpack/decoder.ts";
import {
  data,
  endHeaders,
  endStream,
  type Frame,
  frame,
  frameTypes,
  headers,
  preface,
  windowUpdate,
} from "../../../support/http2-frames.ts";
import type { Case } from "./cases.ts";

const lastPing = Buffer.from("the end!");

/** What one stream of the client has brought. */
export type Upload = {
  lines: string[];
  body: Buffer[];
  bytes: number;
  trailers: string[] | undefined;
  isEnded: boolean;
  isReset: boolean;
};

export class ScriptConnection {
  readonly socket: Socket;
  readonly uploads = new Map<number, Upload>();
  /** The code of the client's GOAWAY. */
  goAway: number | undefined;
  isClosed = false;
  /** Rules that the client has broken. */
  readonly faults: string[] = [];
  /** The client has read the script, or has left. */
  readonly settled: Promise<void>;
  #settle: () => void = () => {};
  readonly #script: Case | undefined;
  #hasAnswered = false;
  #isDone = false;
  readonly #decoder = new HpackDecoder();
  #seen = Buffer.alloc(0);
  #greeted = false;
  #lastId = 0;
  #owed = new Map<number, number>();

  constructor(socket: Socket, script: Case | undefined) {
    this.socket = socket;
    this.#script = script;
    this.settled = new Promise((resolve) => {
      this.#settle = resolve;
    });
    socket.setNoDelay(true);
    socket.on("error", () => {});
    socket.on("close", () => {
      this.isClosed = true;
      this.#settle();
    });
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
  }

  #take(chunk: Buffer): void {
    this.#seen = Buffer.concat([this.#seen, chunk]);
    if (!this.#greeted) {
      if (this.#seen.length < preface.length) return;
      if (!this.#seen.subarray(0, preface.length).equals(preface)) this.faults.push("preface");
      this.#seen = this.#seen.subarray(preface.length);
      this.#greeted = true;
      this.#write(this.#script?.greeting ?? frame(frameTypes.settings, 0, 0));
      this.#write(frame(frameTypes.settings, 1, 0));
    }
    while (this.#seen.length >= 9 && this.#seen.length >= 9 + this.#seen.readUIntBE(0, 3)) {
      const [type = 0, flags = 0] = [this.#seen[3], this.#seen[4]];
      const payload = this.#seen.subarray(9, 9 + this.#seen.readUIntBE(0, 3));
      const stream = this.#seen.readUInt32BE(5);
      this.#seen = this.#seen.subarray(9 + payload.length);
      this.#onFrame({ type, flags, stream, payload });
    }
  }

  #write(bytes: Buffer): void {
    if (this.socket.writable) this.socket.write(bytes);
  }

  #onFrame({ type, flags, stream, payload }: Frame): void {
    if (type === frameTypes.goAway) this.goAway ??= payload.readUInt32BE(4);
    if (type === frameTypes.ping && (flags & 1) !== 0 && payload.equals(lastPing)) this.#settle();
    const upload = this.uploads.get(stream);
    if (type === frameTypes.headers) this.#onHeaders({ type, flags, stream, payload }, upload);
    if (type === frameTypes.data) this.#onData({ type, flags, stream, payload }, upload);
    if (type === frameTypes.reset) {
      if (upload === undefined || upload.isReset) this.faults.push(`a reset of stream ${stream}, which is not open`);
      else upload.isReset = true;
    }
  }

  #onHeaders({ flags, stream, payload }: Frame, upload: Upload | undefined): void {
    const lines: string[] = [];
    this.#decoder.beginBlock();
    const end = this.#decoder.decode(payload, 0, payload.length, { onField: (name, value) => lines.push(name, value) });
    if (end !== payload.length || (flags & endHeaders) === 0) this.faults.push("a header block");
    const isEnded = (flags & endStream) !== 0;
    if (upload !== undefined) {
      if (upload.isEnded || upload.isReset || !isEnded) this.faults.push("trailers");
      Object.assign(upload, { trailers: lines, isEnded });
      return;
    }
    if (stream <= this.#lastId || stream % 2 === 0) this.faults.push(`the number ${stream}`);
    this.#lastId = stream;
    this.uploads.set(stream, { lines, body: [], bytes: 0, trailers: undefined, isEnded, isReset: false });
    this.#respond(stream);
  }

  #onData({ flags, stream, payload }: Frame, upload: Upload | undefined): void {
    if (upload === undefined || upload.isEnded || upload.isReset) {
      this.faults.push(`data of stream ${stream}, which is not open`);
      return;
    }
    upload.body.push(Buffer.from(payload));
    upload.bytes += payload.length;
    upload.isEnded = (flags & endStream) !== 0;
    this.#owed.set(stream, (this.#owed.get(stream) ?? 0) + payload.length);
    if (this.#isDone) this.#openWindows();
  }

  /** Not before the script is over: a window update in between could spoil it. */
  #openWindows(): void {
    for (const [stream, bytes] of this.#owed) {
      if (bytes > 0) this.#write(windowUpdate(0, bytes));
      if (bytes > 0 && this.uploads.get(stream)?.isEnded === false) this.#write(windowUpdate(stream, bytes));
    }
    this.#owed.clear();
  }

  #respond(stream: number): void {
    const script = this.#script;
    if (script === undefined || this.#hasAnswered) {
      this.#write(
        Buffer.concat([headers(stream, endHeaders, ":status", "200"), data(stream, endStream, `next ${stream}`)]),
      );
      return;
    }
    if (this.uploads.size < script.requests.length) return;
    this.#hasAnswered = true;
    void this.#play(script.writes);
  }

  async #play(writes: readonly Buffer[]): Promise<void> {
    for (const bytes of writes) {
      this.#write(bytes);
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#isDone = true;
    this.#openWindows();
    this.#write(frame(frameTypes.ping, 0, 0, lastPing));
  }
}

export class ScriptServer {
  readonly #server: Server;
  /** Of the first connection of a run. */
  #script: Case | undefined;
  connections: ScriptConnection[] = [];
  #onFirst: () => void = () => {};
  /** The first connection of a run. */
  first: Promise<void> = Promise.resolve();

  constructor() {
    this.#server = createServer((socket) => {
      this.connections.push(new ScriptConnection(socket, this.connections.length === 0 ? this.#script : undefined));
      this.#onFirst();
    });
  }

  async start(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  begin(script: Case): void {
    this.#script = script;
    this.connections = [];
    this.first = new Promise((resolve) => {
      this.#onFirst = resolve;
    });
  }

  end(): void {
    for (const { socket } of this.connections) socket.destroy();
  }

  close(): void {
    this.end();
    this.#server.close();
  }
}
