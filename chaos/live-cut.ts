/**
 * Live cut: ten thousand streams of a hundred people on one node: Server-Sent Events, WebSockets, gRPC and TCP tunnels.
 * The control plane is lost and returns, one person leaves a group, one session is revoked: exactly the affected
 * streams must end. Exits 1 otherwise. Needs about 16,000 file descriptors (`ulimit -n`).
 *
 *   node chaos/live-cut.ts [--streams 10400]
 */
import { parseArgs } from "node:util";
import { cutAmong } from "../test/attacks/live/check.ts";

const { values } = parseArgs({ options: { streams: { type: "string", default: "10400" } } });
await cutAmong(Number(values.streams), (line) => console.log(line));
