/**
 * NATS modules: the client library, loaded when it is first asked for, since a process without NATS has no need to
 * carry it.
 *
 * Whoever starts something that speaks NATS asks before it returns: what is missing is told at the start.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function natsTransport(): typeof import("@nats-io/transport-node") {
  return require("@nats-io/transport-node");
}

export function natsJetstream(): typeof import("@nats-io/jetstream") {
  return require("@nats-io/jetstream");
}
