/**
 * Config: what the rest of the program sees of `cardea.yaml`, checked, with defaults filled in and files read.
 *
 * The schema (schema.ts) is the one source of keys, defaults and documentation; its output is this type. Durations are
 * milliseconds. Secrets are bytes and never printed. `hash` identifies the configuration in decision records: the
 * SHA-256 of its canonical form in which each secret is replaced by a keyed digest.
 */
import type { ConfigHash, NodeId } from "../events/index.ts";
import type { ConfigFields } from "./schema/keys.ts";
import type { globalKeys, routeKeys } from "./schema/schema.ts";
import type { AccessLogField, AuthorizeLogField } from "./values/log-fields.ts";
import type { BalancingConfig, BreakerConfig, OutlierConfig } from "./values/upstream-settings.ts";

type BrokerKeys = (typeof globalKeys)["broker"]["shape"];
type NatsKeys = (typeof globalKeys)["nats"]["shape"];
type AuditKeys = (typeof globalKeys)["audit"]["shape"];
type DecisionApiKeys = (typeof globalKeys)["decision_api"]["shape"];
type RedirectKeys = (typeof routeKeys)["redirect"]["shape"];
type ResponseKeys = (typeof routeKeys)["response"]["shape"];

/** A limit for each role in which a process holds a lease. */
export type PerNodeRole = Readonly<Record<"proxy" | "authorize" | "broker", number>>;

export type Service = "authenticate" | "authorize" | "databroker" | "proxy";
export type HostPort = Readonly<{ host: string; port: number }>;
export type OnStale = RouteConfig["onStale"];

/**
 * One reading of PPL as data, still to be compiled by src/auth/authorize; `location` is where it begins in the file.
 * `locations` covers every value and key inside it, for `locationIn` (source/source-locations.ts); absent when the
 * policy came from no file.
 */
export type PolicySource = Readonly<{ ppl: unknown; location: SourceLocation; locations?: SourceLocationTree }>;
/** Lines and columns count from 1; line 0 is a source without lines: an environment variable, the command line. */
export type SourceLocation = Readonly<{ file: string; line: number; column: number }>;
/** Where a value stands, where its key stands (null: it is no mapping's value), and the same of all that is in it. */
export type SourceLocationTree = Readonly<{
  value: SourceLocation;
  key: SourceLocation | null;
  inner: ReadonlyMap<string | number, SourceLocationTree>;
}>;
/** A problem with what was written: printed as `file:line:column: error: key: problem; remedy`, or `warning`. */
export type Problem = SourceLocation &
  Readonly<{ key: string; problem: string; remedy: string; severity: "error" | "warning" }>;

export type Upstream = Readonly<{ url: URL; weight: number | null }>;

export type TunnelConfig = Readonly<{
  kind: "tcp" | "udp";
  /** What a caller may name; where it leads is `to` alone. Lowercase; `*` matches anything, also dots. */
  targets: readonly HostPort[];
  /** The names are hosts of their own, and `host` is only where the proxy is: `tcp+https://proxy/db.internal:5432`. */
  behindProxy: boolean;
}>;

/** Whose bearer tokens count on a route, and as what. */
export type BearerConfig = Readonly<
  /** Of the route's own identity provider. `audiences`: the token must name one of them; null: it need not. */
  | { format: "idp_access_token"; audiences: readonly string[] | null }
  | { format: "idp_identity_token" }
  /** Of other issuers; `issuers`: their names. */
  | { format: "jwt"; issuers: readonly string[] }
>;

/** An issuer of tokens for callers that are not people: a cluster, a pipeline. */
export type TokenIssuerConfig = Readonly<{
  name: string;
  /** Exactly what stands in `iss`. */
  issuer: string;
  /** Null: the issuer's discovery document says. */
  jwksUrl: URL | null;
  algorithms: readonly string[];
  audiences: readonly string[];
}>;

/** Name of a claim to the values that are enough. */
type ClaimLists = Readonly<Record<string, readonly (string | number | boolean)[]>>;

/** A policy that a console attached to a route. */
export type SubPolicyConfig = Readonly<{
  id: string;
  name: string;
  /** Null: it has only lists. */
  policy: PolicySource | null;
  allowedUsers: readonly string[];
  allowedDomains: readonly string[];
  allowedIdpClaims: ClaimLists;
  /** Shown to refused callers if the route shows error details; "": nothing. */
  explanation: string;
  remediation: string;
}>;

