/** API decision: the query to the decision API, and its outcomes with status and reasons. Pure. */
import type { Principal, RuleSetOutcomes, SessionHandle } from "../../auth/index.ts";
import { type Fact, unreachable } from "../../events/index.ts";
import type { UnavailableReason } from "../request/authorize.ts";
import { noRouteReason, type RecordAnnotations, reasonOfUnavailable } from "../request/authorize.ts";
import type { DescribedRequest, MatchedRequest, UnmatchedRequest } from "./described-request.ts";

export type SessionIds = Pick<SessionHandle, "sessionId" | "userId">;

/**
 * The source of the caller's identity: the credential in the request ("credential"), a given credential, or a session.
 * `among` selects a person's session by the identity providers of the route. Null: an anonymous caller.
 */
export type SubjectSource =
  | "credential"
  | Readonly<{ token: string }>
  | SessionIds
  | Readonly<{ among: (idpIds: ReadonlySet<string>) => SessionIds | undefined }>
  | null;

export type DecisionQuery = Readonly<{
  described: DescribedRequest;
  subject: SubjectSource;
  requestId: string;
  /** A permit includes the headers that identify the caller to the upstream. */
  withIdentity?: true;
  /** False: no client acts on the decision, so it is not recorded. */
  recorded?: false;
  /** Whether the client has stopped waiting for the decision. */
  isAbandoned?: () => boolean;
  /** The decision includes its trace, whatever the result. */
  traced?: true;
}>;

/** Policy's result, for the record. `annotations` are added once, to the final decision. */
type ByPolicy = Readonly<{ sides: RuleSetOutcomes | null; annotations?: RecordAnnotations }>;

/** Pairs of header name and value. */
export type IdentityHeaders = readonly (readonly [string, string])[];

export type ApiDecision =
  | (Fact<"permit", { principal: Principal | null; reasons: readonly string[]; identity: IdentityHeaders }> &
      MatchedRequest &
      ByPolicy)
  | (Fact<"signin", { reasons: readonly string[] }> & MatchedRequest & ByPolicy)
  | (Fact<"deny", { status: number; principal: Principal | null; reasons: readonly string[] }> &
      MatchedRequest &
      Partial<ByPolicy>)
  | (Fact<"unavailable", { why: UnavailableReason }> & MatchedRequest)
  | UnmatchedRequest
  /** The client stopped waiting. Nothing was decided, so nothing is recorded. */
  | Fact<"abandoned", unknown>;

/** A decision about a route. */
export type RouteDecision = Extract<ApiDecision, MatchedRequest>;

export function statusOf(decision: ApiDecision): number {
  switch (decision.type) {
    case "permit":
      return 200;
    case "signin":
      return 401;
    case "deny":
      return decision.status;
    case "unavailable":
      return 503;
    case "not_found":
      return 404;
    case "bad_request":
      return 400;
    case "abandoned":
      return 499; // never sent
    default:
      return unreachable(decision);
  }
}

export function reasonsOf(decision: ApiDecision): readonly string[] {
  switch (decision.type) {
    case "unavailable":
      return [reasonOfUnavailable(decision.why)];
    case "not_found":
      return [noRouteReason];
    case "bad_request":
      return [decision.reason];
    case "abandoned":
      return [decision.type];
    default:
      return decision.reasons;
  }
}
