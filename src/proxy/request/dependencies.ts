/** Dependencies of the proxy. It builds none of them, and reads nothing of the process it runs in. */
import type {
  AnnotateDecision,
  Assertions,
  BearerTokens,
  Credential,
  Decision,
  DecisionRecord,
  DecisionRequest,
  KnownCaller,
  RecordDecision,
  RenderPage,
  ReservedPathHandler,
  ResolvedCaller,
  SessionHandle,
  SignInLoop,
  SignInRedirect,
  TraceText,
} from "../../auth/index.ts";
import type { Config, RouteConfig } from "../../config/index.ts";
import type { BootId, Link, NodeId, UnixMs } from "../../events/index.ts";
import type { Clock, Freshness, Logger, Replica } from "../../replication/index.ts";
import type { ProviderTokenSource } from "../headers/provider-tokens.ts";
import type { AuthorizeLogEntry } from "../observe/authorize-line.ts";
import type { Tracing } from "../observe/traces.ts";

export type DecisionRecorder = Readonly<{
  record: RecordDecision;
  /** Strict audit: settles once the record is durable on this node. Null: records are kept on a best effort. */
  recordDurably: ((record: DecisionRecord) => Promise<void>) | null;
}>;

export type ProxyDeps = Readonly<{
  config: Config;
  identity: Readonly<{ node: NodeId; boot: BootId; region: string }>;
  clock: Clock;
  replica: Pick<Replica, "projection" | "applied" | "onChange" | "isDeniedLocally">;
  freshness: Freshness;
  /** Read-your-writes: waits for a link for a bounded time, then asks a broker. */
  catchUp: (link: Link) => Promise<"reached" | "behind" | "lost">;
  /** Over the policies compiled from `config`: one decision, one configuration. */
  decide: (
    question: Readonly<{ routeId: string; caller: KnownCaller; request: DecisionRequest; now: UnixMs }>,
  ) => Decision;
  /** What the record says of a decision beside the answer. */
  annotateDecision: AnnotateDecision;
  resolveCaller: (
    handle: SessionHandle | undefined,
    options: Readonly<{ idpId: string; credentialInHeader: boolean; now: UnixMs }>,
  ) => ResolvedCaller;
  /** The identity provider, and the client of ours there, whose sessions count on a route. */
  idpIdOf: (route: RouteConfig) => string;
  /** Who holds a bearer token that a route takes. */
  bearerTokens: Pick<BearerTokens, "identify" | "accepts">;
  /** What the identity provider gave for a session, for routes that forward it. */
  providerTokens: ProviderTokenSource;
  /** What a route asks for, a sentence each. */
  explain: (routeId: string) => readonly string[];
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
  /** Undefined unless the caller came back from sign-in several times without a session that counts. */
  signInLoopOf: (asked: URL, cookieHeader: string | undefined) => SignInLoop | undefined;
  /** Answers reserved paths on every host, before any route. */
  reserved: ReservedPathHandler;
  /** The authenticate host, when it is in this process; null: a gateway leads to it. */
  authenticateHost: ReservedPathHandler | null;
  assertions: Pick<Assertions, "issue">;
  render: RenderPage;
  recorder: DecisionRecorder;
  logger: Logger;
  /**
   * Takes whole lines of the access log, at once; null: nobody wants them. @returns false: there is no room, the line
   * is lost
   */
  accessLog: Readonly<{ write(line: string): boolean; probes: boolean }> | null;
  /** The log of decisions in Pomerium's words; null: nobody wants it. */
  authorizeLog: ((facts: AuthorizeLogEntry) => void) | null;
  /** Null: no traces are made. */
  tracing: Tracing | null;
  requestId: () => string;
}>;
