/**
 * NATS modules: the client library, loaded on first use, because a process without NATS does not need it.
 *
 * A component that uses NATS loads it before it returns from its start, so that a missing module is reported at start.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function natsTransport(): typeof import("@nats-io/transport-node") {
  return require("@nats-io/transport-node");
}

export function natsJetstream(): typeof import("@nats-io/jetstream") {
  return require("@nats-io/jetstream");
}
