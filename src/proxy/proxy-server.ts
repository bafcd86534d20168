/**
 * Proxy server: assembles the parts of the data path, switches configurations, and drains.
 *
 * - A new configuration takes effect in one turn. From then on it alone decides about every new request and every open
 *   exchange. Connections, pools and counts are kept.
 * - Draining closes each connection after its next response. The node still accepts new connections until load
 *   balancers have had time to notice. It then waits for open exchanges within the configured bound.
 * - At the end of a drain the node closes the remaining exchanges with a reason that asks clients to reconnect.
 * - A caller that is still sending, such as one whose upload was refused, can read its response first.
 */
import type { Registry } from "prom-client";
import type { FactKey } from "../auth/index.ts";
import type { HostPort } from "../config/index.ts";
import { momentOf } from "../replication/runtime/index.ts";
import type { AcmeServing } from "./autocert/autocert-timer.ts";
import { type CutReason, cutReasons, Exchanges, type KindCounts, type Settled } from "./enforce/exchanges.ts";
import { InFlight } from "./enforce/in-flight.ts";
import { heldBytesMax } from "./enforce/send-queue-socket.ts";
import { createGeneration, type Generation, type LastingParts } from "./generation.ts";
import { openServiceAccountTokens } from "./headers/service-account-file.ts";
import { flushNow } from "./http1/flush-scheduler.ts";
import { openProxyListener } from "./listen/proxy-listener.ts";
import type { Downstream } from "./message/downstream-request.ts";
import { createHttpMetrics } from "./observe/http-metrics.ts";
import type { ProxyDeps } from "./request/dependencies.ts";
import type { Gateway } from "./request/gateway-client.ts";
import { ReachedHandles } from "./request/identify-caller.ts";
import { createUpstreamPools } from "./upstream/connection-pools.ts";
import { createUpstreamMetrics } from "./upstream/pool-metrics.ts";

export type ProxyStats = Readonly<{
  /** Requests, WebSockets and tunnels in progress, permitted or not. */
  inFlight: KindCounts;
  /** Permitted exchanges that are open. */
  exchanges: KindCounts;
  cuts: Readonly<Record<CutReason, number>>;
  draining: boolean;
}>;

export type ProxyServer = Readonly<{
  address: HostPort;
  stats(): ProxyStats;
  /** The counts of each route in Prometheus' text format, in pieces, so that other work can run in between. */
  routeMetrics(): Iterable<string>;
  /** Re-decides every open exchange; settles when the denied ones are destroyed. */
  redecideAll(): Promise<void>;
  /**
   * Re-decides the exchanges that read an external data set, after it has changed. Settles when the denied ones are
   * destroyed.
   */
  recordsChanged(type: string): Promise<void>;
  /**
   * Activates another configuration: everything in `deps` except the parts of the process (clock, replica, freshness,
   * records, log). Requests in progress continue as they began, unless the new configuration denies them. Must not be
   * called while an earlier call is pending.
   * @returns settles when the denied exchanges are destroyed; `left` settles when the handlers of the previous
   *   configuration (reserved paths, authenticate host) serve no request any more
   * @throws if the configuration cannot be activated; nothing has changed then
   */
  activate(deps: ProxyDeps): Promise<Readonly<{ left: Promise<void> }>>;
  /**
   * Settles when no exchange is open any more: within the configured delay and time-out, and a short time for live
   * streams. Only then may this node announce that it leaves.
   */
  drain(): Promise<void>;
  /** Drains, and releases all resources. */
  close(): Promise<void>;
}>;

/** Interval between checks of silent streams. No safety depends on it. */
const sweepEveryMs = 250;

/** Time for exchanges that the end of a drain cuts to receive the reason. */
const lastWordMs = 1_000;

