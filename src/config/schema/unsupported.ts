/**
 * Schema of Pomerium's keys that this build knows but does not use, with the reason for each (keys.ts).
 *
 * A key that grants access, protects something or changes the destination of requests is never ignored.
 */
import { ignored, removed, unsupported } from "./keys.ts";

const envoy = (what: string) => ignored(`it configures Envoy's ${what}, and Cardea does not use Envoy`);
const notYet = "not supported by this build yet";
const decidesInProcess = "a proxy always decides in process";
const off = ["false", ""] as const;

const gone = "Pomerium once had this key";
const noRedis = "the databroker's log holds sessions, not a cache or Redis";
const noGrpc = "services use HTTP, not gRPC";
/** Keys of older Pomerium versions that protect nothing, each with the reason and the remedy. */
const onceIgnored: Readonly<Record<string, readonly [why: string, remedy: string]>> = {
  forward_auth_url: [`${gone}; decisions for other proxies need none`, "remove it, and see docs/decisions.md"],
  forward_auth_internal_url: [`${gone}; decisions for other proxies need none`, "remove it, and see docs/decisions.md"],
  cookie_secure: [`${gone}; session cookies are always Secure`, "remove it"],
  audit_key: [`${gone}; audit says where decision records are kept`, "remove it"],
  refresh_cooldown: [`${gone}; refresh_interval says how often claims are refreshed`, "remove it"],
  cookie_refresh: [`${gone}; refresh_interval says how often claims are refreshed`, "remove it"],
  ...Object.fromEntries(
    [
      "grpc_client_dns_roundrobin",
      "grpc_server_max_connection_age",
      "grpc_server_max_connection_age_grace",
      "grpc_max_receive_size",
      "grpc_max_send_size",
    ].map((key) => [key, [noGrpc, "remove it"] as const]),
  ),
  ...Object.fromEntries(
    [
      "cache_store",
      "cache_store_address",
      "cache_store_password",
      "cache_store_path",
      "cache_service_url",
      "cache_internal_service_url",
      "cache_service_internal_url",
      "databroker_storage_ca_file",
      "databroker_storage_tls_skip_verify",
      "databroker_storage_cert_file",
      "databroker_storage_key_file",
    ].map((key) => [key, [noRedis, "remove it"] as const]),
  ),
};

