/**
 * Schema of the global keys that this build supports, in the order of the documentation.
 *
 * Defaults are written as an operator would write them. A key without a default may be absent; its description states
 * the effect.
 */
import * as z from "zod";
import { homeRegions } from "../values/home-values.ts";
import { otherLogLevels } from "../values/log-fields.ts";
import { duration, hostAliases, hostPort, hostPortOrOff, url, urlOrNothing, urls } from "../values/network-values.ts";
import { certificatePairs, serviceSet } from "../values/process-values.ts";
import {
  booleanValue,
  enumValue,
  filePath,
  fraction,
  integer,
  secretString,
  stringList,
  stringMap,
  stringMatching,
  stringValue,
} from "../values/value-type.ts";
import { auditKeys } from "./audit.ts";
import { bearerKeys, directoryKeys, identityHeaderKeys, scimKeys, signalKeys, signInProviderKeys } from "./identity.ts";
import { cardea, pomerium } from "./keys.ts";
import { autocertKeys, listenerKeys } from "./listener.ts";
import { massChangeKeys } from "./mass-change.ts";
import { observingKeys } from "./observing.ts";
import { operatorKeys } from "./operators.ts";
import { retentionKeys } from "./retention.ts";
import { breakerKeys, upstreamCodecTypes } from "./upstreams.ts";

const http = { schemes: ["https", "http"] } as const;
const httpHost = { ...http, path: "none" } as const;

export const processKeys = {
  services: pomerium(
    serviceSet().prefault("all"),
    "Which services run in this process: `all`, or a list of `authenticate`, `authorize`, `databroker` (also `cache`) and `proxy`.",
    { reload: "restart", inConfig: "value" },
  ),
  address: pomerium(
    hostPort().optional(),
    "The address that accepts requests. Absent: `:443`, or `:80` with `insecure_server`. `:443` means every IPv4 address; write `[::]:443` for IPv6 too.",
    { reload: "restart" },
  ),
  insecure_server: pomerium(
    booleanValue().prefault(false),
    "Serve plain HTTP: on loopback, or behind a load balancer that ends TLS. Visitors still see the scheme of each route's `from`.",
    { reload: "restart", inConfig: "value" },
  ),
  certificate: pomerium(stringValue().optional(), "The serving certificate with its chain: PEM, or base64 of it."),
  certificate_key: pomerium(secretString().optional(), "The key of `certificate`: PEM, or base64 of it.", {
    secret: "certificates.*.key",
  }),
  certificate_file: pomerium(filePath().optional(), "File with the serving certificate and its chain, PEM."),
  certificate_key_file: pomerium(filePath().optional(), "File with the key of `certificate_file`, PEM."),
  certificates: pomerium(
    certificatePairs().optional(),
    "More serving certificates, chosen by server name: a list of `{cert: file, key: file}`.",
    { secretParts: ["certificates.*.key"] },
  ),
  certificate_authority: pomerium(
    stringValue().optional(),
    "Certificates (PEM, or base64 of it) trusted in addition to the system's for upstreams and brokers.",
  ),
  certificate_authority_file: pomerium(filePath().optional(), "The same, from a file."),
  region: cardea(
    stringMatching({
      label: "name",
      json: { type: "string" },
      pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
      what: "a name",
      example: "eu-west-1",
    }).prefault("default"),
    "The region of this process, for status and for preferring nearby brokers.",
    { reload: "restart", inConfig: "value" },
  ),
  node_name: cardea(
    stringMatching({
      label: "name",
      json: { type: "string" },
      pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
      what: "a node name",
      example: "proxy-1",
    }).optional(),
    "The name of this process in receipts and status. Absent: generated once and kept in the data folder.",
    { reload: "restart" },
  ),
  data_dir: cardea(
    filePath().prefault("data"),
    "The folder for everything that a process stores: log, snapshots, audit, generated secrets.",
    { reload: "restart", inConfig: "value" },
  ),
  host_aliases: cardea(
    hostAliases().prefault({}),
    "Where this process finds a host that it calls: `{idp.localhost: load-balancer}`, a name or an address; the port stays. For names that DNS does not know here. Absent: `*.localhost` is this machine, and DNS resolves everything else.",
    { inConfig: "value" },
  ),
  drain_delay: cardea(
    duration({ max: "10m" }).prefault("2s"),
    "At shutdown, how long new connections are still accepted while `/readyz` already fails, so that load balancers notice before any request is refused. Make it longer than a balancer needs to mark a node as down.",
    { inConfig: "milliseconds" },
  ),
  drain_timeout: cardea(
    duration({ max: "1h" }).prefault("30s"),
    "At shutdown, after `drain_delay`, how long requests and streams may take to end before they are cut.",
    { inConfig: "milliseconds" },
  ),
  workers: cardea(
    integer({ min: 1, max: 64 }).prefault(1),
    "How many processes share the listener. Each is a node of its own, with its own lease and memory, named like this one with the suffix `-w1`, `-w2` … A databroker named in `services` runs once, next to them, and needs `broker.listen`.",
    { reload: "restart", inConfig: "value" },
  ),
  log_level: pomerium(
    enumValue(["debug", "info", "warn", "error"], { warning: "warn", ...otherLogLevels }).prefault("info"),
    "The least severe message that is logged. Of Pomerium's other levels `trace` counts as `debug`; `fatal`, `panic` and `disabled` as `error`.",
    { inConfig: "value" },
  ),
  metrics_address: cardea(
    hostPortOrOff().prefault("127.0.0.1:9902"),
    "Where `/metrics` (Prometheus), `/healthz` and `/readyz` are served; `off` disables them. Pomerium has this key too, off by default.",
    { reload: "restart", inConfig: "value" },
  ),
};

