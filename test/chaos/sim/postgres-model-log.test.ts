/** The Postgres model against the contract of every event log, over the simulated network. */
import { awaitedLog, Pump } from "../../../chaos/sim/awaited-log.ts";
import { PostgresModel } from "../../../chaos/sim/postgres-model.ts";
import { SimLog } from "../../../chaos/sim/sim-log.ts";
import { World } from "../../../chaos/sim/world.ts";
import { describeConfigurations } from "../../contract/configurations.ts";
import { describeEventLog } from "../../contract/event-log.ts";

let seed = 0;

const make = async () => {
  seed += 1;
  const world = new World({ seed });
  const model = new PostgresModel({
    world,
    servers: ["pg-1", "pg-2", "pg-3"].map((name) => ({ name, region: "east" })),
    synchronous: 1,
  });
  model.start();
  const identity = { role: "broker", node: null, lessee: null, build: "1", unknownTypes: [] } as const;
  const process = world.addProcess({ name: "broker-1", region: "east", identity, start: () => {} });
  process.start();
  world.run(1_000);
  const pump = new Pump(world);
  const open = () => awaitedLog(pump, new SimLog(process, model));
  const log = open();
  return {
    log,
    durability: "synchronous" as const,
    isRefillable: false,
    peer: async () => open(),
    reopen: async () => {
      await log.close();
      return open();
    },
    ageCommands: async (byMs: number) => {
      for (const server of model.servers) server.process.stepWall(byMs);
      return log;
    },
    close: () => log.close(),
  };
};
describeEventLog("Postgres model", make);
describeConfigurations("Postgres model", make);
