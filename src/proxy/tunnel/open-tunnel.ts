/** Opens a permitted tunnel: TCP or UDP to the service itself, or TCP through another proxy. */
import type { Principal } from "../../auth/index.ts";
import type { ForwardFailure } from "../forward/forward-job.ts";
import type { ForwardableRequest } from "../forward/forward-request.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import { acceptanceOf, type TunnelRequest } from "../routing/tunnel-request.ts";
import type { UpstreamTarget } from "../upstream/upstream-choice.ts";
import { isProxyChain, tunnelThroughProxy } from "./proxy-chain-splice.ts";
import { type TunnelJob, tunnelTcp } from "./tcp-splice.ts";
import { tunnelUdp } from "./udp-splice.ts";

/** The same as for HTTP connections. */
const connectTimeoutMs = 10_000;
/** Longer, since another proxy connects to the target before it answers. */
const onwardTimeoutMs = 30_000;

export type Tunnels<Permitted extends ForwardableRequest> = Readonly<{
  /** To the service itself. */
  open(permitted: Permitted, asked: TunnelRequest): void;
  /** Through another proxy. `headers` carry the identity. */
  openOnward(
    permitted: Permitted,
    asked: TunnelRequest,
    by: Readonly<{ target: UpstreamTarget; headers: readonly string[] }>,
  ): void;
}>;

export function createTunnels<Permitted extends ForwardableRequest>(
  parts: Readonly<{
    metrics: Pick<HttpMetrics, "datagramDropped" | "refused">;
    now: () => number;
    notForwarded: (context: Permitted["context"], failure: ForwardFailure, principal: Principal | null) => void;
    onFault: (context: Permitted["context"], error: unknown) => void;
  }>,
): Tunnels<Permitted> {
  const { metrics, now, notForwarded, onFault } = parts;

  function jobOf(
    { context, plan, request, exchange, permit }: Permitted,
    asked: TunnelRequest,
    target: UpstreamTarget,
  ): TunnelJob {
    return {
      downstream: context.downstream,
      exchange,
      target,
      requestId: context.requestId,
      counted: context,
      acceptance: acceptanceOf(asked, request, {
        httpVersion: context.downstream.head.httpVersion,
        requestId: context.requestId,
      }),
      connectTimeoutMs: isProxyChain(plan.route) ? onwardTimeoutMs : connectTimeoutMs,
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
      tunnelThroughProxy(permitted.permit, {
        ...jobOf(permitted, asked, target),
        authority: `${host}:${port}`,
        headers,
      });
    },
  };
}
