/**
 * Bare streams: the floor of a live cut. It accepts connections, opens as many to an upstream as it accepts, and resets
 * all of them on a message. Arguments: its port, and the port of the upstream.
 *
 * Answers an order with the nanoseconds of the machine's monotonic clock at which it began.
 */
import { connect, createServer, type Socket } from "node:net";

const [, , port, upstreamPort] = process.argv.map(Number);
const pairs: Socket[] = [];

createServer((caller) => {
  const upstream = connect({ port: upstreamPort ?? 0, host: "127.0.0.1" });
  for (const socket of [caller, upstream]) socket.on("error", () => {});
  upstream.once("data", (bytes) => caller.write(bytes));
  caller.resume();
  pairs.push(caller, upstream);
}).listen({ port, host: "127.0.0.1", backlog: 4_096 });

process.on("message", () => {
  const at = String(process.hrtime.bigint());
  for (const socket of pairs.splice(0)) socket.resetAndDestroy();
  process.send?.(at);
});
