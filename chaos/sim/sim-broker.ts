/**
 * Simulated broker: a process of the world that runs a real broker core (broker-boot.ts), with the interfaces for
 * clients, nodes and other brokers. Only the snapshots on its disk survive a boot.
 */
import type { Presence } from "../../src/broker/core/messages.ts";
import type { SnapshotRules } from "../../src/broker/snapshots/snapshot-messages.ts";
import type { BrokerId, CommandRequest, CommandResult, NodeId } from "../../src/events/index.ts";
import type { BrokerActor } from "./actors.ts";
import { BrokerBoot, unavailable } from "./broker-boot.ts";
import type { BrokerPort } from "./broker-port.ts";
import type { Hop } from "./broker-routes.ts";
import type { Seals, SimEnvelope } from "./envelopes.ts";
import type { NatsModel } from "./nats-model.ts";
import type { SimDirectory } from "./outside/sim-directory.ts";
import type { SimSignals } from "./outside/sim-signals.ts";
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
  /** Null: the seed has none. */
  directory: SimDirectory | null;
  signals: SimSignals | null;
  seals: Seals;
  disk: BrokerDisk;
  /** When a snapshot is due and which data may be dropped. Operators change it. */
  rules: Readonly<SnapshotRules>;
  cluster: string;
  secret: Uint8Array;
  name: string;
  broker: BrokerId;
  region: string;
  build: string;
  /** All brokers, including this one. */
  brokers: () => readonly SimBroker[];
}>;

/** The interfaces of a broker for clients, nodes and other brokers. */
export type SimBroker = BrokerActor &
  BrokerPort &
  Readonly<{
    /** Calls forwarded by another broker. This broker answers them or drops them; it never forwards them again. */
    forwarded: Readonly<{
      submit: BrokerPort["submit"];
      sendMessage: BrokerPort["sendMessage"];
      receipt: BrokerActor["receipt"];
      /** Receives another broker's presence. */
      present: (presence: Presence) => void;
    }>;
    /** The snapshot for another broker to copy. Undefined: it has none. */
    newestSave: () => BrokerSave | undefined;
    /** @returns a message for the operator. Undefined: this broker does not lead and takes no snapshot. */
    requestSnapshot: () => string | undefined;
  }>;

/** Adds the process to the world; it is down until its first start. */
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
  const submitter = (hop: Hop): BrokerPort["submit"] => {
    return (request, answered) =>
      boot()?.submit(hop, request, (result) => answered(result ?? notHere(request.commandId)));
  };
  const messageSender = (hop: Hop): BrokerPort["sendMessage"] => {
    return (envelope, answered, through) =>
      boot()?.sendMessage({ hop, through: through ?? null }, envelope, (answer) => answered(answer ?? unavailable));
  };
  const receiptRequester = (hop: Hop): BrokerActor["receipt"] => {
    return (receiptRequest, answered) => boot()?.receipt(hop, receiptRequest, answered);
  };
  return {
    process,
    leads: () => boot()?.leads === true,
    level: () => boot()?.level ?? 0,
    submit: submitter("direct"),
    sendMessage: messageSender("direct"),
    receipt: receiptRequester("direct"),
    forwarded: {
      ...{
        submit: submitter("forwarded"),
        sendMessage: messageSender("forwarded"),
        receipt: receiptRequester("forwarded"),
      },
      present: (presence) => boot()?.present(presence),
    },
    read: (receiptRequest, answered) => boot()?.read(receiptRequest, answered),
    denials: (_, answered) => answered({ type: "none" }),
    snapshot: (answered) => boot()?.snapshot(answered),
    newestSave: () => boot()?.newestSave(),
    requestSnapshot: () => boot()?.requestSnapshot(),
  };
}