export const unusedGlobals = {
  // --- listener
  headers_with_underscores_action: unsupported(
    "requests with such headers are always refused",
    "write reject_request or remove it",
    {
      harmless: ["reject_request", ""],
    },
  ),
  merge_slashes: unsupported("paths are always normalized before policy sees them", "write true or remove it", {
    harmless: ["true"],
  }),
  normalize_path: unsupported("paths are always normalized before policy sees them", "write true or remove it", {
    harmless: ["true"],
  }),
  path_with_escaped_slashes_action: unsupported(
    "paths with escaped slashes are refused, except on routes with allow_encoded_slashes",
    "write reject_request or remove it, and allow_encoded_slashes: true on each route that needs them",
    {
      harmless: ["reject_request", ""],
    },
  ),

  // --- services
  grpc_address: ignored("services use HTTP, not gRPC", { remedy: "use broker.listen" }),
  grpc_client_timeout: ignored("services use HTTP, not gRPC"),
  authenticate_callback_path: unsupported(
    "the callback path is fixed",
    "register /oauth2/callback with the identity provider",
    {
      harmless: ["/oauth2/callback", ""],
    },
  ),
  authorize_service_url: ignored(decidesInProcess),
  authorize_service_urls: ignored(decidesInProcess),
  authorize_internal_service_url: ignored(decidesInProcess),
  override_certificate_name: ignored("brokers are verified by the host of their URL", {
    remedy: "use names that their certificates have in broker.urls",
  }),
  tls_derive: unsupported(
    `certificates derived from the shared secret are ${notYet}`,
    "give brokers certificates with broker.tls_cert_file and broker.tls_ca_file",
    {
      harmless: [""],
    },
  ),
  databroker_cluster_node_id: unsupported(
    "brokers do not copy each other's storage here",
    "use databroker_storage_type: postgres and broker.urls",
  ),
  databroker_cluster_nodes: unsupported(
    "brokers do not copy each other's storage here",
    "use databroker_storage_type: postgres and broker.urls",
  ),
  databroker_cluster_leader_id: unsupported("brokers elect their leader through Postgres", "remove it"),
  databroker_raft_bind_address: unsupported("brokers elect their leader through Postgres, not Raft", "remove it"),

  // --- upstreams
  dns_refresh_rate: envoy("DNS lookups"),
  dns_failure_refresh_rate: envoy("DNS lookups"),
  dns_query_timeout: envoy("DNS lookups"),
  dns_query_tries: envoy("DNS lookups"),
  dns_udp_max_queries: envoy("DNS lookups"),
  dns_use_tcp: envoy("DNS lookups"),
  dns_resolvers: envoy("DNS lookups"),
  envoy_admin_address: envoy("admin listener"),
  envoy_admin_access_log_path: envoy("admin listener"),
  envoy_admin_profile_path: envoy("admin listener"),
  envoy_bind_config_source_address: envoy("upstream sockets"),
  envoy_bind_config_freebind: envoy("upstream sockets"),
  envoy_dynamic_extensions: envoy("extensions"),

  // --- seeing what happens
  pomerium_debug: ignored("no longer does anything in Pomerium either", { remedy: "use log_level: debug" }),
  proxy_log_level: ignored("there is one log level", { remedy: "use log_level" }),
  debug_address: ignored("debugging pages are on metrics_address"),
  health_check_addr: ignored("there is no extra listener for health", {
    remedy: "use /healthz and /readyz at metrics_address",
  }),
  health_check_systemd_disabled: ignored("systemd is not notified of health"),

  // --- features of Pomerium that mean nothing here, or not yet
  google_cloud_serverless_authentication_service_account: ignored(
    `Google serverless authentication is ${notYet}; such upstreams will refuse`,
  ),
  ssh_address: ignored(`SSH is ${notYet}: nothing listens`),
  ssh_host_key_files: ignored(`SSH is ${notYet}: nothing listens`),
  ssh_host_keys: ignored(`SSH is ${notYet}: nothing listens`),
  ssh_user_ca_key: ignored(`SSH is ${notYet}: nothing listens`),
  ssh_user_ca_key_file: ignored(`SSH is ${notYet}: nothing listens`),
  ssh_rls_enabled: ignored(`SSH is ${notYet}: nothing listens`),
  ssh_rls_additional_entries: ignored(`SSH is ${notYet}: nothing listens`),
  mcp_allowed_client_id_domains: ignored(`the Model Context Protocol is ${notYet}`),
  mcp_allowed_as_metadata_domains: ignored(`the Model Context Protocol is ${notYet}`),
  blob_storage: ignored("sessions are not recorded", { nested: ["bucket_uri", "managed_prefix"] }),
  session_recording_concurrency: ignored("sessions are not recorded"),
  installation_id: ignored("nothing is reported to anyone"),
  auto_apply_changesets: ignored("a setting of Pomerium's hosted console"),

  // --- gone from Pomerium
  client_ca: removed("use downstream_mtls.ca"),
  client_ca_file: removed("use downstream_mtls.ca_file"),
  client_crl: removed("use downstream_mtls.crl"),
  client_crl_file: removed("use downstream_mtls.crl_file"),
  ...Object.fromEntries(Object.entries(onceIgnored).map(([key, [why, remedy]]) => [key, ignored(why, { remedy })])),
  headers: removed("use set_response_headers"),
  idp_service_account: removed("use directories, groups_from_claim or SCIM for groups"),
  idp_refresh_directory_timeout: removed("use directories, groups_from_claim or SCIM for groups"),
  idp_refresh_directory_interval: removed("use directories, groups_from_claim or SCIM for groups"),
  idp_qps: removed("remove it"),
  policy_file: removed("write the routes under routes"),
  ...Object.fromEntries(
    [
      "tracing_provider",
      "tracing_sample_rate",
      "tracing_datadog_address",
      "tracing_jaeger_collector_endpoint",
      "tracing_jaeger_agent_endpoint",
      "tracing_zipkin_endpoint",
      "tracing_otlp_endpoint",
      "tracing_otlp_protocol",
    ].map((key) => [key, removed("use otel_traces_exporter and otel_exporter_otlp_endpoint")]),
  ),
};