export const secretKeys = {
  shared_secret: pomerium(
    secretString().optional(),
    "32 random bytes in base64, the same on every process: session handles, service tokens and derived keys. With `services: all` one is generated and kept in the data folder.",
    { secret: "sharedSecret", reload: "restart" },
  ),
  shared_secret_file: pomerium(filePath().optional(), "The same, from a file."),
  shared_secret_previous: cardea(
    secretString().optional(),
    "The shared secret before the last change; what it signed is still accepted.",
    { secret: "sharedSecretPrevious", reload: "restart" },
  ),
  shared_secret_previous_file: cardea(filePath().optional(), "The same, from a file."),
  cookie_secret: pomerium(
    secretString().optional(),
    "32 random bytes in base64: sign-in state and cookies of the authenticate service. Generated like `shared_secret`.",
    { secret: "cookieSecret" },
  ),
  cookie_secret_file: pomerium(filePath().optional(), "The same, from a file."),
  cookie_secret_previous: cardea(
    secretString().optional(),
    "The cookie secret before the last change; still accepted.",
    { secret: "cookieSecretPrevious" },
  ),
  cookie_secret_previous_file: cardea(filePath().optional(), "The same, from a file."),
  signing_key: pomerium(
    secretString().optional(),
    "Private key (PEM, or base64 of it; P-256 or RSA) that signs the identity assertion. Absent: derived from `shared_secret` as Pomerium does.",
    { secret: "signingKey" },
  ),
  signing_key_file: pomerium(filePath().optional(), "The same, from a file."),
  signing_key_previous: cardea(
    secretString().optional(),
    "The signing key before the last change, or the next one: published with the current key, and never signs. `derived`: the key derived from `shared_secret`.",
    { secret: "signingKeyPrevious" },
  ),
  signing_key_previous_file: cardea(filePath().optional(), "The same, from a file."),
};

