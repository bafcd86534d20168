/**
 * Config: the checked content of `cardea.yaml`, with defaults filled in and files read.
 *
 * - The schema (schema.ts) is the only source of keys, defaults and documentation. Its output is this type.
 * - Durations are milliseconds.
 * - Secrets are bytes and are never printed.
 * - `hash` identifies the configuration in decision records: the SHA-256 of its canonical form, in which a keyed digest
 *   replaces each secret.
 */
import type { ConfigHash, NodeId } from "../events/index.ts";
import type { ConfigFields } from "./schema/keys.ts";
import type { globalKeys, routeKeys } from "./schema/schema.ts";
import type { SettingsSection } from "./settings.ts";
import type { PolicySource, SourceLocation } from "./source/source-locations.ts";
import type { HomeRegion } from "./values/home-values.ts";
import type { ClaimLists, SubPolicyConfig, TokenIssuerConfig } from "./values/identity-values.ts";
import type { AccessLogField, AuthorizeLogField } from "./values/log-fields.ts";
import type { HostPort, Upstream } from "./values/network-values.ts";
import type { OperatorEntry } from "./values/operator-entries.ts";
import type { PostgresSinkConfig } from "./values/postgres-sink.ts";
import type { RouteRequestAccess } from "./values/request-access.ts";
import type { ClientAuthMethod, ParMode, ProviderKind } from "./values/sign-in-provider-values.ts";
import type { SignalTransmitterConfig } from "./values/signal-transmitters.ts";
import type { OtlpSinkConfig } from "./values/sinks/otlp-sink-values.ts";
import type { S3SinkConfig } from "./values/sinks/s3-sink-values.ts";
import type { SinkFormat } from "./values/sinks/sink-format.ts";
import type { FileRotation } from "./values/sinks/sink-values.ts";
import type { WebhookSinkConfig } from "./values/sinks/webhook-sink-values.ts";
import type { SubjectNamePattern } from "./values/tls-values.ts";
import type { BalancingConfig, BreakerConfig, OutlierConfig } from "./values/upstream-settings.ts";

type BrokerKeys = (typeof globalKeys)["broker"]["shape"];
type NatsKeys = (typeof globalKeys)["nats"]["shape"];
type StepUpKeys = (typeof globalKeys)["step_up"]["shape"];
type MassChangeKeys = (typeof globalKeys)["mass_change"]["shape"];
type AuditKeys = (typeof globalKeys)["audit"]["shape"];
type DecisionApiKeys = (typeof globalKeys)["decision_api"]["shape"];
type RedirectKeys = (typeof routeKeys)["redirect"]["shape"];
type ResponseKeys = (typeof routeKeys)["response"]["shape"];

/** A limit for each role in which a process holds a lease. */
export type PerNodeRole = Readonly<Record<"proxy" | "authorize" | "broker", number>>;

export type OnStale = RouteConfig["onStale"];

export type TunnelConfig = Readonly<{
  kind: "tcp" | "udp";
  /** Targets that a caller may name; `to` alone is the destination. Lowercase; `*` matches any text, including dots. */
  targets: readonly HostPort[];
  /** True: `host` is only the proxy, and the targets are other hosts: `tcp+https://proxy/db.internal:5432`. */
  behindProxy: boolean;
}>;

/** The bearer tokens that a route accepts: their format and their issuers. */
export type BearerConfig = Readonly<
  /** Tokens of the route's identity provider. `audiences`: the token must name one of them; null: no restriction. */
  | { format: "idp_access_token"; audiences: readonly string[] | null }
  | { format: "idp_identity_token" }
  /** Tokens of other issuers. `issuers`: their names. */
  | { format: "jwt"; issuers: readonly string[] }
>;

/** A provider at which people sign in, and our client there. */
export type SignInProviderConfig = Readonly<{
  /** `default`: the provider of the `idp_` keys. */
  name: string;
  /** What people read where they choose. */
  title: string;
  provider: ProviderKind;
  /** The issuer, as configured. */
  url: URL;
  clientId: string;
  /** `client_secret`: by the method that the provider announces. `apple`: a client secret that `privateKey` signs. */
  clientAuth: ClientAuthMethod | "apple";
  /** "" with a private key, and in a process that calls no provider. */
  clientSecret: string;
  /** PKCS#8 PEM. */
  privateKey: string | null;
  /** The `kid` of `privateKey`; null: none is sent. */
  keyId: string | null;
  /** Apple's team. */
  teamId: string | null;
  scopes: readonly string[];
  requestParams: Readonly<Record<string, string>>;
  par: ParMode;
  /** Lifetime of the sessions that begin there, if it is shorter than `cookie_expire`; null: `cookie_expire`. */
  sessionLifetimeMs: number | null;
  /** How long these sessions may be unused, if that is shorter than the global bound; 0: the global bound. */
  sessionIdleLifetimeMs: number;
}>;

