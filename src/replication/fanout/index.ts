/** Entry point of the fan-out: carries batches from the leader to every node, over NATS or within the process. */

export { batchBytesMax, believeBatch, type OpenedBatch, openBatch, splitBatch } from "./batch.ts";
export { checkDeliveryTag, createDeliveryTag, deliveryTagKey } from "./delivery-tag.ts";
export type { DeliveryListener, Fanout, FanoutStatus } from "./fanout.ts";
export { createLocalFanout } from "./local-fanout.ts";
export { credentialsIn } from "./nats-credentials-file.ts";
export { overheadBytesOf } from "./nats-delivery.ts";
export { connectNatsFanout, InvalidClusterNameError, type NatsFanoutOptions } from "./nats-fanout.ts";
export { findReplayBuffer } from "./nats-look.ts";
export { natsJetstream, natsTransport } from "./nats-modules.ts";
export { mirrorName, originName } from "./nats-replay-buffer.ts";
