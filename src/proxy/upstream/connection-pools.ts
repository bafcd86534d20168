/**
 * Upstream pools: connections to the upstreams, one pool for each origin and TLS setting, kept alive and bounded.
 *
 * - Pools outlive configurations, and so does what is known about upstreams (upstream/upstream-choice.ts).
 * - Certificates are verified unless a route has `tls_skip_verify`. The TLS name is the upstream's own, whatever the
 *   Host header of a request.
 * - The connections of a pool and the requests that wait for one are bounded.
 */

import { constants } from "node:crypto";
import { isIP, type LookupFunction } from "node:net";
import { type ConnectionOptions, checkServerIdentity, getCACertificates } from "node:tls";
import { type Config, type RouteConfig, speaksHttp2 } from "../../config/index.ts";
import { createSystemLookup } from "../../replication/runtime/index.ts";
import { Http1Pool, type PoolLimits, type UpstreamAddress } from "../http1/upstream-pool.ts";
import { Http2Pool } from "../http2/upstream-pool.ts";
import type { UpstreamPool } from "../message/upstream-call.ts";
import { AlpnPools } from "./alpn-pools.ts";
import { createUpstreamLookups } from "./lookup.ts";
import type { BreakerBound } from "./pool-metrics.ts";
import {
  type ChooserDeps,
  createUpstreamChooser,
  type NextUpstream,
  type UpstreamChooser,
  type UpstreamTarget,
} from "./upstream-choice.ts";

/** The settings that concern all upstreams. */
type UpstreamConfig = Pick<Config, "certificateAuthority" | "dnsLookupFamily" | "http2Connections">;

/** The upstreams of one configuration. */
export type ConfiguredUpstreams = Readonly<{
  /** Returns the chooser of a route, and starts its health checks. */
  chooserOf(route: RouteConfig): NextUpstream;
}>;

export type UpstreamPools = Readonly<{
  /** Pools are shared by all configurations that reach the same origin in the same way. */
  forConfig(config: UpstreamConfig): ConfiguredUpstreams;
  /**
   * Releases pools that these upstreams do not use: what is in progress ends by itself, idle connections end soon.
   * Only health checks of their routes continue.
   */
  retainOnly(choice: ConfiguredUpstreams): void;
  close(): void;
}>;

/** @returns the circuit breaker bound that one more request would exceed; undefined: none */
export function exceededBoundOf({ limits, upgrades }: UpstreamTarget, pool: UpstreamPool): BreakerBound | undefined {
  const openUpgrades = limits.streams === limits.requests ? upgrades.busy : 0;
  if (pool.busy - pool.waiting + openUpgrades >= limits.requests) return "requests";
  return pool.isFull && pool.waiting >= limits.pending ? "pending_requests" : undefined;
}

const connectTimeoutMs = 10_000;

export function createUpstreamPools(world: Omit<ChooserDeps, "random">): UpstreamPools {
  const choosing: ChooserDeps = { ...world, random: Math.random };
  const targets = new Map<string, UpstreamTarget>();
  const choosers = new Map<string, UpstreamChooser>();
  /** No configuration uses them any more, and requests to them are in progress. */
  const draining = new Set<UpstreamTarget>();
  const keysOf = new WeakMap<ConfiguredUpstreams, Set<string>>();
  const lookupOf = createUpstreamLookups(createSystemLookup());

  function targetOf(
    url: URL,
    route: RouteConfig,
    { config, keys }: Readonly<{ config: UpstreamConfig; keys: Set<string> }>,
  ): UpstreamTarget {
    const { tls, circuitBreakers, upstreamCodecType } = route;
    const key = JSON.stringify([
      socketPathOf(url) ?? url.origin,
      url.protocol,
      url.host,
      tls,
      upstreamCodecType,
      circuitBreakers,
      config.certificateAuthority,
      config.dnsLookupFamily,
    ]);
    keys.add(key);
    const known = targets.get(key);
    if (known !== undefined) return { ...known, url };
    const target = createTarget(url, route, { config, lookup: lookupOf(config.dnsLookupFamily) });
    targets.set(key, target);
    return target;
  }

  return {
    forConfig(config) {
      const keys = new Set<string>();
      const choice: ConfiguredUpstreams = {
        chooserOf(route) {
          const found = route.to.map(({ url }) => targetOf(url, route, { config, keys }));
          const { id, to, balancing, healthChecks, outlierDetection, tls, circuitBreakers, upstreamCodecType } = route;
          const addresses = to.map(({ url, weight }) => [url.href, weight]);
          const rules = [balancing, healthChecks, outlierDetection, tls, circuitBreakers, upstreamCodecType];
          const key = JSON.stringify([id, addresses, rules, config.certificateAuthority, config.dnsLookupFamily]);
          keys.add(key);
          const known = choosers.get(key) ?? createUpstreamChooser(route, found, choosing);
          choosers.set(key, known);
          return known.next;
        },
      };
      keysOf.set(choice, keys);
      return choice;
    },
    retainOnly(choice) {
      const kept = keysOf.get(choice);
      for (const target of draining) if (isUnused(target)) draining.delete(target);
      for (const [key, target] of targets) {
        if (kept?.has(key)) continue;
        targets.delete(key);
        draining.add(target);
      }
      for (const [key, chooser] of choosers) {
        if (kept?.has(key)) continue;
        choosers.delete(key);
        chooser.stop();
      }
    },
    close() {
      for (const { stop } of choosers.values()) stop();
      for (const { pool, grpcPool } of [...targets.values(), ...draining])
        for (const each of [pool, grpcPool]) each.close();
    },
  };
}