/** The requirements of a route on its callers: its policies and Pomerium's lists. */
export type RouteAccess = Pick<
  RouteConfig,
  "policy" | "subPolicies" | "allowedUsers" | "allowedDomains" | "allowedIdpClaims" | "allowAnyAuthenticatedUser"
>;

export type RouteConfig = Readonly<{
  /** Stable id: the configured `id`, otherwise a digest of `from`, matcher and action. */
  id: string;
  name: string;
  location: SourceLocation;
  from: URL;
  /** `from` host pattern: exact (`app.example.com`) or with `*`. Lowercase, without port. */
  host: string;
  /** Null: any incoming port. */
  port: number | null;
  /**
   * Null: the route is HTTP. Otherwise callers connect and sign in at `host` and `port`, and `tunnel` holds the names
   * that they may request.
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
  /** Applied to the requested path. The result becomes the `Host` if it is a valid host. */
  hostPathRegexRewrite: Readonly<{ pattern: string; substitution: string }> | null;
  preserveHostHeader: boolean;
  setRequestHeaders: Readonly<Record<string, string>>;
  /** The complete set for this route: global headers overridden by the route's own; empty with `disable`. */
  setResponseHeaders: Readonly<Record<string, string>>;
  /** In upstream responses, `prefix` at the start of a `header` (lowercase) becomes `value`. */
  rewriteResponseHeaders: readonly Readonly<{ header: string; prefix: string; value: string }>[];
  /** The sign-in client for this route only; null: the global client. */
  idpClient: Readonly<{
    clientId: string;
    /** Empty in a process that does not call the provider and does not have the secret. */
    clientSecret: string;
  }> | null;
  /** Null: the proxy ignores bearer tokens; they concern only the caller and the upstream. */
  bearer: BearerConfig | null;
  /** Origins of other routes. Sign-in on this route also signs the person in on those, in this order. */
  dependsOn: readonly string[];
  passIdentityHeaders: boolean;
  jwtIssuerFormat: "hostOnly" | "uri";
  /** The global groups and the route's; empty: no filter, all groups are named. */
  jwtGroupsFilter: readonly string[];
  policy: PolicySource | null;
  /** How people who are refused may ask for the route. Null: they cannot. */
  requestAccess: RouteRequestAccess | null;
  /** Evaluated beside `policy` as its replacement, and never enforced. Null: none. */
  shadowPolicy: PolicySource | null;
  /** The lists of allowed people below already include those of the sub-policies. */
  subPolicies: readonly SubPolicyConfig[];
  allowedUsers: readonly string[];
  allowedDomains: readonly string[];
  allowedIdpClaims: ClaimLists;
  /** 0: no limit. */
  timeoutMs: number;
  /** The start of `timeoutMs`: the permit, or the end of the request's body. */
  timeoutFrom: "permit" | "body-end";
  idleTimeoutMs: number;
  allowWebsockets: boolean;
  /** Other protocols to which a connection may be upgraded, by their names in `Upgrade`; lowercase. */
  allowUpgrades: readonly string[];
  balancing: BalancingConfig;
  /** Null: upstreams that respond with errors stay in use. */
  outlierDetection: OutlierConfig | null;
  circuitBreakers: BreakerConfig;
  /** What an `https` upstream is offered: HTTP/2 and HTTP/1.1, or HTTP/1.1 alone. */
  upstreamCodecType: "auto" | "http1";
  tls: Readonly<{
    skipVerify: boolean;
    serverName: string | null;
    customCa: string | null;
    clientCert: string | null;
    clientKey: string | null;
    /** The upstream may request renegotiation within a connection (TLS 1.2). */
    allowRenegotiation: boolean;
  }>;
  /** PEM of the authorities that verify this route's callers; null: certificates are not checked. */
  clientCa: string | null;
  /** True: a caller without a valid certificate is refused, whatever the policy decides. */
  requiresClientCertificate: boolean;
  /** The service account that calls a Kubernetes API server on behalf of people; null: not a Kubernetes route. */
  kubernetes: Readonly<{
    /** The token at the time when the configuration was read. */
    token: string;
    /** The file in which the token rotates; null: the token is inline. */
    tokenFile: string | null;
  }> | null;
  /** How long (ms) a `serve` route keeps serving after the lease has expired; 0 for `deny` routes. */
  staleGraceMs: number;
  audit: "best_effort" | "strict";
  /** The decision records of this route that contain a trace. */
  auditTrace: "denials" | "all";
  /** Whose ends are recorded. */
  auditEnds: "streams" | "all";
  recorded: RecordedFields;
}> &
  ConfigFields<typeof routeKeys>;

