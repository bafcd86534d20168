/** The callers of a live-cut test: thousands of raw streams, each with the messages it received and how it ended. */
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { hostOf, type StreamSpec, type StreamState, serve, type ToCallers, tunnelPort } from "./protocol.ts";

/** Streams that are opened at the same time. */
const openingMax = 100;
type Stream = StreamSpec & {
  received: number;
  ending: string | null;
  pausable: { pause(): unknown; resume(): unknown } | null;
};

const streams: Stream[] = [];
const sessions = new Map<number, ClientHttp2Session>();

async function openAll(port: number, specs: readonly StreamSpec[]): Promise<number> {
  const waiting = [...specs];
  const worker = async (): Promise<void> => {
    for (let spec = waiting.pop(); spec !== undefined; spec = waiting.pop()) await openOne(port, spec);
  };
  await Promise.all(Array.from({ length: openingMax }, worker));
  return streams.filter(({ ending }) => ending === null).length;
}

/** Settles when the first message has arrived or the stream has ended. */
function openOne(port: number, spec: StreamSpec): Promise<void> {
  return new Promise((resolve) => {
    const stream: Stream = { ...spec, received: 0, ending: null, pausable: null };
    streams.push(stream);
    const receive = (count: number): void => {
      stream.received += count;
      if (count > 0 && stream.slow) stream.pausable?.pause();
      if (count > 0) resolve();
    };
    const end = (how: string): void => {
      stream.ending ??= how;
      resolve();
    };
    if (spec.kind === "grpc") openGrpc(port, stream, receive, end);
    else openSocket(port, stream, receive, end);
  });
}

type OnMessages = (count: number) => void;
type OnEnd = (how: string) => void;

function openSocket(port: number, stream: Stream, receive: OnMessages, end: OnEnd): void {
  const { kind, user, route, slow } = stream;
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: kind === "tcp" });
  stream.pausable = socket;
  let code = "";
  let body = Buffer.alloc(0);
  let inHead = true;
  socket.on("error", (error: NodeJS.ErrnoException) => {
    code = error.code ?? "error";
  });
  socket.on("data", (chunk: Buffer) => {
    body = Buffer.concat([body, chunk]);
    if (inHead) {
      const at = body.indexOf("\r\n\r\n");
      if (at < 0) return;
      const status = body.subarray(9, 12).toString();
      if (!(kind === "websocket" ? status === "101" : status === "200")) return end(`refused with ${status}`);
      body = body.subarray(at + 4);
      inHead = false;
      if (kind === "tcp") socket.write(slow ? "slow" : "go");
    }
    const read = readers[kind as keyof typeof readers](body, end);
    body = body.subarray(read.bytes);
    receive(read.messages);
  });
  socket.on("end", () => {
    code ||= "end";
    if (kind === "tcp") socket.end();
  });
  socket.on("close", () => end(code || "closed"));
  const path = slow ? "/slow" : "/";
  const host = hostOf(route, kind);
  const common = `Host: ${kind === "tcp" ? `${host}:${tunnelPort}` : host}\r\n`;
  const websocket =
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
  if (kind === "tcp")
    socket.write(`CONNECT ${host}:${tunnelPort} HTTP/1.1\r\n${common}Authorization: Pomerium s${user}\r\n\r\n`);
  else
    socket.write(
      `GET ${path} HTTP/1.1\r\n${common}Cookie: _pomerium=s${user}\r\n${kind === "websocket" ? websocket : ""}\r\n`,
    );
}

type Read = Readonly<{ bytes: number; messages: number }>;
const readers: Readonly<Record<"sse" | "websocket" | "tcp", (body: Buffer, end: OnEnd) => Read>> = {
  sse(body, end) {
    const text = body.toString("latin1");
    // A last chunk would mark the answer as complete.
    if (/(?:^|\r\n)0\r\n\r\n$/.test(text)) end("complete");
    const last = text.lastIndexOf("data: tick\n\n");
    return { bytes: last < 0 ? 0 : last + 12, messages: text.split("data: tick\n\n").length - 1 };
  },
  websocket(body, end) {
    let [at, messages] = [0, 0];
    while (at + 2 <= body.length) {
      const length = body[at + 1] ?? 0;
      if (at + 2 + length > body.length) break;
      if (body[at] === 0x88) end(`close ${body.readUInt16BE(at + 2)}`);
      else if (body[at] !== 0x82 || length !== 4) end("an invalid frame");
      else messages++;
      at += 2 + length;
    }
    return { bytes: at, messages };
  },
  tcp: (body) => ({ bytes: body.length - (body.length % 4), messages: Math.floor(body.length / 4) }),
};

function openGrpc(port: number, stream: Stream, receive: OnMessages, end: OnEnd): void {
  const { user, route, slow } = stream;
  const session = sessions.get(user) ?? connectHttp2(`http://127.0.0.1:${port}`);
  if (!sessions.has(user)) session.on("error", () => {});
  sessions.set(user, session);
  const request = session.request({
    ":method": "POST",
    ":path": slow ? "/slow" : "/",
    ":authority": hostOf(route, "grpc"),
    "content-type": "application/grpc",
    te: "trailers",
    cookie: `_pomerium=s${user}`,
  });
  stream.pausable = request;
  let rest = 0;
  request.on("response", (headers) => {
    if (headers[":status"] !== 200) end(`refused with ${headers[":status"]}`);
    else if (headers["grpc-status"] !== undefined) end(`grpc ${headers["grpc-status"]}`);
  });
  request.on("data", (chunk: Buffer) => {
    rest += chunk.length;
    receive(Math.floor(rest / 9));
    rest %= 9;
  });
  request.on("trailers", (trailers) => end(`grpc ${trailers["grpc-status"]}`));
  request.on("error", () => {});
  request.on("close", () => end(`reset ${request.rstCode}`));
}

serve<ToCallers>((message) => {
  if (message.type === "open") return openAll(message.port, message.streams);
  if (message.type === "read")
    for (const stream of streams.filter(({ slow }) => slow)) {
      stream.pausable?.resume();
      stream.pausable = null;
    }
  return streams.map(
    ({ user, kind, route, slow, received, ending }): StreamState => ({ user, kind, route, slow, received, ending }),
  );
});