/** What a route asks of its callers, by its policies and by Pomerium's lists. */
export type RouteAccess = Pick<
  RouteConfig,
  "policy" | "subPolicies" | "allowedUsers" | "allowedDomains" | "allowedIdpClaims" | "allowAnyAuthenticatedUser"
>;

export type RouteConfig = Readonly<{
  /** Stable id: the given `id`, else a digest over from, matcher and action. */
  id: string;
  name: string;
  location: SourceLocation;
  from: URL;
  /** `from` host pattern: exact (`app.example.com`) or with `*`. Lowercase, without port. */
  host: string;
  /** Null: any incoming port. */
  port: number | null;
  /**
   * Null: HTTP. Otherwise `host` and `port` are where its callers reach us and sign in, and these are the names they
   * ask for.
   */
  tunnel: TunnelConfig | null;
  to: readonly Upstream[];
  redirect: (ConfigFields<RedirectKeys> & Readonly<{ responseCode: 301 | 302 | 303 | 307 | 308 }>) | null;
  response: ConfigFields<ResponseKeys> | null;
  match: Readonly<{ kind: "prefix" | "path" | "regex"; value: string }>;
  prefixRewrite: string | null;
  regexRewrite: Readonly<{ pattern: string; substitution: string }> | null;
  hostRewrite: string | null;
  hostRewriteHeader: string | null;
  /** On the path as it was asked for; what it makes is the `Host`, when that is one. */
  hostPathRegexRewrite: Readonly<{ pattern: string; substitution: string }> | null;
  preserveHostHeader: boolean;
  setRequestHeaders: Readonly<Record<string, string>>;
  /** The whole set for this route: the global one, with the route's own on top, or none with `disable`. */
  setResponseHeaders: Readonly<Record<string, string>>;
  /** Of an upstream's answer: `prefix` at the beginning of a value of `header` (lowercase) becomes `value`. */
  rewriteResponseHeaders: readonly Readonly<{ header: string; prefix: string; value: string }>[];
  /** With which people sign in for this route alone; null: the one of the whole configuration. */
  idpClient: Readonly<{
    clientId: string;
    /** Empty in a process that does not speak to the provider, and was not given it. */
    clientSecret: string;
  }> | null;
  /** Null: a bearer token is between the caller and the upstream. */
  bearer: BearerConfig | null;
  /** Origins of other routes. Sign-in here also signs the visitor in there, in this order. */
  dependsOn: readonly string[];
  passIdentityHeaders: boolean;
  jwtIssuerFormat: "hostOnly" | "uri";
  /** The global ones and the route's; empty: all groups are named. */
  jwtGroupsFilter: readonly string[];
  policy: PolicySource | null;
  /** Asked beside `policy`, in its place; never enforced. Null: there is none. */
  shadowPolicy: PolicySource | null;
  /** Their lists of people are among the route's own already. */
  subPolicies: readonly SubPolicyConfig[];
  allowedUsers: readonly string[];
  allowedDomains: readonly string[];
  allowedIdpClaims: ClaimLists;
  /** 0: no limit. */
  timeoutMs: number;
  /** When `timeoutMs` begins: with the permit, or when the request's body is complete. */
  timeoutFrom: "permit" | "body-end";
  idleTimeoutMs: number;
  allowWebsockets: boolean;
  /** Others that a connection may be handed over to, by the names in `Upgrade`; lowercase. */
  allowUpgrades: readonly string[];
  balancing: BalancingConfig;
  /** Null: upstreams that respond with errors stay in use. */
  outlierDetection: OutlierConfig | null;
  circuitBreakers: BreakerConfig;
  tls: Readonly<{
    skipVerify: boolean;
    serverName: string | null;
    customCa: string | null;
    clientCert: string | null;
    clientKey: string | null;
    /** The upstream may ask for the handshake anew within a connection (TLS 1.2). */
    allowRenegotiation: boolean;
  }>;
  /** PEM of the authorities for certificates of this route's callers; null: certificates are not checked. */
  clientCa: string | null;
  /** A caller without a valid certificate is refused, whatever the policy says. */
  requiresClientCertificate: boolean;
  /** What calls an API server of Kubernetes in people's names; null: the route leads to no such server. */
  kubernetes: Readonly<{
    /** As it was when the configuration was read. */
    token: string;
    /** Where it is replaced; null: it was written down. */
    tokenFile: string | null;
  }> | null;
  /** How long a `serve` route goes on after the lease ended; 0 for `deny` routes. */
  staleGraceMs: number;
  audit: "best_effort" | "strict";
  /** Which of its decision records have a trace. */
  auditTrace: "denials" | "all";
}> &
  ConfigFields<typeof routeKeys>;

