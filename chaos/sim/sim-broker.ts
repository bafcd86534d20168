/**
 * Simulated broker: a process of the world in which a real broker core runs (broker-boot.ts), as clients, nodes and
 * other brokers meet it. Nothing of it outlives a boot but the snapshots on its disk.
 */
import type { Presence } from "../../src/broker/core/messages.ts";
import type { SnapshotRules } from "../../src/broker/snapshots/snapshot-messages.ts";
import type { BrokerId, CommandRequest, CommandResult, NodeId } from "../../src/events/index.ts";
import type { BrokerFace } from "./actors.ts";
import { BrokerBoot, unavailable } from "./broker-boot.ts";
import type { BrokerPort } from "./broker-port.ts";
import type { Hop } from "./broker-routes.ts";
import type { Seals, SimEnvelope } from "./envelopes.ts";
import type { NatsModel } from "./nats-model.ts";
import type { PostgresModel } from "./postgres-model.ts";
import type { SimProvider } from "./sim-provider.ts";
import type { BrokerDisk, BrokerSave } from "./snapshot-disk.ts";
import type { SimOptions } from "./swarm.ts";
import type { World } from "./world.ts";

export type SimBrokerOptions = Readonly<{
  world: World;
  options: SimOptions;
  postgres: PostgresModel;
  nats: NatsModel<SimEnvelope>;
  provider: SimProvider;
  seals: Seals;
  disk: BrokerDisk;
  /** When a snapshot is due, and what may go: operators change it. */
  rules: Readonly<SnapshotRules>;
  cluster: string;
  secret: Uint8Array;
  name: string;
  broker: BrokerId;
  region: string;
  build: string;
  /** All of them, this one too. */
  brokers: () => readonly SimBroker[];
}>;

/** A broker as clients, nodes and other brokers meet it. */
export type SimBroker = BrokerFace &
  BrokerPort &
  Readonly<{
    /** What another broker hands on: answered here, or not at all. */
    handedOn: Readonly<{
      submit: BrokerPort["submit"];
      say: BrokerPort["say"];
      receipt: BrokerFace["receipt"];
      /** Another broker says that it is there. */
      present: (presence: Presence) => void;
    }>;
    /** For another broker to copy; undefined: it has none. */
    newestSave: () => BrokerSave | undefined;
    /** @returns a word on it; undefined: it does not lead, and takes none */
    wantSnapshot: () => string | undefined;
  }>;

/** A process of the world, made down. */
export function addSimBroker(options: SimBrokerOptions): SimBroker {
  const { world, name, broker, region, build } = options;
  let running: BrokerBoot | undefined;
  const process = world.addProcess({
    name,
    region,
    identity: { role: "broker", node: broker as string as NodeId, lessee: null, build, unknownTypes: [] },
    start(started) {
      running = new BrokerBoot(options, started);
      running.start();
    },
  });
  const boot = (): BrokerBoot | undefined => (process.isUp ? running : undefined);
  const notHere = (commandId: CommandRequest["commandId"]): CommandResult => ({
    ...{ type: "unavailable", commandId, message: "no broker leads that can be reached", retryAfterMs: 1_000 },
  });
  const submitted = (hop: Hop): BrokerPort["submit"] => {
    return (request, answered) =>
      boot()?.submit(hop, request, (result) => answered(result ?? notHere(request.commandId)));
  };
  const said = (hop: Hop): BrokerPort["say"] => {
    return (envelope, answered) => boot()?.say(hop, envelope, (answer) => answered(answer ?? unavailable));
  };
  const asked = (hop: Hop): BrokerFace["receipt"] => {
    return (question, answered) => boot()?.receipt(hop, question, answered);
  };
  return {
    process,
    leads: () => boot()?.leads === true,
    submit: submitted("direct"),
    say: said("direct"),
    receipt: asked("direct"),
    handedOn: {
      ...{ submit: submitted("forwarded"), say: said("forwarded"), receipt: asked("forwarded") },
      present: (presence) => boot()?.present(presence),
    },
    read: (question, answered) => boot()?.read(question, answered),
    snapshot: (answered) => boot()?.snapshot(answered),
    newestSave: () => boot()?.newestSave(),
    wantSnapshot: () => boot()?.wantSnapshot(),
  };
}
