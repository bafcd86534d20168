/**
 * Decision: the answer of policy to one request, as types.
 *
 * A permit proves that policy decided: only decide.ts can make a `Permit`, so forwarding code cannot run without one.
 */
import type {
  ActiveSession,
  Claims,
  Fact,
  GroupId,
  Profile,
  SessionId,
  Stream,
  UnixMs,
  User,
  UserId,
} from "../../events/index.ts";
import type { Permit } from "./decide.ts";
import type { PolicyOutcome } from "./reasons.ts";

export type { Permit } from "./decide.ts";

/** A request as policy sees it: exactly the forwarded request, canonicalised once. */
export type DecisionRequest = Readonly<{
  method: string;
  /** External scheme, from the route's `from`. */
  scheme: "http" | "https";
  /** Lowercase; with the port only if it is not the scheme's default. */
  host: string;
  /** The raw forwarded path, without query. */
  rawPath: string;
  /** Percent-decoded `rawPath`. */
  path: string;
  query: string;
  /** Lowercase names; several lines of one name joined by `, ` as in RFC 9110 §5.3. */
  headers: Readonly<Record<string, string>>;
  ip: string;
  clientCertificate: Readonly<{ presented: boolean; valid: boolean; leafPem: string }> | null;
  /** An SSH login; `publicKey` is base64 of the wire format. Absent: not an SSH login. */
  ssh?: Readonly<{ username: string; publicKey: string | null }> | null;
  /** A message of the Model Context Protocol; `tool` is the name in a `tools/call`. Absent: no such message. */
  mcp?: Readonly<{ method: string; tool: string | null }> | null;
}>;

/** A device that this session has shown, with who approved it. */
export type DeviceCredential = Readonly<{ id: string; typeId: string; approvedBy: string | null }>;

/** The caller, resolved from the credential and the projection. */
export type Principal = Readonly<{
  session: ActiveSession;
  user: User | undefined;
  userId: UserId;
  /** Opened personal data; undefined: it does not open, and policy treats the caller as anonymous. */
  profile: Profile | undefined;
  claims: Claims;
  groups: ReadonlySet<GroupId>;
  /** In the order in which the session showed them. Absent: none. */
  devices?: readonly DeviceCredential[];
  /** Result of `streamsOf`, cached because each request needs it. */
  streams?: readonly [Stream, Stream];
}>;

/** `anonymous`: no credential, or an invalid one. `behind`: this node's projection lags; never redirect to sign-in. */
export type ResolvedCaller =
  | Fact<"principal", { principal: Principal }>
  | Fact<"anonymous", { why: string; credentialInHeader: boolean }>
  | Fact<"behind", { why: string }>;

/** The facts behind a decision. It is re-decided exactly when one of them changes. */
export type FactsRead = Readonly<{
  sessionId: SessionId | null;
  userId: UserId | null;
  /** Groups that the policy checks. Not being a member is a fact too. */
  groups: readonly string[];
  /** Devices that the session has shown, of the types that the policy checks. */
  devices: readonly string[];
  /** Types of the external data sets that the policy checks. */
  records: readonly string[];
}>;

/** Key of a fact whose change triggers a re-decision: a log stream or an external data set. */
export type FactKey = Stream | `record:${string}`;

/** Outcomes of the allow rules and the deny rules of a route, each with its reasons. */
export type RuleSetOutcomes = Readonly<{ allow: PolicyOutcome; deny: PolicyOutcome }>;

type DecisionBase = Readonly<{
  /** Sorted reason words of docs/pomerium-behaviour.md §6.3. */
  reasons: readonly string[];
  /** Null: the answer does not come from rules. */
  outcomes: RuleSetOutcomes | null;
  routeId: string;
  facts: FactsRead;
  /**
   * `facts` as keys: re-decide when one of these changes. A change of membership changes the stream of each affected
   * user.
   */
  reads: readonly FactKey[];
  /**
   * The next moment at which time alone can change the answer (session expiry, a bound of a time criterion); null:
   * none.
   */
  until: UnixMs | null;
}>;

export type Decision =
  | (Fact<"permit", { permit: Permit }> & DecisionBase)
  /**
   * 403 unless the reasons say otherwise (docs/pomerium-behaviour.md §6.6); 503 if a data set could not be read.
   * `deviceType`: the type that the session must show first, with 401; null: a device would not help.
   */
  | (Fact<"deny", { status: number; deviceType: string | null }> & DecisionBase)
  | (Fact<"signin", unknown> & DecisionBase);

/** The answer of a decision, without its facts. */
export type DecisionSummary =
  | Pick<Extract<Decision, { type: "permit" | "signin" }>, "type">
  | Pick<Extract<Decision, { type: "deny" }>, "type" | "status" | "deviceType">;