export const unusedRouteKeys = {
  regex_priority_order: ignored("it orders routes of a databroker; routes of a file are tried in file order"),
  tls_downstream_server_name: ignored("the name that the client requests selects the serving certificate"),
  enable_google_cloud_serverless_authentication: ignored(
    `Google serverless authentication is ${notYet}; the upstream will refuse`,
    { harmless: off },
  ),
  mcp: ignored(`the Model Context Protocol is ${notYet}; the route works as an ordinary one`),
  upstream_tunnel: ignored(`reverse tunnels are ${notYet}`),
  ...Object.fromEntries(
    [
      "alt_stat_name",
      "cluster_name",
      "close_connections_on_host_health_failure",
      "common_http_protocol_options",
      "common_lb_config",
      "connect_timeout",
      "dns_failure_refresh_rate",
      "dns_lookup_family",
      "dns_refresh_rate",
      "http_protocol_options",
      "http2_protocol_options",
      "ignore_health_on_host_removal",
      "per_connection_buffer_limit_bytes",
      "respect_dns_ttl",
      "track_timeout_budgets",
      "upstream_bind_config",
      "upstream_connection_options",
    ].map((key) => [key, envoy("upstream clusters")]),
  ),
  circuit_breakers: unsupported(
    "Envoy's own form of this setting is not read",
    "use circuit_breaker_thresholds, with the same names inside",
  ),
  transport_socket: unsupported(
    "Envoy's own form of TLS to the upstream is not read",
    "use the tls_ keys of the route",
  ),
  session_recording: ignored("sessions are not recorded"),
  allowed_groups: removed(
    "use policy: the criterion groups, with groups_from_claim naming the claim that holds them, or the criterion claim/groups",
  ),
  set_authorization_header: removed("use set_request_headers"),
};

/** Runtime flags: the value that matches this build (null: both work), and the message for the other value. */
export const runtimeFlags: Readonly<Record<string, Readonly<{ here: boolean | null; otherwise: string }>>> = {
  match_any_incoming_port: { here: null, otherwise: "" },
  add_extra_metrics_labels: { here: null, otherwise: "" },
  allow_any_sign_out_redirect_uri: { here: null, otherwise: "" },
  authorize_use_synced_data: { here: null, otherwise: "" },
  config_hot_reload: { here: null, otherwise: "" },
  debug_admin_endpoints: { here: false, otherwise: "debugging pages are on metrics_address" },
  envoy_resource_manager: { here: null, otherwise: "" },
  grpc_databroker_keepalive: { here: null, otherwise: "" },
  mcp: { here: null, otherwise: "" },
  mcp_dynamic_client_registration: {
    here: false,
    otherwise: "the Model Context Protocol is not supported by this build yet",
  },
  pomerium_jwt_endpoint: { here: null, otherwise: "" },
  refresh_session_at_id_token_expiration: { here: null, otherwise: "" },
  routes_portal: { here: null, otherwise: "" },
  set_envoy_concurrency_to_go_max_procs: { here: null, otherwise: "" },
  ssh_allow_direct_tcpip: { here: false, otherwise: "SSH is not supported by this build yet" },
  ssh_routes_portal: { here: false, otherwise: "SSH is not supported by this build yet" },
  ssh_upstream_tunnel: { here: false, otherwise: "SSH is not supported by this build yet" },
};
