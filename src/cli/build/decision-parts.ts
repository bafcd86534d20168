/** Decisions for other proxies and services, built from a configuration. */
import { randomUUID } from "node:crypto";
import type { Registry } from "prom-client";
import type { Config, HostPort } from "../../config/index.ts";
import { type DecisionPorts, startDecisionServer } from "../../proxy/index.ts";

type Lasting =
  | "identity"
  | "clock"
  | "replica"
  | "freshness"
  | "catchUp"
  | "render"
  | "record"
  | "recordSafely"
  | "authorizeLog"
  | "logger";

/** @returns ends it */
export async function serveDecisions<Made extends Omit<DecisionPorts, Lasting>>(
  { decisionApi: listen, services }: Pick<Config, "decisionApi" | "services">,
  parts: Readonly<{
    /** What lasts as long as the process. */
    deciding: Pick<DecisionPorts, Lasting>;
    /** Of the configuration in force; the same object until it changes. */
    current: () => Made;
    registry: Registry;
    onListening: (listener: "decisions" | "decisions_grpc", address: HostPort) => void;
  }>,
): Promise<() => Promise<void>> {
  if (listen === null || !(services.has("proxy") || services.has("authorize"))) return async () => undefined;
  const made = new WeakMap<Made, DecisionPorts>();
  const server = await startDecisionServer({
    listen,
    registry: parts.registry,
    requestId: randomUUID,
    ports() {
      const current = parts.current();
      const ports = made.get(current) ?? { ...current, ...parts.deciding };
      made.set(current, ports);
      return ports;
    },
  });
  if (server.address !== null) parts.onListening("decisions", server.address);
  if (server.grpcAddress !== null) parts.onListening("decisions_grpc", server.grpcAddress);
  return () => server.close();
}
