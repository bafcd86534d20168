/**
 * Decision: the answer of policy to one request, as types.
 *
 * A permit holds the proof that policy was asked: only decide.ts can mint a `Permit`, so code that forwards cannot be
 * reached without one.
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

/** A request as policy sees it: exactly what will be forwarded, canonicalised once. */
export type DecisionRequest = Readonly<{
  method: string;
  /** External scheme: that of the route's `from`. */
  scheme: "http" | "https";
  /** Lowercase, with the port only where it is not the scheme's default. */
  host: string;
  /** The raw path as it will be forwarded, without query. */
  rawPath: string;
  /** Percent-decoded `rawPath`. */
  path: string;
  query: string;
  /** Lowercase names; several lines of one name joined by `, ` as in RFC 9110 §5.3. */
  headers: Readonly<Record<string, string>>;
  ip: string;
  clientCertificate: Readonly<{ presented: boolean; valid: boolean; leafPem: string }> | null;
  /** An SSH login; `publicKey` is base64 of the wire format. Absent: it is none. */
  ssh?: Readonly<{ username: string; publicKey: string | null }> | null;
  /** A message of the Model Context Protocol; `tool` is what a `tools/call` names. Absent: it is none. */
  mcp?: Readonly<{ method: string; tool: string | null }> | null;
}>;

/** A device that this session has shown, with who approved it. */
export type DeviceCredential = Readonly<{ id: string; typeId: string; approvedBy: string | null }>;

/** Who is asking, resolved from the credential and the projection. */
export type Principal = Readonly<{
  session: ActiveSession;
  user: User | undefined;
  userId: UserId;
  /** Opened personal data; undefined when it does not open: then policy takes the principal for nobody. */
  profile: Profile | undefined;
  claims: Claims;
  groups: ReadonlySet<GroupId>;
  /** In the order in which the session showed them. Absent: none. */
  devices?: readonly DeviceCredential[];
  /** As `streamsOf` says them; kept here because each request asks for them. */
  streams?: readonly [Stream, Stream];
}>;

/** `anonymous`: no credential, or one that names nothing valid. `behind`: our own state is; never sign-in. */
export type ResolvedCaller =
  | Fact<"principal", { principal: Principal }>
  | Fact<"anonymous", { why: string; credentialInHeader: boolean }>
  | Fact<"behind", { why: string }>;

/** What a decision rests on, so that it can be made again exactly when it may fall otherwise. */
export type FactsRead = Readonly<{
  sessionId: SessionId | null;
  userId: UserId | null;
  /** Groups that the policy asks about; that one is in none of them is a fact as well. */
  groups: readonly string[];
  /** Devices that the session has shown of the types that the policy asks about. */
  devices: readonly string[];
  /** Types of the external data sets that the policy asks about. */
  records: readonly string[];
}>;

/** What a decision is kept under until something of it changes: a stream of the log, or a data set from outside. */
export type FactKey = Stream | `record:${string}`;

/** What the allow rules and the deny rules of a route said, each with its reasons. */
export type RuleSetOutcomes = Readonly<{ allow: PolicyOutcome; deny: PolicyOutcome }>;

type DecisionBase = Readonly<{
  /** Sorted reason words of docs/pomerium-behaviour.md §6.3. */
  reasons: readonly string[];
  /** Null: the answer comes from outside the rules. */
  outcomes: RuleSetOutcomes | null;
  routeId: string;
  facts: FactsRead;
  /**
   * `facts` as keys: re-decide when one of these is touched. A change of membership touches the stream of each user it
   * concerns.
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
   * 403 unless the reasons say otherwise (docs/pomerium-behaviour.md §6.6); 503 where a data set could not be read.
   * `deviceType`: what the session has to show first, with 401; null: a device would not help.
   */
  | (Fact<"deny", { status: number; deviceType: string | null }> & DecisionBase)
  | (Fact<"signin", unknown> & DecisionBase);

/** What was answered, whatever else a decision holds. */
export type DecisionSummary =
  | Pick<Extract<Decision, { type: "permit" | "signin" }>, "type">
  | Pick<Extract<Decision, { type: "deny" }>, "type" | "status" | "deviceType">;