/** What the decision records show of a request, besides its ids. */
export type RecordedFields = Readonly<{
  /** Names of query parameters. */
  query: readonly string[];
  /** Names of headers, in lowercase. */
  headers: readonly string[];
  /** Patterns of paths: their `*` and `**` are replaced. */
  redactPath: readonly string[];
}>;

/** 0: no limit. */
export type TimeoutConfig = Readonly<{
  readMs: number;
  /** What `readMs` bounds: head and body together, or the time without a byte of the body. */
  readLimit: "request" | "silence";
  writeMs: number;
  idleMs: number;
}>;

export type DownstreamMtls = Readonly<{
  /** PEM; null: no authority for routes without their own. */
  ca: string | null;
  /** PEM. */
  crl: string | null;
  enforcement: "policy_with_default_deny" | "policy" | "reject_connection";
  /** A certificate must have a name that matches one of these; empty: no restriction. */
  matchSubjectAltNames: readonly SubjectNamePattern[];
  /** The maximum number of certificates above the caller's own; 0: unlimited. */
  maxVerifyDepth: number;
}>;

/** Trace export (OTLP): the destination and the sampling. */
export type TracingConfig = Readonly<{
  /** The complete URL, including the path. */
  endpoint: URL;
  protocol: "grpc" | "http/protobuf" | "http/json";
  headers: Readonly<Record<string, string>>;
  timeoutMs: number;
  /** The sampled share of traces that begin in this process, from 0 to 1. */
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
  /** PEM: a caller with a certificate of this authority is a trusted proxy. Only with `tls`. */
  clientCa: string | null;
}> &
  ConfigFields<DecisionApiKeys>;

/** The look of the pages that people see. Colours are `#rgb` or `#rrggbb`; null: that of Cardea. */
export type BrandingConfig = Readonly<{
  /** Empty: Cardea. */
  organizationName: string;
  /** `http`, `https` or `data:image/`; empty: none. */
  logoUrl: string;
  faviconUrl: string;
  light: Readonly<{ primary: string | null; secondary: string | null }>;
  dark: Readonly<{ primary: string | null; secondary: string | null }>;
  /** The first paragraph of each error page; empty: none. */
  firstParagraph: string;
  /** Who helps people, and where; null: not configured. */
  support: Readonly<{ label: string; url: string | null }> | null;
}>;

/** Certificates from an ACME authority. */
export type AutocertConfig = Readonly<{
  /** The authority's directory. */
  directory: URL;
  email: string | null;
  /** External account binding; the key is in base64url. */
  eab: Readonly<{ keyId: string; macKey: string }> | null;
  /** PEM, trusted in addition to the system's authorities for the ACME server itself. */
  trustedCa: string | null;
  folder: string;
  hosts: readonly string[];
  /** The challenge types that this process can answer, the preferred one first. */
  challenges: readonly ("http-01" | "tls-alpn-01")[];
}>;

export type TlsFiles = Readonly<{ cert: string; key: string }>;

