/**
 * Followers of bench/followers.ts: several replicas in one process, each with its own lease, clients, bare subscriber
 * and simulated link.
 *
 * For each timed change and each message of the floor, the process reports when the last of them had it. A revoked
 * session counts from its second change on: the first is its creation.
 */
import { randomBytes } from "node:crypto";
import { connect } from "@nats-io/transport-node";
import { parseNodeId } from "../../src/events/index.ts";
import { connectNatsFanout } from "../../src/replication/fanout/index.ts";
import { startReplica } from "../../src/replication/node/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient } from "../../src/replication/wire/index.ts";
import { SeededRandom } from "../../test/support/seeded-random.ts";
import { timedStreamPrefix } from "./bench-sessions.ts";
import { databrokerOver, fanoutOver, simulatedLink } from "./simulated-link.ts";

export type CrowdSetup = Readonly<{
  type: "add";
  /** The numbers of the new followers. */
  from: number;
  to: number;
  cluster: string;
  secret: string;
  brokerUrl: string;
  natsUrls: readonly string[];
  /** The largest latency of a link, ms; 0: links without a delay. */
  latencyMsMax: number;
  bare: boolean;
}>;
export type CrowdReport =
  | Readonly<{ type: "ready" }>
  | Readonly<{ type: "seen"; what: string; at: string; by: number }>
  | Readonly<{ type: "cpu"; ms: number; followers: number; confirms: number; reads: number; lag: number }>;

const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const latencyMsMin = 1;
const jitter = 0.2;
const send = (report: CrowdReport): void => void process.send?.(report);
const replicas: ReturnType<typeof startReplica>[] = [];
const created = new Set<string>();
const seen = new Map<string, number>();

process.on("message", (message: CrowdSetup | Readonly<{ type: "cpu" }>) => {
  if (message.type === "add") void add(message).then(() => send({ type: "ready" }));
  else {
    const { user, system } = process.cpuUsage();
    const metrics = replicas.map((replica) => replica.metrics());
    const sum = (of: (each: (typeof metrics)[number]) => number): number =>
      metrics.reduce((n, each) => n + of(each), 0);
    send({
      type: "cpu",
      ms: (user + system) / 1_000,
      followers: replicas.length,
      confirms: sum(({ confirms }) => confirms),
      reads: sum(({ reads }) => reads),
      lag: Math.max(0, ...metrics.map(({ lag }) => lag)),
    });
  }
});

/** Counts the followers that have it, and reports once all have. */
function note(what: string): void {
  const count = (seen.get(what) ?? 0) + 1;
  if (count < replicas.length) {
    seen.set(what, count);
    return;
  }
  seen.delete(what);
  send({ type: "seen", what, at: String(process.hrtime.bigint()), by: replicas.length });
}

async function add(setup: CrowdSetup): Promise<void> {
  const own: typeof replicas = [];
  for (let index = setup.from; index < setup.to; index++) own.push(await start(index, setup));
  for (const replica of own)
    if (!(await replica.whenReady(30_000))) throw new Error(replica.ready().reasons.join(", "));
  replicas.push(...own);
}

async function start(index: number, setup: CrowdSetup): Promise<ReturnType<typeof startReplica>> {
  const { cluster, natsUrls } = setup;
  const secret = Buffer.from(setup.secret, "base64");
  const name = `node-${index}`;
  const random = new SeededRandom(1_000 + index);
  const latencyMs =
    setup.latencyMsMax === 0 ? 0 : latencyMsMin + random.int(1_000 * (setup.latencyMsMax - latencyMsMin)) / 1_000;
  const [up, down, downBare] = [0, 1, 2].map(() => simulatedLink(latencyMs, jitter, random));
  if (up === undefined || down === undefined || downBare === undefined) throw new Error("no links");
  const common = { cluster, name, secret, logger: quiet, randomBytes };
  const client = createBrokerClient({
    ...common,
    urls: [new URL(setup.brokerUrl)],
    role: "proxy",
    clock: systemClock,
  });
  const fanout = connectNatsFanout({ ...common, servers: natsUrls, secrets: [secret] });
  const replica = startReplica({
    ...common,
    name: parseNodeId(name),
    role: "proxy",
    region: "bench",
    version: "bench",
    configHash: () => "bench",
    databroker: databrokerOver({ up, down }, client),
    fanout: fanoutOver(down, fanout),
    clock: systemClock,
    windowMs: () => 5_000,
    dataDir: null,
  });
  replica.onChange(({ touched }) => {
    for (const stream of touched) {
      if (!stream.startsWith(timedStreamPrefix)) continue;
      const key = `${index} ${stream}`;
      if (created.delete(key)) note(stream);
      else created.add(key);
    }
  });
  if (setup.bare) {
    const connection = await connect({ servers: [...natsUrls] });
    connection.subscribe("floor", {
      callback: (_error, message) => {
        const what = message.string();
        downBare.deliver(() => note(what));
      },
    });
    await connection.flush();
  }
  return replica;
}