export type SubjectNameType = "dns" | "email" | "ip_address" | "uri" | "user_principal_name";
/** An RE2 expression for whole names of a type. */
export type SubjectNamePattern = Readonly<{ type: SubjectNameType; pattern: string }>;

/** 0: no limit. */
export type TimeoutConfig = Readonly<{
  readMs: number;
  /** What `readMs` bounds behind a request's head: head and body together, or the time without a byte of a body. */
  readLimit: "request" | "silence";
  writeMs: number;
  idleMs: number;
}>;

export type DownstreamMtls = Readonly<{
  /** PEM; null: none for routes that name no authority of their own. */
  ca: string | null;
  /** PEM. */
  crl: string | null;
  enforcement: "policy_with_default_deny" | "policy" | "reject_connection";
  /** A certificate must have a name that one of these fits; empty: any will do. */
  matchSubjectAltNames: readonly SubjectNamePattern[];
  /** How many certificates may stand above the caller's own; 0: any number. */
  maxVerifyDepth: number;
}>;

/** Where traces go (OTLP), and which. */
export type TracingConfig = Readonly<{
  /** Complete, with its path. */
  endpoint: URL;
  protocol: "grpc" | "http/protobuf" | "http/json";
  headers: Readonly<Record<string, string>>;
  timeoutMs: number;
  /** Of traces that begin here, from 0 to 1. */
  share: number;
  resource: Readonly<Record<string, string>>;
  batch: Readonly<{ delayMs: number; timeoutMs: number; spansMax: number }>;
  valueLengthMax: number | null;
  logLevel: "none" | "error" | "warn" | "info" | "debug" | "verbose";
}>;

/** The API that serves decisions to other proxies and services. */
export type DecisionApiConfig = Readonly<{
  /** Null: without TLS. */
  tls: Readonly<{ cert: string; key: string }> | null;
  /** PEM: who has a certificate of it is a trusted proxy. Only beside `tls`. */
  clientCa: string | null;
}> &
  ConfigFields<DecisionApiKeys>;

/** An external data set for the criterion `record`. */
export type DataSource = Readonly<{
  /** The record type that policies name. */
  type: string;
  from: Readonly<{ type: "file"; path: string } | { type: "url"; url: URL }>;
  /** What of a caller names a record. */
  key: "user.id" | "user.email" | "request.ip" | "request.client_certificate.fingerprint";
  /** Null: as the name or the answer says. */
  format: "json" | "csv" | null;
  everyMs: number;
  timeoutMs: number;
  /** How old content may be and still count; 0: any age. */
  maxAgeMs: number;
  bytesMax: number;
  recordsMax: number;
  /** Sent with each request; secret. */
  headers: Readonly<Record<string, string>>;
}>;

/** Certificates from an ACME authority. */
export type AutocertConfig = Readonly<{
  /** The authority's directory. */
  directory: URL;
  email: string | null;
  /** External account binding; the key is in base64url. */
  eab: Readonly<{ keyId: string; macKey: string }> | null;
  /** PEM, trusted beside the system's for the authority's own server. */
  trustedCa: string | null;
  folder: string;
  hosts: readonly string[];
  /** How its questions can be answered, the better way first. */
  challenges: readonly ("http-01" | "tls-alpn-01")[];
}>;

export type TlsFiles = Readonly<{ cert: string; key: string }>;