export type Config = Readonly<{
  hash: ConfigHash;
  /** The name of the source, for messages. */
  file: string;
  address: HostPort;
  codecType: "auto" | "http1" | "http2";
  tlsSessionTickets: "shared" | "process";
  /** The address that redirects plain HTTP to https; null: none. */
  httpRedirectAddress: HostPort | null;
  /** How callers' certificates are verified. The authority of each route is in the route. */
  downstreamMtls: DownstreamMtls;
  /** Null: certificates come only from files. */
  autocert: AutocertConfig | null;
  /** Serving certificates, PEM; empty with `insecureServer`. */
  certificates: readonly TlsFiles[];
  /** PEM, trusted in addition to the system's authorities, for upstreams and brokers without their own authority. */
  certificateAuthority: string | null;
  nodeName: NodeId | null;
  authenticateServiceUrl: URL;
  /** The URL of an authenticate service in another process, for the proxy; null: unset, or it runs in this process. */
  authenticateInternalServiceUrl: URL | null;
  sharedSecret: Uint8Array;
  sharedSecretPrevious: Uint8Array | null;
  /** Empty in a process that runs neither authenticate nor proxy. */
  cookieSecret: Uint8Array;
  cookieSecretPrevious: Uint8Array | null;
  /** PEM; null: derived from the shared secret, as in Pomerium. */
  signingKey: string | null;
  /** PEM; `derived`: the key derived from the shared secret. Published beside the current key, and never signs. */
  signingKeyPrevious: string | null;
  cookie: Readonly<{
    name: string;
    domain: string | null;
    httpOnly: boolean;
    expireMs: number;
    sameSite: "strict" | "lax" | "none";
  }>;
  idp: Readonly<{
    provider: ProviderKind;
    url: URL;
    clientId: string;
    /** Empty in a process that runs neither authenticate nor databroker and does not have the secret. */
    clientSecret: string;
    scopes: readonly string[];
    requestParams: Readonly<Record<string, string>>;
  }> | null;
  /** Every provider at which people sign in: that of the `idp_` keys (`default`) first, then those with a name. */
  signInProviders: readonly SignInProviderConfig[];
  /** Names of the providers of routes that name none; the first is also that of the sign-in host itself. */
  defaultSignInProviders: readonly string[];
  /** The issuers whose bearer tokens routes may accept. */
  tokenIssuers: readonly TokenIssuerConfig[];
  /** The transmitters of Shared Signals that this cluster listens to. */
  signalTransmitters: readonly SignalTransmitterConfig[];
  /** Who has which role in the operator API. */
  administrators: readonly OperatorEntry[];
  operators: readonly OperatorEntry[];
  viewers: readonly OperatorEntry[];
  /** Every global key with its source and without secrets, for people. */
  settings: readonly SettingsSection[];
  /** When an act of an operator needs a fresh sign-in. */
  stepUp: ConfigFields<StepUpKeys>;
  /** The longest interval between two refreshes of a session's claims. */
  refreshEveryMs: number;
  /** The maximum total size of the identity headers of one request. */
  identityHeadersBytesMax: number;
  /** For responses that belong to no route; each route has its own complete set. */
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
      /**
       * The brokers of the regions that may hold the leader, other than this process's own region. Empty: this
       * process's broker may lead at any time.
       */
      homeUrls: readonly URL[];
      /** The regions that may hold the leader, this process's own among them; empty: not configured. */
      homes: readonly HomeRegion[];
      /** The longest window (ms) granted to each role; null: computed by `windowLimits`. */
      maxWindow: Readonly<Record<keyof PerNodeRole, number | null>>;
      /** PEM; null: the system's authorities. */
      tlsCa: string | null;
      /** The certificate of the databroker API; null: plain HTTP (loopback, or `grpc_insecure` is set). */
      tls: TlsFiles | null;
    }>;
  massChange: ConfigFields<MassChangeKeys>;
  audit: ConfigFields<AuditKeys> &
    Readonly<{
      spoolDir: string;
      /** The size limit of one node's spool. */
      spoolMaxBytes: number;
      /** The least time between two seals; 0: nothing is sealed. */
      sealMs: number;
      files: readonly Readonly<{ path: string; format: SinkFormat; rotation: FileRotation | null }>[];
      nats: boolean;
      webhooks: readonly WebhookSinkConfig[];
      otlp: readonly OtlpSinkConfig[];
      s3: readonly S3SinkConfig[];
      /** The format on standard output; null: no such sink. */
      stdout: SinkFormat | null;
      /** Null: no such sink. */
      postgres: PostgresSinkConfig | null;
      /** Applies to requests without a route. */
      recorded: RecordedFields;
      /** The size limit of the records that a process without NATS keeps for callers that pull; 0: none. */
      pullMaxBytes: number;
      /** The size limit of the JetStream stream. */
      streamBytesMax: number;
    }>;
  /** Fields of the access log, in order; empty: no access log. */
  accessLogFields: readonly AccessLogField[];
  /** Fields of the decision log, in order; null: no log besides the decision records. */
  authorizeLogFields: readonly AuthorizeLogField[] | null;
  /** Protection of the metrics endpoint. */
  metrics: Readonly<{
    /** `user:password`. */
    basicAuth: string | null;
    tls: TlsFiles | null;
    /** PEM: callers must present a certificate of this authority; null: no certificate required. */
    clientCa: string | null;
  }>;
  /** Null: tracing is off. */
  tracing: TracingConfig | null;
  /** Whether the configuration is reloaded when its files change. */
  hotReload: boolean;
  /** Whether people can list the routes that they may use. */
  routesPortal: boolean;
  /** Whether a page of a route can request its visitor's assertion. */
  jwtEndpoint: boolean;
  /** Whether a sign-out may redirect to any requested URL on a route. */
  signOutToRoutes: boolean;
  /** Null: no decision API. */
  decisionApi: DecisionApiConfig | null;
  branding: BrandingConfig;
  routes: readonly RouteConfig[];
}> &
  ConfigFields<typeof globalKeys>;