export async function startProxy(
  options: Readonly<{ deps: ProxyDeps; registry: Registry; acme?: AcmeServing | null }>,
): Promise<ProxyServer> {
  const { registry, acme = null } = options;
  const { clock, freshness, replica, logger, requestId } = options.deps;
  const cuts = Object.fromEntries(cutReasons.map((reason) => [reason, 0])) as Record<CutReason, number>;
  const inFlight = new InFlight();
  const upstreamMetrics = createUpstreamMetrics({ registry, logger });
  const upstreams = createUpstreamPools({ now: clock.monotonic, metrics: upstreamMetrics });
  const reached = new ReachedHandles();
  const exchanges = new Exchanges({
    clock,
    freshness,
    onCut(reason) {
      cuts[reason]++;
      metrics.cut(reason);
    },
    onCallersCut: flushNow,
    onRedecisionFailed: (error, requestId) => metrics.redecisionFailed(error, requestId),
    onUse: (session) => inForce.deps.idle.note(session, momentOf(clock)),
  });
  const metrics = createHttpMetrics({
    registry,
    logger,
    upstreams: upstreamMetrics,
    openExchanges: () => exchanges.counts,
    undelivered: () => exchanges.undelivered,
    heldBytesMax,
    overdueMs: () => freshness.overdueMs(clock.monotonic()),
    now: clock.monotonic,
  });
  if (heldBytesMax === Number.POSITIVE_INFINITY)
    logger.warn(
      {},
      "this node cannot read or bound what the kernel holds of its connections; receipts do not cover it",
    );
  const shared = {
    exchanges,
    metrics,
    inFlight,
    upstreams,
    reached,
    openGateway,
    openTokens: openServiceAccountTokens,
  };
  const lasting: LastingParts = { ...shared, current: () => inForce.pipeline };
  let inForce = await createGeneration(options.deps, lasting);
  const leaving = new Set<Promise<void>>();
  const stopListening = replica.onChange((change) => {
    if (change.rebuilt) reached.forget();
    options.deps.providerTokens.onChange(change);
    return promised((settled) => exchanges.onChange(change, settled));
  });
  const listenerHooks = {
    requestId,
    render: (...asked: Parameters<ProxyDeps["render"]>) => inForce.deps.render(...asked),
    onRefused: metrics.refused,
    monotonic: clock.monotonic,
    wall: clock.wall,
    draining: () => inFlight.draining,
    mayUpgrade: (protocol: string) => inForce.upgrades.has(protocol),
    onConnectionFailure: (failure: object) => logger.warn(failure, "listener connection failure"),
  };
  const onRequest = (downstream: Downstream): void => inForce.onRequest(downstream);
  const listener = await openProxyListener(options.deps.config, onRequest, listenerHooks, acme);
  const sweeping = setInterval(() => exchanges.sweep(), sweepEveryMs);
  sweeping.unref();

  async function activate(deps: ProxyDeps): Promise<Readonly<{ left: Promise<void> }>> {
    let next: Generation | undefined;
    try {
      next = await createGeneration(deps, lasting);
      listener.reload(deps.config);
    } catch (error) {
      await next?.close();
      upstreams.retainOnly(inForce.upstreams);
      throw error;
    }
    const before = inForce;
    inForce = next;
    // In the same turn, so that every exchange is decided again by the new configuration.
    const cut = promised((settled) => exchanges.redecideAll(settled));
    upstreams.retainOnly(next.upstreams);
    const left = leave(before);
    leaving.add(left);
    void left.then(() => leaving.delete(left));
    acme?.follow(deps.config.autocert);
    await cut;
    return { left };
  }

  async function leave(generation: Generation): Promise<void> {
    await Promise.race([generation.whenIdle(), after(generation.deps.config.drainTimeoutMs)]);
    generation.destroyRest();
    await generation.close();
  }

  let draining: Promise<void> | undefined;
  async function drain(): Promise<void> {
    inFlight.drain();
    const { drainDelayMs } = inForce.deps.config;
    if (drainDelayMs > 0) await after(drainDelayMs);
    const closed = listener.stopAccepting();
    const timeout = after(inForce.deps.config.drainTimeoutMs);
    await Promise.race([inFlight.whenIdle(), timeout]);
    await promised((settled) => exchanges.cutAll("draining", settled));
    await Promise.race([listener.whenHeard(), Promise.all([timeout, after(lastWordMs)])]);
    listener.destroyConnections();
    await closed;
  }
  async function close(): Promise<void> {
    draining ??= drain();
    await draining;
    clearInterval(sweeping);
    stopListening();
    upstreams.close();
    await Promise.all([...leaving, inForce.close()]);
  }

  return {
    address: listener.address,
    stats: () => ({
      inFlight: inFlight.counts,
      exchanges: { ...exchanges.counts },
      cuts: { ...cuts },
      draining: inFlight.draining,
    }),
    routeMetrics: () => metrics.meters.text(),
    async redecideAll() {
      await promised((settled) => exchanges.redecideAll(settled));
    },
    async recordsChanged(type) {
      await promised((settled) => exchanges.redecideReaders(new Set<FactKey>([`record:${type}`]), settled));
    },
    activate,
    drain() {
      draining ??= drain();
      return draining;
    },
    close,
  };
}

async function openGateway({ authenticateHost, config, clock, render }: ProxyDeps): Promise<Gateway | null> {
  const upstream = config.authenticateInternalServiceUrl;
  if (authenticateHost !== null || upstream === null) return null;
  const { createGateway } = await import("./request/gateway-client.ts"); // with libraries that nothing else needs
  return createGateway({ upstream, config, clock, render });
}

/** @returns undefined if it has settled already; rejects with the failure */
function promised(begin: (settled: Settled) => void): Promise<void> | undefined {
  let answer: Parameters<Settled>[0] | undefined;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  begin((failure) => {
    answer = failure;
    if (failure === null) resolve();
    else reject(failure);
  });
  return answer === null ? undefined : promise;
}

function after(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}
