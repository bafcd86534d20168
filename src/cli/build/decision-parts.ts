/** Decisions for other proxies and services, built from a configuration. */
import { randomUUID } from "node:crypto";
import type { Registry } from "prom-client";
import type { Config, HostPort } from "../../config/index.ts";
import { type DecisionApiDeps, startDecisionServer } from "../../proxy/index.ts";

type ProcessDeps =
  | "identity"
  | "clock"
  | "replica"
  | "freshness"
  | "catchUp"
  | "render"
  | "recorder"
  | "authorizeLog"
  | "logger";

/** @returns stops it */
export async function startDecisionApi<Generation extends Omit<DecisionApiDeps, ProcessDeps>>(
  { decisionApi: listen, services }: Pick<Config, "decisionApi" | "services">,
  parts: Readonly<{
    /** Lasts as long as the process. */
    deciding: Pick<DecisionApiDeps, ProcessDeps>;
    /** Belongs to the configuration in force; the same object until that changes. */
    current: () => Generation;
    registry: Registry;
    onListening: (listener: "decisions" | "decisions_grpc", address: HostPort) => void;
  }>,
): Promise<() => Promise<void>> {
  if (listen === null || !(services.has("proxy") || services.has("authorize"))) return async () => undefined;
  const portsByGeneration = new WeakMap<Generation, DecisionApiDeps>();
  const server = await startDecisionServer({
    listen,
    registry: parts.registry,
    requestId: randomUUID,
    deps() {
      const current = parts.current();
      const deps = portsByGeneration.get(current) ?? { ...current, ...parts.deciding };
      portsByGeneration.set(current, deps);
      return deps;
    },
  });
  if (server.address !== null) parts.onListening("decisions", server.address);
  if (server.grpcAddress !== null) parts.onListening("decisions_grpc", server.grpcAddress);
  return () => server.close();
}
