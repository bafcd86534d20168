/**
 * Failures: why a request did not get the whole answer of an upstream, in words that are bounded: labels of metrics and
 * a field of the access log.
 *
 * Pure.
 */
import { unreachable } from "../../events/index.ts";
import type { Condition } from "./local-reply.ts";

/**
 * no-session, denied, device, client-certificate: policy's answers · lease, behind, provider, data, audit: not known
 * well enough to decide · sign-in: no session, and none can be recorded · busy, draining: ours · unhealthy: no upstream
 * is in a state to be asked · upstream-…: the service behind · cut: permitted, and ended from here · client-left,
 * request-timeout: the caller's; it did not wait, or did not send its request in time
 */
export const failureReasons = [
  "bad-request",
  "no-route",
  "no-session",
  "denied",
  "device",
  "client-certificate",
  "lease",
  "behind",
  "provider",
  "data",
  "audit",
  "busy",
  "draining",
  "sign-in",
  "upgrade-refused",
  "unhealthy",
  "upstream-unreachable",
  "upstream-timeout",
  "upstream-broke",
  "cut",
  "client-left",
  "request-timeout",
  "internal",
] as const;
export type FailureReason = (typeof failureReasons)[number];

export function failureOf(condition: Condition): FailureReason {
  switch (condition.type) {
    case "no-session":
    case "no-route":
    case "bad-request":
    case "upstream-unreachable":
    case "upstream-timeout":
    case "request-timeout":
    case "internal":
      return condition.type;
    case "no-right":
      return deniedBy(condition.status);
    case "unknown":
      return condition.why;
    case "upgrade-not-allowed":
      return "upgrade-refused";
    case "tunnel-unreachable":
    case "upstream-broke":
      return "upstream-unreachable"; // `upstream-broke` is an answer that had begun
    default:
      return unreachable(condition);
  }
}

function deniedBy(status: number): FailureReason {
  if (status === 495) return "client-certificate";
  if (status === 400) return "bad-request";
  return status === 450 || status === 401 ? "device" : "denied";
}

/** Envoy's word for what became of a request, as Pomerium's access log has it. */
export function responseCodeDetails(
  failure: FailureReason | null,
  how: Readonly<{ answered: boolean; switched: boolean }>,
): string {
  switch (failure) {
    case null:
      return how.answered || how.switched ? "via_upstream" : "direct_response";
    case "no-session":
    case "denied":
    case "device":
    case "client-certificate":
    case "sign-in":
      return "ext_authz_denied";
    case "lease":
    case "behind":
    case "provider":
    case "audit":
    case "data":
      return "ext_authz_error";
    case "no-route":
      return "route_not_found";
    case "bad-request":
      return "http_request_refused";
    case "busy":
      return "overload";
    case "unhealthy":
      return "no_healthy_upstream";
    case "draining":
    case "cut":
      return "connection_cut";
    case "upgrade-refused":
      return "upgrade_failed";
    case "upstream-unreachable":
      return "upstream_reset_before_response_started{connection_failure}";
    case "upstream-timeout":
      return "response_timeout";
    case "upstream-broke":
      return "upstream_reset_after_response_started{connection_termination}";
    case "client-left":
      return "downstream_remote_disconnect";
    case "request-timeout":
      return "request_timeout";
    case "internal":
      return "internal_error";
    default:
      return unreachable(failure);
  }
}
