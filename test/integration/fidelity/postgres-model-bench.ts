/** Postgres bench on the simulator's model. */
import { awaitedLog, Pump } from "../../../chaos/sim/awaited-log.ts";
import { PostgresModel } from "../../../chaos/sim/postgres-model.ts";
import { SimLog } from "../../../chaos/sim/sim-log.ts";
import { World } from "../../../chaos/sim/world.ts";
import type { EventLog } from "../../../src/replication/log/index.ts";
import type { PostgresBench, ServerName } from "./postgres-bench.ts";

export async function startModelBench(seed = 1): Promise<PostgresBench> {
  const world = new World({ seed });
  const model = new PostgresModel({
    world,
    servers: [
      { name: "primary", region: "east" },
      { name: "standby", region: "east" },
    ],
    synchronous: 1,
    operator: "absent",
  });
  const pump = new Pump(world);
  const identity = { role: "broker", node: null, lessee: null, build: "1", unknownTypes: [] } as const;
  const process = world.addProcess({ name: "broker-1", region: "east", identity, start: () => {} });
  process.start();
  model.start();
  const [primary, standby] = [model.server("primary"), model.server("standby")];
  const opened: EventLog[] = [];

  const until = async (what: string, isSo: () => Promise<boolean>): Promise<void> => {
    for (let i = 0; i < 3_000; i += 1) {
      if (await isSo()) return;
      await pump.pass(10);
    }
    throw new Error(`simulated time passed without: ${what}`);
  };
  await until("the standby to stream", async () => primary.senders.has(standby));

  return {
    until,
    open: async ({ writeTimeoutMs = 30_000, servers = ["primary", "standby"] } = {}) => {
      const log = awaitedLog(pump, new SimLog(process, model, { writeTimeoutMs, connectTimeoutMs: 500, servers }));
      await log.observe(); // a real log connects when it is opened
      opened.push(log);
      return log;
    },
    visibleHead: async (name: ServerName) => model.server(name).visible.head.position,
    standbyAway: async () => {
      standby.receives = false;
      standby.receiver.stop();
      await until("the walsender to end", async () => primary.senders.size === 0);
    },
    standbyBack: async () => {
      standby.receives = true;
      standby.receiver.start();
      await until("the standby to catch up", async () => primary.waiting === 0 && primary.senders.has(standby));
    },
    commitWaits: () => until("a commit to wait", async () => primary.waiting > 0),
    cancelWait: async () => {
      if (!model.cancelWait()) throw new Error("no commit waits");
    },
    setSynchronous: async (standbys) => model.setSynchronous(standbys),
    kill: async (name) => model.server(name).process.kill(),
    start: async (name) => {
      model.server(name).process.start();
      await until(`${name} to be ready`, async () => model.server(name).isReady);
    },
    promoteStandby: async () => {
      standby.named = 0;
      await pump.wait((answer) => model.failOver("unsafe", answer, standby));
    },
    dispose: async () => {
      await Promise.all(opened.map((log) => log.close()));
    },
  };
}