export type Config = Readonly<{
  hash: ConfigHash;
  /** Where it was read from, for messages. */
  file: string;
  address: HostPort;
  codecType: "auto" | "http1" | "http2";
  /** Where plain HTTP is redirected to https; null: nowhere. */
  httpRedirectAddress: HostPort | null;
  /** How certificates that callers show are verified; each route knows by which authority. */
  downstreamMtls: DownstreamMtls;
  /** Null: certificates come from files alone. */
  autocert: AutocertConfig | null;
  /** Serving certificates, PEM; empty with `insecureServer`. */
  certificates: readonly TlsFiles[];
  /** PEM, trusted beside the system's authorities for upstreams and brokers that name no authority of their own. */
  certificateAuthority: string | null;
  nodeName: NodeId | null;
  authenticateServiceUrl: URL;
  /** Where the proxy reaches the authenticate service when it runs elsewhere; null: in this process. */
  authenticateInternalServiceUrl: URL | null;
  sharedSecret: Uint8Array;
  sharedSecretPrevious: Uint8Array | null;
  /** Empty in a process that runs neither authenticate nor proxy. */
  cookieSecret: Uint8Array;
  cookieSecretPrevious: Uint8Array | null;
  /** PEM, or null: derived from the shared secret as Pomerium does. */
  signingKey: string | null;
  /** PEM; `derived`: the key that follows from the shared secret. Published beside the other, and never signs. */
  signingKeyPrevious: string | null;
  cookie: Readonly<{
    name: string;
    domain: string | null;
    httpOnly: boolean;
    expireMs: number;
    sameSite: "strict" | "lax" | "none";
  }>;
  idp: Readonly<{
    provider: string;
    url: URL;
    clientId: string;
    /** Empty in a process that runs neither authenticate nor databroker, and was not given it. */
    clientSecret: string;
    scopes: readonly string[];
    requestParams: Readonly<Record<string, string>>;
  }> | null;
  /** The issuers whose bearer tokens routes may accept. */
  tokenIssuers: readonly TokenIssuerConfig[];
  administrators: readonly string[];
  /** A session's claims are asked for anew at least this often. */
  refreshEveryMs: number;
  /** Bound of all identity headers of one request together. */
  identityHeadersBytesMax: number;
  /** For answers that no route makes; each route carries its own whole set. */
  setResponseHeaders: Readonly<Record<string, string>>;
  timeouts: TimeoutConfig;
  store: Readonly<{ type: "memory" } | { type: "file"; path: string } | { type: "postgres"; connectionString: string }>;
  /** Null: fan-out stays within the process. */
  nats:
    | (ConfigFields<NatsKeys> &
        Readonly<{
          servers: readonly string[];
          password: string | null;
          tlsCa: string | null;
        }>)
    | null;
  broker: ConfigFields<BrokerKeys> &
    Readonly<{
      /** Databroker base URLs for processes without a databroker, and for brokers to find each other. */
      urls: readonly URL[];
      /** The brokers of the leader's region, when this process's broker serves another one; empty: it may lead. */
      homeUrls: readonly URL[];
      /** The longest window that is granted to each role, in ms; null: what `windowLimits` says. */
      maxWindow: Readonly<Record<keyof PerNodeRole, number | null>>;
      /** PEM; null: the system's authorities. */
      tlsCa: string | null;
      /** What the databroker API serves with; null: plain HTTP (loopback, or `grpc_insecure` said so). */
      tls: TlsFiles | null;
    }>;
  audit: ConfigFields<AuditKeys> &
    Readonly<{
      spoolDir: string;
      files: readonly string[];
      nats: boolean;
      stdout: boolean;
      /** Of the stream in JetStream. */
      streamBytesMax: number;
    }>;
  /** Fields of the access log in their order; empty: there is none. */
  accessLogFields: readonly AccessLogField[];
  /** Fields of the log of decisions in their order; null: there is none beside the decision records. */
  authorizeLogFields: readonly AuthorizeLogField[] | null;
  /** What stands before /metrics. */
  metrics: Readonly<{
    /** `user:password`. */
    basicAuth: string | null;
    tls: TlsFiles | null;
    /** PEM: callers show a certificate of theirs. */
    clientCa: string | null;
  }>;
  /** Null: no traces are made. */
  tracing: TracingConfig | null;
  /** The configuration is read again when its files change. */
  hotReload: boolean;
  /** People may ask which routes they may use. */
  routesPortal: boolean;
  /** Pages of a route may ask for their visitor's assertion. */
  jwtEndpoint: boolean;
  /** A sign-out may end at any address of a route that it names. */
  signOutToRoutes: boolean;
  /** Null: there is no decision API. */
  decisionApi: DecisionApiConfig | null;
  routes: readonly RouteConfig[];
}> &
  ConfigFields<typeof globalKeys>;
