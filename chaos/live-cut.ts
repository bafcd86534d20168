/**
 * Live cut: ten thousand streams of a hundred people on one node: Server-Sent Events, WebSockets, gRPC and TCP tunnels.
 * The control plane is lost and comes back, one person leaves a group, one session is revoked: exactly what must end
 * does, and everything else goes on. Exits 1 when it does not. Takes about 16,000 file descriptors: `ulimit -n` tells
 * how many there are.
 *
 *   node chaos/live-cut.ts [--streams 10400]
 */
import { parseArgs } from "node:util";
import { cutAmong } from "../test/attacks/live/check.ts";

const { values } = parseArgs({ options: { streams: { type: "string", default: "10400" } } });
await cutAmong(Number(values.streams), (line) => console.log(line));