export const signInKeys = {
  authenticate_service_url: pomerium(
    url(httpHost).optional(),
    "The URL where people sign in; its host must reach the authenticate service. There is no hosted one. Required, unless no route in the file requires sign-in.",
  ),
  authenticate_internal_service_url: pomerium(
    url(httpHost).optional(),
    "Where a proxy reaches the authenticate service of another process. Absent: only browsers reach it.",
  ),
  idp_provider: pomerium(
    enumValue([
      "oidc",
      "auth0",
      "azure",
      "cognito",
      "gitlab",
      "google",
      "okta",
      "onelogin",
      "ping",
      "apple",
      "github",
      "hosted",
    ]).optional(),
    "The kind of identity provider: the provider named `default`. `hosted` is known but not supported: it signs people in for Pomerium alone. See docs/identity.md.",
  ),
  idp_provider_url: pomerium(url(http).optional(), "The provider's issuer URL. Some providers have a default."),
  idp_client_id: pomerium(stringValue().optional(), "The client id issued by the provider."),
  idp_client_secret: pomerium(secretString().optional(), "The client secret issued by the provider.", {
    secret: "idp.clientSecret",
  }),
  idp_client_secret_file: pomerium(filePath().optional(), "The same, from a file."),
  idp_scopes: pomerium(
    stringList("scope").optional(),
    "The requested scopes. Absent: the provider's usual ones, for `oidc` those of `openid profile email offline_access`.",
  ),
  idp_request_params: pomerium(stringMap().prefault({}), "More parameters for the provider's sign-in URL.", {
    secretParts: ["idp.requestParams.*"],
  }),
  ...signInProviderKeys,
  ...bearerKeys,
  ...scimKeys,
  ...directoryKeys,
  ...signalKeys,
  groups_from_claim: cardea(
    stringValue().optional(),
    "The claim whose values count as the person's groups, at sign-in and at every refresh. Absent: claims make no groups.",
    { inConfig: "value" },
  ),
  ...operatorKeys,
  refresh_interval: cardea(
    duration({ min: "1s", max: "24h" }).prefault("10m"),
    "How often a session's claims are refreshed, at the latest; sooner if its access token expires.",
  ),
  refresh_grace: cardea(
    duration({ min: "1m", max: "24h" }).prefault("15m"),
    "How long a session continues after a refresh whose outcome is unknown, at least until its access token expires. Its refresh token is not sent again.",
    { inConfig: "milliseconds" },
  ),
  max_sessions_per_user: cardea(
    integer({ min: 1, max: 10_000 }).prefault(100),
    "How many sessions a person may have; another one ends the oldest.",
    { inConfig: "value" },
  ),
  signout_redirect_url: pomerium(urlOrNothing(http).prefault(""), "Where people land after signing out.", {
    inConfig: "value",
  }),
  programmatic_redirect_domain_whitelist: pomerium(
    stringList("domain").prefault(["localhost"]),
    "Domains that a programmatic sign-in may redirect to.",
    { inConfig: "value" },
  ),
  cookie_name: pomerium(
    stringMatching({
      label: "name",
      json: { type: "string" },
      pattern: /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$/,
      what: "a cookie name",
      example: "_pomerium",
    }).prefault("_pomerium"),
    "The name of the session cookie. With the prefix `__Host-`, browsers bind it to one host.",
  ),
  cookie_domain: pomerium(
    stringValue().prefault(""),
    "The domain of the session cookie; empty: each route's own host.",
  ),
  cookie_http_only: pomerium(booleanValue().prefault(true), "Hide the session cookie from scripts."),
  cookie_expire: pomerium(
    duration({ min: "1s", max: "8760h" }).prefault("14h"),
    "How long a session lasts from sign-in, regardless of activity.",
  ),
  session_idle_lifetime: cardea(
    duration({ min: "10s", max: "8784h", allowsNone: true }).prefault("0s"),
    "How long a session may be unused; then it ends, and the person signs in again. A provider in `sign_in_providers` and a route may have a shorter one. `0s`: until `cookie_expire`. Needs cluster level 5. See docs/identity.md.",
    { inConfig: "milliseconds" },
  ),
  cookie_same_site: pomerium(
    enumValue(["lax", "strict", "none"], { "": "lax" }).prefault("lax"),
    "Which other sites may cause the cookie to be sent. With `none`, a WebSocket request with the cookie must have the `Origin` of a route.",
  ),
};

export const requestKeys = {
  timeout_read: pomerium(
    duration().optional(),
    "How long a request may take; absent: 30 s for its head and for silence.",
  ),
  timeout_write: pomerium(duration().prefault("0s"), "How long a whole response may take; `0s`: no bound."),
  timeout_idle: pomerium(duration().prefault("5m"), "How long a connection may be silent."),
  default_upstream_timeout: pomerium(duration().optional(), "The `timeout` of routes that set none; absent: 30 s."),
  dns_lookup_family: pomerium(
    enumValue(["V4_PREFERRED", "V4_ONLY", "V6_ONLY", "AUTO", "ALL"], { "": "V4_PREFERRED" }).prefault("V4_PREFERRED"),
    "Which addresses of an upstream's name are connected to: `V4_PREFERRED` those of IPv4 where there are any, `AUTO` those of IPv6 where there are any, `ALL` both, trying the next when one does not answer within a quarter of a second. `V4_ONLY`, `V6_ONLY`: no others.",
    { inConfig: "value" },
  ),
  circuit_breaker_thresholds: pomerium(
    z.strictObject(breakerKeys),
    "The limits of routes that set none; a request beyond them gets 503. See docs/upstreams.md.",
  ),
  upstream_codec_type: cardea(
    enumValue(upstreamCodecTypes).prefault("auto"),
    "Which HTTP an `https` upstream is offered: `auto` offers HTTP/2 and HTTP/1.1, and the upstream chooses (ALPN); `http1` only HTTP/1.1. gRPC uses HTTP/2 in any case, upgrades HTTP/1.1. See docs/upstreams.md.",
  ),
  skip_xff_append: pomerium(
    booleanValue().prefault(false),
    "Do not append the caller's address to `X-Forwarded-For`.",
    { inConfig: "value" },
  ),
  xff_num_trusted_hops: pomerium(
    integer({ min: 0, max: 100 }).prefault(0),
    "How many proxies in front are trusted in `X-Forwarded-For`.",
    { inConfig: "value" },
  ),
  allow_upgrades: pomerium(
    stringList("protocol").prefault([]),
    "Upgrades that routes allow by default: `websocket`, `spdy/3.1` or others, by the names in the header.",
  ),
};

