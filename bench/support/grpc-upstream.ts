/**
 * gRPC upstream of benches: a process on plain HTTP/2. Argument: its port.
 *
 * A unary call gets one message. `Stream` answers with as many messages as its request's first field asks for, each a
 * frame of its own. `Echo` returns each frame as it arrives.
 */
import { createServer } from "node:net";
import { echoPath, messageBytes, messageText, streamPath } from "./grpc-messages.ts";
import { literalBlock, RawHttp2 } from "./raw-http2.ts";

/** Messages of one call that one turn of the event loop sends. */
const perTurn = 16;
const waitingMax = 64;

const head = literalBlock([
  [":status", "200"],
  ["content-type", "application/grpc"],
  ["grpc-encoding", "identity"],
]);
const trailers = literalBlock([["grpc-status", "0"]]);

createServer((socket) => {
  const echoes = new Set<number>();
  const streams = new Set<number>();
  const connection = new RawHttp2(
    socket,
    { side: "server" },
    {
      onHeaders(streamId, fields) {
        const path = fields[fields.indexOf(":path") + 1];
        if (path === echoPath) echoes.add(streamId);
        else if (path === streamPath) streams.add(streamId);
        connection.sendHeaders(streamId, head, { endStream: false });
      },
      onData(streamId, bytes, endStream) {
        if (streams.has(streamId)) {
          if (bytes.length >= 13) send(streamId, { n: 0, count: bytes.readUInt32BE(5), bytes: bytes.readUInt32BE(9) });
          if (endStream) streams.delete(streamId);
        } else if (echoes.has(streamId)) {
          if (bytes.length > 0) connection.sendData(streamId, bytes.toString("latin1"));
          if (endStream) connection.end(streamId, trailers);
          if (endStream) echoes.delete(streamId);
        } else if (endStream) {
          connection.sendData(streamId, messageText(streamId, messageBytes));
          connection.end(streamId, trailers);
        }
      },
      onReset(streamId) {
        echoes.delete(streamId);
        streams.delete(streamId);
      },
      onGone: () => socket.destroy(),
    },
  );

  function send(streamId: number, call: { n: number; count: number; bytes: number }): void {
    if (socket.destroyed) return;
    if (connection.waiting(streamId) < waitingMax)
      for (const end = Math.min(call.count, call.n + perTurn); call.n < end; call.n++)
        connection.sendData(streamId, messageText(call.n * 64 + (streamId & 63), call.bytes));
    if (call.n < call.count) setImmediate(send, streamId, call);
    else connection.end(streamId, trailers);
  }
}).listen(Number(process.argv[2]), "127.0.0.1");
