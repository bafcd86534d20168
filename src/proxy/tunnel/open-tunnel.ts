/** Tunnel: what follows from a permit to be led where no HTTP goes, by the kind of the tunnel and of what stands behind it. */
import type { Principal } from "../../auth/index.ts";
import type { ForwardFailure } from "../forward/http-forwarder.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import type { PermittedRequest } from "../request/authorize.ts";
import type { RequestContext } from "../request/request-context.ts";
import { acceptanceOf, type TunnelAsked } from "../routing/tunnel-request.ts";
import type { UpstreamTarget } from "../upstream/connection-pools.ts";
import { leadsOnward, tunnelOnward } from "./proxy-chain-splice.ts";
import { type TunnelJob, tunnelTcp } from "./tcp-splice.ts";
import { tunnelUdp } from "./udp-splice.ts";

/** As for the connections of HTTP. */
const connectTimeoutMs = 10_000;
/** Another proxy connects before it answers. */
const onwardTimeoutMs = 30_000;

export type Tunnels = Readonly<{
  /** To the service itself. */
  open(permitted: PermittedRequest, asked: TunnelAsked): void;
  /** By way of another proxy, which is told what `headers` say. */
  openOnward(
    permitted: PermittedRequest,
    asked: TunnelAsked,
    by: Readonly<{ target: UpstreamTarget; headers: readonly string[] }>,
  ): void;
}>;

export function createTunnels(
  parts: Readonly<{
    metrics: Pick<HttpMetrics, "datagramDropped" | "refused">;
    now: () => number;
    notForwarded: (context: RequestContext, failure: ForwardFailure, principal: Principal | null) => void;
    onFault: (context: RequestContext, error: unknown) => void;
  }>,
): Tunnels {
  const { metrics, now, notForwarded, onFault } = parts;

  function jobOf(
    { context, plan, request, exchange, permit }: PermittedRequest,
    asked: TunnelAsked,
    target: UpstreamTarget,
  ): TunnelJob {
    return {
      ...{ downstream: context.downstream, exchange, target, requestId: context.requestId, counted: context },
      acceptance: acceptanceOf(asked, request, context.requestId),
      connectTimeoutMs: leadsOnward(plan.route) ? onwardTimeoutMs : connectTimeoutMs,
      idleTimeoutMs: plan.route.idleTimeoutMs,
      onFailed: (failure) => notForwarded(context, failure, permit.principal),
      onFault: (error) => onFault(context, error),
    };
  }

  return {
    open(permitted, asked) {
      const { context, plan, permit } = permitted;
      if (context.downstream.closed || plan.nextUpstream === undefined) return;
      const target = plan.nextUpstream({ sessionId: permit.principal?.session.sessionId ?? null, ip: context.ip });
      if (target === undefined) {
        notForwarded(context, { type: "unhealthy" }, permit.principal);
        return;
      }
      context.sentAt = now();
      context.trace?.upstreamBegins(target.host);
      const job = jobOf(permitted, asked, target);
      if (asked.kind === "tcp") tunnelTcp(permit, job);
      else tunnelUdp(permit, { ...job, onDropped: metrics.datagramDropped, onBroken: metrics.refused });
    },
    openOnward(permitted, asked, { target, headers }) {
      const { host, port } = asked.at;
      tunnelOnward(permitted.permit, { ...jobOf(permitted, asked, target), authority: `${host}:${port}`, headers });
    },
  };
}