export const brokerKeys = {
  databroker_storage_type: pomerium(
    enumValue(["file", "memory", "postgres", "redis"]).prefault("file"),
    "Where the log is kept: `file` (SQLite, one broker), `postgres` (clusters), `memory` (nothing survives). Pomerium no longer has `redis` either. Pomerium's own default is `memory`.",
    { reload: "restart", configPaths: ["store.type"] },
  ),
  databroker_storage_connection_string: pomerium(
    secretString().optional(),
    "For `postgres`: a URL or `key=value` settings. For `file`: a folder or a file that ends in `.db`. Absent: `cardea.db` in the data folder.",
    { secretParts: ["store.connectionString"], reload: "restart", configPaths: ["store"] },
  ),
  databroker_storage_connection_string_file: pomerium(filePath().optional(), "The same, from a file."),
  databroker_service_url: pomerium(url(http).optional(), "The broker's URL; used when `broker.urls` is absent."),
  databroker_service_urls: pomerium(urls(http).optional(), "The same for several brokers."),
  databroker_internal_service_url: pomerium(
    url(http).optional(),
    "The broker's URL inside the network; takes precedence over `databroker_service_url`.",
  ),
  grpc_insecure: pomerium(
    booleanValue().prefault(false),
    "Let services use plain HTTP outside loopback. Only where something else encrypts the network: it carries keys and tokens.",
  ),
  broker: cardea(
    z.strictObject({
      cluster_name: cardea(
        stringMatching({
          label: "name",
          json: { type: "string" },
          pattern: /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/,
          what: "a cluster name",
          example: "cardea",
        }).prefault("cardea"),
        "The name of the cluster: part of NATS subjects and of every signature.",
        { reload: "restart", inConfig: "value" },
      ),
      listen: cardea(hostPort().optional(), "Where the databroker API of this process listens. Absent: nowhere.", {
        reload: "restart",
        inConfig: "value",
      }),
      urls: cardea(
        urls(http).optional(),
        "The brokers, for processes without one and for brokers to find each other.",
        { reload: "restart" },
      ),
      home_urls: cardea(
        urls(http).optional(),
        "The brokers of the leader's region, and of regions that may become it. With them this process's broker serves its own region: it keeps a copy of the log and writes nothing; it needs no store.",
        { reload: "restart" },
      ),
      homes: cardea(
        homeRegions().optional(),
        "The regions that may hold the leader, the same list in every region, instead of `home_urls`. A broker in a region with `postgres` leads while the primary is there and serves its region otherwise; it changes by itself (docs/regions.md).",
        { reload: "restart" },
      ),
      advertised_url: cardea(
        url(http).optional(),
        "How others reach this process's broker. Absent: derived from `listen`.",
        { reload: "restart", inConfig: "value" },
      ),
      lease: cardea(
        duration({ min: "1s", max: "60s" }).prefault("5s"),
        "How long a node may decide after its last grant.",
        { reload: "restart", inConfig: "milliseconds" },
      ),
      // A clock that runs wrong by more than half of 1 % gets no lease. A smaller share here would not cover the rest.
      clock_drift: cardea(
        fraction({ min: 0.01, max: 0.1 }).prefault("1%"),
        "How much a node's clock may run fast or slow; 1 % or more.",
        { reload: "restart", inConfig: "value" },
      ),
      beat: cardea(
        duration({ min: "20ms", max: "10s" }).prefault("200ms"),
        "How often the leader proves that it can still write.",
        { reload: "restart", inConfig: "milliseconds" },
      ),
      renew: cardea(duration({ min: "100ms", max: "20s" }).prefault("1s"), "How often a node renews its lease.", {
        reload: "restart",
        inConfig: "milliseconds",
      }),
      takeover: cardea(
        duration({ min: "500ms", max: "60s" }).prefault("3s"),
        "Within how long another broker takes over from a leader that has fallen silent.",
        { reload: "restart", inConfig: "milliseconds" },
      ),
      max_nodes: cardea(
        z.strictObject({
          proxy: cardea(
            integer({ min: 1, max: 10_000 }).prefault(5_000),
            "How many proxies may hold a lease at once. A process that restarts counts until its old lease has expired or was returned.",
          ),
          authorize: cardea(
            integer({ min: 1, max: 10_000 }).prefault(1_000),
            "The same for processes that authenticate or authorize and run no proxy.",
          ),
          broker: cardea(integer({ min: 1, max: 1_000 }).prefault(100), "The same for regional brokers."),
        }),
        "How many nodes of each role the leading broker admits. Give every broker the same values.",
        { reload: "restart", inConfig: "value" },
      ),
      max_window: cardea(
        z.strictObject({
          proxy: cardea(
            duration({ min: "1s", max: "16m" }).optional(),
            "The longest window of a proxy, which is `broker.lease` plus its largest `stale_grace`. A node that requests more is granted this much. A receipt never waits longer for a silent node. Absent: `broker.lease` plus the largest `stale_grace` in this file, 60s at least.",
          ),
          authorize: cardea(
            duration({ min: "1s", max: "16m" }).optional(),
            "The same for processes that authenticate or authorize and run no proxy.",
          ),
          broker: cardea(
            duration({ min: "1s", max: "16m" }).optional(),
            "The same for regional brokers, which request as much as the nodes of their region.",
          ),
        }),
        "The longest window that the leading broker grants to each role. Give every broker the same values.",
        { reload: "restart" },
      ),
      tls_ca: cardea(
        stringValue().optional(),
        "Certificates (PEM, or base64 of it) that verify brokers. Absent: `certificate_authority`, else the system's.",
        { reload: "restart" },
      ),
      tls_ca_file: cardea(filePath().optional(), "The same, from a file."),
      tls_cert_file: cardea(
        filePath().optional(),
        "The certificate of the databroker API. Absent: the first serving certificate.",
        { reload: "restart", configPaths: ["broker.tls"] },
      ),
      tls_key_file: cardea(filePath().optional(), "The key of `tls_cert_file`.", {
        secretParts: ["broker.tls.key"],
        reload: "restart",
        configPaths: ["broker.tls"],
      }),
      ...retentionKeys,
    }),
    "The databroker: how it is reached, its leases, its log.",
    { reload: "restart" },
  ),
  ...massChangeKeys,
  nats: cardea(
    z.strictObject({
      servers: cardea(
        stringList("nats:// or tls:// URL").optional(),
        "The NATS servers. Absent: no NATS; other processes then learn of events by polling.",
        { reload: "restart" },
      ),
      credentials_file: cardea(filePath().optional(), "A NATS credentials file.", {
        reload: "restart",
        inConfig: "value",
      }),
      user: cardea(stringValue().optional(), "The NATS user.", { reload: "restart", inConfig: "value" }),
      password: cardea(secretString().optional(), "The NATS password.", { secret: "nats.password", reload: "restart" }),
      password_file: cardea(filePath().optional(), "The same, from a file."),
      home_domain: cardea(
        stringMatching({
          label: "name",
          json: { type: "string" },
          pattern: /^[A-Za-z0-9_-]{1,64}$/,
          what: "a JetStream domain",
          example: "home",
        }).optional(),
        "With `broker.home_urls`: the JetStream domain of the leader's region, where each region has its own (leaf nodes). Absent: one domain spans the regions (gateways).",
        { reload: "restart", inConfig: "value" },
      ),
      placement_cluster: cardea(
        stringValue().optional(),
        "With `broker.home_urls`: the NATS cluster in which this region's mirror of the replay buffer is kept, where one domain spans the regions.",
        { reload: "restart", inConfig: "value" },
      ),
      tls_ca: cardea(stringValue().optional(), "Certificates (PEM, or base64 of it) that verify NATS servers.", {
        reload: "restart",
      }),
      tls_ca_file: cardea(filePath().optional(), "The same, from a file."),
    }),
    "NATS carries events to other processes quickly. It is an accelerator: losing it delays, never loses.",
    { reload: "restart" },
  ),
};

export const supportedGroups = [
  { title: "Process", keys: processKeys },
  { title: "Listeners", keys: listenerKeys },
  { title: "Certificates by ACME", keys: autocertKeys },
  { title: "Secrets", keys: secretKeys },
  { title: "Sign-in and sessions", keys: signInKeys },
  { title: "Identity for upstreams and answers", keys: identityHeaderKeys },
  { title: "Requests", keys: requestKeys },
  { title: "Databroker and NATS", keys: brokerKeys },
  { title: "Audit", keys: auditKeys },
  { title: "Access log, metrics and traces", keys: observingKeys },
] as const;
