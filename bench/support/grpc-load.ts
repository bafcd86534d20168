/**
 * gRPC load: streamed calls over HTTP/2, as many messages as a proxy forwards. A separate process; argument: a
 * `GrpcLoadSetup` as JSON; prints a `GrpcLoadResult` as JSON.
 */
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { echoPath, messageHeadBytes, messageText, streamPath } from "./grpc-messages.ts";
import { literalBlock, RawHttp2 } from "./raw-http2.ts";

export type GrpcLoadSetup = Readonly<{
  kind: "stream" | "echo";
  port: number;
  secure: boolean;
  seconds: number;
  /** Names and values of each person's lines; connections are assigned to people in turn. */
  people: readonly (readonly (readonly [string, string])[])[];
  authority: string;
  connections: number;
  /** Calls in flight on each connection. */
  streams: number;
  messagesPerCall: number;
  messageBytes: number;
  /** Messages of an echo that are on the way. */
  inFlight: number;
}>;
export type GrpcLoadResult = Readonly<Record<"messages" | "calls" | "errors" | "seconds" | "cpuMs", number>>;

const setup = JSON.parse(process.argv[2] ?? "") as GrpcLoadSetup;
const { kind, messagesPerCall, messageBytes, inFlight } = setup;
const frameBytes = messageHeadBytes + messageBytes;
let [messages, calls, errors, callNumber] = [0, 0, 0, 0];
const startedAt = performance.now();
const endsAt = startedAt + setup.seconds * 1_000;

type Call = { bytes: number; sent: number; hash: number; status: string | undefined };

function open(person: readonly (readonly [string, string])[]): RawHttp2 {
  const socket: Socket = setup.secure
    ? connectTls({ port: setup.port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: ["h2"] })
    : connectPlain(setup.port, "127.0.0.1");
  const open = new Map<number, Call>();
  let nextId = 1;
  const connection: RawHttp2 = new RawHttp2(
    socket,
    { side: "client" },
    {
      onHeaders(streamId, fields, endStream) {
        const call = open.get(streamId);
        if (call === undefined) return;
        const at = fields.indexOf("grpc-status");
        if (at >= 0) call.status = fields[at + 1];
        if (endStream) finish(streamId, call);
      },
      onData(streamId, bytes, endStream) {
        const call = open.get(streamId);
        if (call === undefined) return;
        const before = Math.floor(call.bytes / frameBytes);
        call.bytes += bytes.length;
        const arrived = Math.floor(call.bytes / frameBytes) - before;
        messages += arrived;
        if (kind === "echo") for (let i = 0; i < arrived; i++) sendNext(streamId, call);
        if (endStream) finish(streamId, call);
      },
      onReset(streamId) {
        const call = open.get(streamId);
        if (call !== undefined) finish(streamId, call);
      },
      onGone(why) {
        if (performance.now() < endsAt) throw new Error(`the connection ended: ${why}`);
      },
    },
  );

  function begin(): void {
    const streamId = nextId;
    nextId += 2;
    const n = callNumber++;
    const call: Call = { bytes: 0, sent: 0, hash: 0, status: undefined };
    open.set(streamId, call);
    const block = literalBlock([
      [":method", "POST"],
      [":scheme", setup.secure ? "https" : "http"],
      [":authority", setup.authority],
      [":path", kind === "echo" ? echoPath : streamPath],
      ["content-type", "application/grpc"],
      ["te", "trailers"],
      ["grpc-timeout", "60S"],
      ["traceparent", `00-${n.toString(16).padStart(32, "0")}-${n.toString(16).padStart(16, "0")}-01`],
      ...person,
    ]);
    connection.sendHeaders(streamId, block, { endStream: false });
    if (kind === "stream") {
      const request = Buffer.alloc(messageHeadBytes + 8);
      request.writeUInt32BE(8, 1);
      request.writeUInt32BE(messagesPerCall, 5);
      request.writeUInt32BE(messageBytes, 9);
      connection.sendData(streamId, request.toString("latin1"));
      connection.end(streamId, "");
    } else for (let i = 0; i < inFlight; i++) sendNext(streamId, call);
  }

  function sendNext(streamId: number, call: Call): void {
    if (call.sent === messagesPerCall) return;
    connection.sendData(streamId, messageText(call.sent * 64 + (streamId & 63), messageBytes));
    if (++call.sent === messagesPerCall) connection.end(streamId, "");
  }

  function finish(streamId: number, call: Call): void {
    open.delete(streamId);
    calls += 1;
    if (call.status !== "0" || call.bytes !== messagesPerCall * frameBytes) errors += 1;
    if (performance.now() < endsAt) begin();
  }

  socket.once(setup.secure ? "secureConnect" : "connect", () => {
    for (let i = 0; i < setup.streams; i++) begin();
  });
  return connection;
}

for (let i = 0; i < setup.connections; i++) open(setup.people[i % setup.people.length] ?? []);
setTimeout(() => {
  const { user, system } = process.cpuUsage();
  const seconds = (performance.now() - startedAt) / 1_000;
  const result: GrpcLoadResult = { messages, calls, errors, seconds, cpuMs: (user + system) / 1_000 };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());
}, setup.seconds * 1_000);
