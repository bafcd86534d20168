/**
 * Refusals: end a request with a reply of the proxy itself. One function counts the refusal, replies and records the
 * decision.
 *
 * Pure except for the response it writes to, the metrics and the records.
 */
import { type DecisionRecord, identityTooLarge, type Principal } from "../../auth/index.ts";
import type { HttpMetrics } from "../observe/http-metrics.ts";
import { describeError } from "../observe/log-text.ts";
import type { Condition } from "../reply/local-reply.ts";
import { codeOf, conditionOf } from "../reply/write-reply.ts";
import type { AdmissionOutcome } from "./admission.ts";
import {
  conditionOfDenial,
  crossSiteReason,
  invalidBearerReason,
  noRouteReason,
  reasonOfUnavailable,
  type UnavailableReason,
} from "./authorize.ts";
import { type ReplyTools, type RequestContext, recordDecision, sendLocalReply } from "./request-context.ts";

export type RequestRefusal = Readonly<{
  condition: Condition;
  result: DecisionRecord["result"];
  reason: string;
  /** Counts the refusal as one by the proxy's own rules, made before any credential was read. */
  isCounted: boolean;
}>;

/** Refuses an ambiguous request, or one that this proxy does not serve. */
export function badRequest(reason: string, status = 400): RequestRefusal {
  return { condition: { type: "bad-request", status }, result: "bad_request", reason, isCounted: true };
}

export const twoCredentials: RequestRefusal = { ...badRequest("two-credentials"), isCounted: false };

export const noRoute: RequestRefusal = {
  condition: { type: "no-route" },
  result: "not_found",
  reason: noRouteReason,
  isCounted: false,
};

function denied(reason: string): RequestRefusal {
  return {
    condition: { type: "no-right", status: 403, reasons: [reason] },
    result: "deny",
    reason,
    isCounted: false,
  };
}

export const crossSite: RequestRefusal = { ...denied(crossSiteReason), isCounted: true };
export const invalidBearer = denied(invalidBearerReason);
export const identityExceedsHeaders = denied(identityTooLarge.reason);
/** Without an identity, the Kubernetes API server would treat the request as one of the service account itself. */
export const impersonatesNothing = denied("kubernetes-nobody");

export function unavailableRefusal(why: UnavailableReason): RequestRefusal {
  return {
    condition: { type: "unknown", why },
    result: "unavailable",
    reason: reasonOfUnavailable(why),
    isCounted: false,
  };
}

export type RefusalWriter = Readonly<{
  /** Always "ended", so that a step of the pipeline can return it. */
  refuse(context: RequestContext, refusal: RequestRefusal, principal?: Principal | null): "ended";
  /** Refuses a request that policy denied, or for which the caller has to sign in. */
  refuseByPolicy(context: RequestContext, refused: Extract<AdmissionOutcome, { type: "refused" }>): "ended";
  /** Ends a request after an error. */
  fail(context: RequestContext, error: unknown): void;
}>;

export function createRefusalWriter(tools: ReplyTools, metrics: Pick<HttpMetrics, "refused">): RefusalWriter {
  const { deps } = tools;
  return {
    refuse(context, { condition, result, reason, isCounted }, principal = null) {
      if (isCounted) metrics.refused(reason);
      const status = sendLocalReply(context, condition, tools, principal);
      recordDecision(context, { result, status, reasons: [reason] }, principal, deps);
      return "ended";
    },

    refuseByPolicy(context, { decision, principal, annotations }) {
      const { type: result, reasons, outcomes: sides } = decision;
      const status = sendLocalReply(context, conditionOfDenial(decision), tools, principal, annotations.trace ?? null);
      recordDecision(context, { result, status, reasons, sides, ...annotations }, principal, deps, context.asOf);
      return "ended";
    },

    fail(context, error) {
      const { logger } = deps;
      const condition = conditionOf(error);
      if (condition.type === "internal")
        logger.error(
          { requestId: context.requestId, error: describeError(error) },
          "could not handle a request; replied with an error",
        );
      try {
        sendLocalReply(context, condition, tools);
      } catch (worse) {
        logger.error(
          { requestId: context.requestId, code: codeOf(worse) },
          "could not reply to a request; closed its connection",
        );
        context.downstream.destroy();
      }
    },
  };
}
