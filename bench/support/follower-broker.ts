/** The broker of bench/followers.ts: a process of its own, so that its processor time can be measured. */
import { subscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import type { Socket } from "node:net";
import { startFanoutBroker } from "./fanout-broker.ts";

export type BrokerSetup = Readonly<{
  cluster: string;
  secret: string;
  port: number;
  natsUrls: readonly string[];
  connectionString: string;
}>;
export type BrokerUsage = Readonly<{
  /** Processor time of this process so far, ms. */
  cpuMs: number;
  heapMb: number;
  rssMb: number;
  /** Messages and bytes published on NATS. */
  published: number;
  publishedBytes: number;
  /** HTTP calls answered, and bytes of their connections in both directions. */
  calls: number;
  callBytes: number;
  grants: number;
  confirmations: number;
  beats: number;
}>;

const [setup] = (await once(process, "message")) as [BrokerSetup];
const { cluster, port } = setup;
const secret = Buffer.from(setup.secret, "base64");

const open = new Set<Socket>();
let closedBytes = 0;
subscribe("net.server.socket", (message) => {
  const { socket } = message as Readonly<{ socket: Socket }>;
  open.add(socket);
  socket.once("close", () => {
    open.delete(socket);
    closedBytes += socket.bytesRead + socket.bytesWritten;
  });
});

let publishedBytes = 0;
const { broker, fanout, server } = await startFanoutBroker({
  cluster,
  secret,
  port,
  natsUrls: setup.natsUrls,
  connectionString: setup.connectionString,
  onPublish: ({ length }) => {
    publishedBytes += length;
  },
});

/** The bench's own collections are no cost of the broker. */
let collectingMs = 0;

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function usage(): BrokerUsage {
  const cpuMs = processorMs() - collectingMs;
  globalThis.gc?.();
  collectingMs = processorMs() - cpuMs;
  const { heapUsed, rss } = process.memoryUsage();
  const metrics = broker.metrics();
  const answered = server.metrics();
  return {
    cpuMs,
    heapMb: heapUsed / 1e6,
    rssMb: rss / 1e6,
    published: fanout.status().published,
    publishedBytes,
    calls: (answered["requests2xx"] ?? 0) + (answered["requests4xx"] ?? 0) + (answered["requests5xx"] ?? 0),
    callBytes: [...open].reduce((sum, { bytesRead, bytesWritten }) => sum + bytesRead + bytesWritten, closedBytes),
    grants: metrics["grants"] ?? 0,
    confirmations: metrics["confirmations"] ?? 0,
    beats: metrics["beats"] ?? 0,
  };
}

process.on("message", (message) => {
  if (message === "exit") process.exit(); // writes the profile, if one is taken
  if (message !== "usage") return;
  process.send?.(usage());
});
while (!broker.leading()) await new Promise((resolve) => setTimeout(resolve, 10));
process.send?.("ready");