function isUnused({ busy }: UpstreamTarget): boolean {
  return busy() === 0;
}

function createTarget(
  url: URL,
  route: RouteConfig,
  { config, lookup }: Readonly<{ config: UpstreamConfig; lookup: LookupFunction }>,
): UpstreamTarget {
  const path = socketPathOf(url);
  const hostname = path === null ? url.hostname.replace(/^\[|\]$/g, "") : "localhost";
  const tls = tlsOptions(route, config, route.tls.serverName ?? hostname);
  const secure = url.protocol === "https:" || url.protocol === "h2:" || url.protocol === "https+unix:";
  const port = Number(url.port) || (secure ? 443 : 80);
  const { http2Connections } = config;
  const connect: UpstreamAddress = { secure, path, hostname, port, lookup, tls, http2Connections };
  const pooling = {
    connectionsMax: Math.max(1, route.circuitBreakers.connections),
    connectTimeoutMs,
    // Less than servers commonly keep idle connections.
    idleMs: 4_000,
  };
  const upgrades = { busy: 0 };
  const { pool, grpcPool, calls } = createPools(url, connect, { ...pooling, codec: codecOf(route) });
  const busy = (): number => calls() + upgrades.busy;
  const limits = route.circuitBreakers;
  return {
    url,
    host: path === null ? url.host : hostname,
    pool,
    grpcPool,
    connect,
    limits,
    upgrades,
    retries: { busy: 0 },
    busy,
    report: null,
  };
}

/** Renegotiation does not exist in HTTP/2 (RFC 9113 §9.2.1). */
function codecOf({ upstreamCodecType, tls }: RouteConfig): RouteConfig["upstreamCodecType"] {
  return tls.allowRenegotiation ? "http1" : upstreamCodecType;
}

type TargetPools = Readonly<{ pool: UpstreamPool; grpcPool: UpstreamPool; calls: () => number }>;

function createPools(
  url: URL,
  address: UpstreamAddress,
  limits: PoolLimits & Readonly<{ codec: RouteConfig["upstreamCodecType"] }>,
): TargetPools {
  const http2Only = { ...address, tls: { ...address.tls, ALPNProtocols: ["h2"] } };
  if (speaksHttp2(url) || !address.secure) {
    const pool = speaksHttp2(url) ? new Http2Pool(http2Only, limits) : new Http1Pool(address, limits);
    return { pool, grpcPool: pool, calls: () => pool.busy };
  }
  if (limits.codec === "auto") {
    const pool = new AlpnPools(address, limits);
    return { pool, grpcPool: pool.grpcPool, calls: () => pool.busy };
  }
  const pool = new Http1Pool(address, limits);
  const grpcPool = new Http2Pool(http2Only, limits);
  return { pool, grpcPool, calls: () => pool.busy + grpcPool.busy };
}

/** Path of a Unix domain socket; null: TCP. */
function socketPathOf({ protocol, pathname }: URL): string | null {
  return protocol === "unix:" || protocol === "https+unix:" ? decodeURIComponent(pathname) : null;
}

/** @param name the certificate must have it; sent as SNI unless it is an address (RFC 6066 §3) */
function tlsOptions(route: RouteConfig, config: UpstreamConfig, name: string): ConnectionOptions {
  const { skipVerify, customCa, clientCert, clientKey, allowRenegotiation } = route.tls;
  const ca =
    customCa ??
    (config.certificateAuthority === null ? undefined : [...getCACertificates(), config.certificateAuthority]);
  return {
    rejectUnauthorized: !skipVerify,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["http/1.1"],
    ...(allowRenegotiation ? {} : { secureOptions: constants.SSL_OP_NO_RENEGOTIATION }),
    ...(isIP(name) === 0 ? { servername: name } : {}),
    checkServerIdentity: (_host, certificate) => checkServerIdentity(name, certificate),
    ...(ca === undefined ? {} : { ca }),
    ...(clientCert === null || clientKey === null ? {} : { cert: clientCert, key: clientKey }),
  };
}
