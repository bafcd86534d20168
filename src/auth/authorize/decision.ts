/**
 * Decision types: the request, the caller and the facts that a decision reads. decide.ts has its answer.
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
import type { PolicyOutcome } from "./reasons.ts";

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
  /** The next time at which a membership ends by itself, and `groups` no longer holds. Absent: none does. */
  groupsUntil?: UnixMs;
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

/** Why a caller is anonymous whose session or person this node's region has revoked by itself; also a `Reason`. */
export const revokedByRegion = "revoked-by-region";

/** Why a caller is anonymous whose session was unused for too long; also a `Reason`. */
export const sessionIdle = "session-idle";

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
