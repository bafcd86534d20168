/**
 * Generation: the requests of one configuration, from its activation until its internal handlers have finished their
 * last request. Pure.
 *
 * - Parts that outlive a configuration are passed in: open exchanges, connection pools, counts.
 * - A request is forwarded under the generation in which it arrived. The generation in force decides whether it may
 *   continue (request/admission.ts).
 */
import type { Config } from "../config/index.ts";
import type { Logger } from "../replication/index.ts";
import type { Exchanges } from "./enforce/exchanges.ts";
import type { InFlight } from "./enforce/in-flight.ts";
import type { ServiceAccountTokens } from "./headers/service-account-file.ts";
import type { Downstream } from "./message/downstream-request.ts";
import type { HttpMetrics } from "./observe/http-metrics.ts";
import type { ProxyDeps } from "./request/dependencies.ts";
import type { Gateway } from "./request/gateway-client.ts";
import type { ReachedHandles } from "./request/identify-caller.ts";
import { createRequestPipeline, type RequestPipeline } from "./request/request-pipeline.ts";
import { compileRoutes } from "./routing/compiled-route.ts";
import type { ConfiguredUpstreams, UpstreamPools } from "./upstream/connection-pools.ts";

/** The parts that all generations share. */
export type LastingParts = Readonly<{
  exchanges: Exchanges;
  metrics: HttpMetrics;
  inFlight: InFlight;
  upstreams: UpstreamPools;
  reached: ReachedHandles;
  /** The pipeline of the generation in force. */
  current: () => RequestPipeline;
  /** Opens the gateway to an authenticate service in another process. Null: not needed. */
  openGateway: (deps: ProxyDeps) => Promise<Gateway | null>;
  /** Opens the tokens of the service accounts for calls to Kubernetes API servers. */
  openTokens: (routes: Config["routes"], logger: Logger) => ServiceAccountTokens;
}>;

export type Generation = Readonly<{
  deps: ProxyDeps;
  upstreams: ConfiguredUpstreams;
  /** Protocols other than WebSocket to which some route allows upgrades. */
  upgrades: ReadonlySet<string>;
  pipeline: RequestPipeline;
  onRequest(downstream: Downstream): void;
  /** Settles when the handlers of reserved paths and of the authenticate host have no request in progress. */
  whenIdle(): Promise<void>;
  /** Destroys the connections of their requests in progress. */
  destroyRest(): void;
  /** Releases its resources. Must be called once. */
  close(): Promise<void>;
}>;

export async function createGeneration(deps: ProxyDeps, lasting: LastingParts): Promise<Generation> {
  const upstreams = lasting.upstreams.forConfig(deps.config);
  const gateway = await lasting.openGateway(deps);
  const tokens = lasting.openTokens(deps.config.routes, deps.logger);
  const plans = compileRoutes(deps.config, upstreams, tokens);
  const handedOver = new Set<Downstream>();
  let idle: (() => void)[] = [];
  const pipeline = createRequestPipeline({
    deps,
    plans,
    exchanges: lasting.exchanges,
    metrics: lasting.metrics,
    inFlight: lasting.inFlight,
    current: lasting.current,
    reached: lasting.reached,
    gateway: gateway?.handle ?? null,
    onInternalRequest(downstream) {
      handedOver.add(downstream);
      downstream.onClose(() => {
        handedOver.delete(downstream);
        if (handedOver.size > 0) return;
        for (const resolve of idle) resolve();
        idle = [];
      });
    },
  });
  return {
    deps,
    upstreams,
    upgrades: new Set(deps.config.routes.flatMap(({ allowUpgrades }) => allowUpgrades)),
    pipeline,
    onRequest: pipeline.onRequest,
    whenIdle: () => (handedOver.size === 0 ? Promise.resolve() : new Promise((resolve) => idle.push(resolve))),
    destroyRest() {
      for (const downstream of handedOver) downstream.destroy();
    },
    async close() {
      tokens.close();
      await gateway?.close();
    },
  };
}
