/** Dependencies of the proxy: its caller builds all of them, and the proxy reads nothing from its process. */
import type { Recorder } from "../../audit/index.ts";
import type {
  AnnotateDecision,
  Assertions,
  BearerTokens,
  Credential,
  Decision,
  DecisionRecord,
  DecisionRequest,
  IdleGate,
  KnownCaller,
  Principal,
  RecordDecision,
  RenderPage,
  ReservedPathHandler,
  ResolvedCaller,
  RouteRequirements,
  SessionHandle,
  SignInGate,
  SignInLoop,
  SignInRedirect,
  TraceText,
} from "../../auth/index.ts";
import type { Config, RouteConfig, RouteSignIn } from "../../config/index.ts";
import type { BootId, NeededLink, NodeId, UnixMs } from "../../events/index.ts";
import type { Clock, Freshness, Logger, Replica } from "../../replication/index.ts";
import type { ProviderTokenSource } from "../headers/provider-tokens.ts";
import type { AuthorizeLogEntry } from "../observe/authorize-line.ts";
import type { Tracing } from "../observe/traces.ts";

export type DecisionRecorder = Readonly<{
  record: RecordDecision;
  /** Strict audit: settles once the record is durable on this node. Null: records are kept on a best effort. */
  recordDurably: ((record: DecisionRecord) => Promise<void>) | null;
  /** As `record`, for the end of a stream of a strict route. Absent: `record` is used. */
  recordKept?: RecordDecision;
  /** Records a question whose answer names people, routes or actions. Absent: it is not recorded. */
  recordCommand?: Recorder["recordCommand"];
}>;

export type ProxyDeps = Readonly<{
  config: Config;
  identity: Readonly<{ node: NodeId; boot: BootId; region: string }>;
  clock: Clock;
  replica: Pick<Replica, "projection" | "applied" | "onChange" | "isDeniedLocally" | "isDeniedByRegion">;
  freshness: Freshness;
  /** Read-your-writes: waits for a link for a bounded time, then asks a broker. */
  catchUp: (link: NeededLink) => Promise<"reached" | "behind" | "lost">;
  /** Evaluates the policies compiled from `config`, so that one decision uses one configuration. */
  decide: (
    question: Readonly<{ routeId: string; caller: KnownCaller; request: DecisionRequest; now: UnixMs }>,
  ) => Decision;
  /** Annotations of a record, in addition to the decision. */
  annotateDecision: AnnotateDecision;
  resolveCaller: (
    handle: SessionHandle | undefined,
    options: Readonly<{ idpIds: ReadonlySet<string>; credentialInHeader: boolean; now: UnixMs }>,
  ) => ResolvedCaller;
  /** Identifies the identity providers, and our clients there, whose sessions a route accepts. */
  signInOf: (route: RouteConfig) => RouteSignIn;
  /** Identifies the holder of a bearer token that a route accepts. */
  bearerTokens: Pick<BearerTokens, "identify" | "accepts">;
  /** The identity provider's tokens for a session, for routes that forward them. */
  providerTokens: ProviderTokenSource;
  /** When sessions become idle, by `config`, and where permitted requests are noted. */
  idle: IdleGate;
  /** The requirements of a route, one sentence each. */
  explain: (routeId: string) => RouteRequirements | null;
  /** Where a person who was refused asks for a route; null: nowhere. Absent: there is no such page. */
  accessUrlOf?: (
    route: RouteConfig,
    reader: Readonly<{ principal: Principal; refusal: string; to: string }>,
  ) => string | null;
  credentials: Readonly<{
    /** @param query without `?` */
    read(headers: Readonly<Record<string, string | undefined>>, query: string): Credential | undefined;
    verify(token: string): SessionHandle | "invalid" | Promise<SessionHandle | "invalid">;
  }>;
  beginSignIn: (
    asked: URL,
    cookieHeader: string | undefined,
    of: Readonly<{ route: RouteConfig; trace: TraceText | null; keepsAddress: boolean }>,
  ) => SignInRedirect;
  /** Whether new sign-ins may start. */
  signIns: SignInGate;
  /**
   * Detects a sign-in loop: the caller returned from sign-in several times without a valid session. Undefined: none.
   */
  signInLoopOf: (asked: URL, cookieHeader: string | undefined) => SignInLoop | undefined;
  /** Answers reserved paths on every host, before any route. */
  reserved: ReservedPathHandler;
  /** The authenticate host, if it is in this process; null: a gateway forwards to it. */
  authenticateHost: ReservedPathHandler | null;
  assertions: Pick<Assertions, "issue">;
  render: RenderPage;
  recorder: DecisionRecorder;
  logger: Logger;
  /**
   * Accepts whole lines of the access log without waiting; null: the log is off. @returns false if the buffer is full
   * and the line is dropped
   */
  accessLog: Readonly<{ write(line: string): boolean; probes: boolean }> | null;
  /** The log of decisions in Pomerium's format; null: the log is off. */
  authorizeLog: ((facts: AuthorizeLogEntry) => void) | null;
  /** Null: tracing is off. */
  tracing: Tracing | null;
  requestId: () => string;
}>;
