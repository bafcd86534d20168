/** Pomerium's keys: every one is known, and an unused one is never ignored silently. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { formatProblem } from "../../src/config/index.ts";
import { keyMeta } from "../../src/config/schema/keys.ts";
import { globalShape, routeShape, unusedGlobals, unusedRouteKeys } from "../../src/config/schema/schema.ts";
import { base, cookieSecret, errors, goodRoute, parse, problems, sharedSecret, warnings } from "./support.ts";

/** The global settings of Pomerium 0.33. */
const globals =
  `address services insecure_server http_redirect_addr use_proxy_protocol codec_type timeout_read timeout_write timeout_idle
default_upstream_timeout grpc_address grpc_insecure grpc_client_timeout authenticate_service_url authenticate_internal_service_url
authenticate_callback_path authorize_service_url authorize_service_urls authorize_internal_service_url databroker_service_url
databroker_service_urls databroker_internal_service_url signout_redirect_url override_certificate_name certificate_authority
certificate_authority_file tls_derive certificate certificate_key certificate_file certificate_key_file certificates autocert autocert_ca
autocert_email autocert_use_staging autocert_must_staple autocert_eab_key_id autocert_eab_mac_key autocert_dir autocert_trusted_ca
autocert_trusted_ca_file downstream_mtls shared_secret shared_secret_file cookie_secret cookie_secret_file signing_key signing_key_file
cookie_name cookie_domain cookie_http_only cookie_expire cookie_same_site idp_provider idp_provider_url idp_client_id idp_client_secret
idp_client_secret_file idp_scopes idp_request_params idp_access_token_allowed_audiences identity_providers bearer_token_format
jwt_claims_headers jwt_issuer_format jwt_groups_filter pass_identity_headers set_response_headers programmatic_redirect_domain_whitelist
skip_xff_append xff_num_trusted_hops headers_with_underscores_action merge_slashes normalize_path path_with_escaped_slashes_action
allow_upgrades dns_lookup_family dns_refresh_rate dns_failure_refresh_rate dns_query_timeout dns_query_tries dns_udp_max_queries dns_use_tcp
dns_resolvers circuit_breaker_thresholds envoy_admin_address envoy_admin_access_log_path envoy_admin_profile_path
envoy_bind_config_source_address envoy_bind_config_freebind envoy_dynamic_extensions log_level proxy_log_level access_log_fields
authorize_log_fields metrics_address metrics_basic_auth metrics_certificate metrics_certificate_key metrics_certificate_file
metrics_certificate_key_file metrics_client_ca metrics_client_ca_file otel_exporter_otlp_endpoint otel_exporter_otlp_protocol
otel_exporter_otlp_headers otel_exporter_otlp_timeout otel_traces_exporter otel_traces_sampler_arg otel_resource_attributes
otel_bsp_schedule_delay otel_log_level otel_attribute_value_length_limit debug_address health_check_addr health_check_systemd_disabled
databroker_storage_type databroker_storage_connection_string databroker_storage_connection_string_file databroker_cluster_node_id
databroker_cluster_nodes databroker_cluster_leader_id databroker_raft_bind_address google_cloud_serverless_authentication_service_account
ssh_address ssh_host_key_files ssh_host_keys ssh_user_ca_key ssh_user_ca_key_file ssh_rls_enabled ssh_rls_additional_entries
mcp_allowed_client_id_domains mcp_allowed_as_metadata_domains blob_storage session_recording_concurrency runtime_flags installation_id
auto_apply_changesets primary_color secondary_color darkmode_primary_color darkmode_secondary_color logo_url favicon_url
error_message_first_paragraph`.split(/\s+/);
/** The route settings of Pomerium 0.33. */
const routes =
  `from to redirect response prefix path regex regex_priority_order prefix_rewrite regex_rewrite_pattern regex_rewrite_substitution
host_rewrite host_rewrite_header host_path_regex_rewrite_pattern host_path_regex_rewrite_substitution preserve_host_header
set_request_headers remove_request_headers set_response_headers rewrite_response_headers pass_identity_headers jwt_issuer_format
jwt_groups_filter bearer_token_format identity_providers idp_client_id idp_client_secret idp_access_token_allowed_audiences policy
allowed_users allowed_domains allowed_idp_claims allow_any_authenticated_user allow_public_unauthenticated_access cors_allow_preflight
timeout idle_timeout allow_websockets allow_spdy allow_upgrades tls_skip_verify tls_server_name tls_upstream_server_name
tls_downstream_server_name tls_custom_ca tls_custom_ca_file tls_client_cert tls_client_cert_file tls_client_key tls_client_key_file
tls_upstream_allow_renegotiation tls_downstream_client_ca tls_downstream_client_ca_file load_balancing_policy health_checks
outlier_detection healthy_panic_threshold circuit_breaker_thresholds kubernetes_service_account_token
kubernetes_service_account_token_file enable_google_cloud_serverless_authentication depends_on show_error_details name description logo_url
mcp upstream_tunnel session_recording sub_policies`.split(/\s+/);
const removedGlobals =
  "client_ca client_ca_file idp_service_account idp_refresh_directory_timeout idp_refresh_directory_interval idp_qps policy_file tracing_provider".split(
    " ",
  );

test("every global key is known", () => {
  assert.deepEqual(
    globals.filter((key) => !Object.hasOwn(globalShape, key)),
    [],
  );
});
test("every route key is known", () => {
  assert.deepEqual(
    routes.filter((key) => !Object.hasOwn(routeShape, key)),
    [],
  );
});

suite("an unused global key is reported", () => {
  for (const [key, schema] of Object.entries(unusedGlobals)) {
    const { status } = keyMeta(schema);
    test(`${key}: ${status === "ignored" ? "a warning" : "an error"}`, () => {
      const found = status === "ignored" ? warnings : errors;
      const [line = "", ...more] = found(`${base}${key}: {some: value}\n${goodRoute}`);
      assert.equal(more.length, 0);
      assert.ok(line.startsWith(`c.yaml:11:1: ${key}: `), line);
      assert.match(line, /; ./, "the problem has a remedy");
    });
  }
});

suite("an unused route key is reported", () => {
  for (const [key, schema] of Object.entries(unusedRouteKeys)) {
    const { status } = keyMeta(schema);
    test(`${key}: ${status === "ignored" ? "a warning" : "an error"}`, () => {
      const found = status === "ignored" ? warnings : errors;
      const [line = "", ...more] = found(`${base}${goodRoute}    ${key}: {some: value}\n`);
      assert.equal(more.length, 0);
      assert.ok(line.startsWith(`c.yaml:17:5: routes[0].${key}: `), line);
      assert.match(line, /; ./, "the problem has a remedy");
    });
  }
});

test("keys that Pomerium removed are errors with a remedy", () => {
  for (const key of removedGlobals) assert.equal(errors(`${base}${key}: x\n${goodRoute}`).length, 1, key);
  for (const key of ["allowed_groups", "set_authorization_header"])
    assert.equal(errors(`${base}${goodRoute}    ${key}: x\n`).length, 1, key);
});

test("a value that requests the built-in behaviour is accepted", () => {
  const text = `${base}autocert: false
codec_type: AUTO
use_proxy_protocol: false
headers_with_underscores_action: reject_request
merge_slashes: true
path_with_escaped_slashes_action: REJECT_REQUEST
bearer_token_format: default
authenticate_callback_path: /oauth2/callback
${goodRoute}    load_balancing_policy: ROUND_ROBIN
    allow_spdy: false
    bearer_token_format: ""
`;
  assert.deepEqual(problems(text), []);
});

test("HTTP/3 is accepted where it is not used", () => {
  assert.deepEqual(problems(`${base}codec_type: http3\n${goodRoute}`), [
    "warning c.yaml:11:1: codec_type: HTTP/3 is not served; callers speak HTTP/2 or HTTP/1.1; write auto",
  ]);
  for (const codec of ["http1", "HTTP2", "auto"])
    assert.deepEqual(problems(`${base}codec_type: ${codec}\n${goodRoute}`), []);
});

test("an unsupported key that would admit people is never just a warning", () => {
  const protecting = ["downstream_mtls", "metrics_basic_auth", "metrics_client_ca", "bearer_token_format", "client_ca"];
  for (const key of protecting)
    assert.notEqual(keyMeta(globalShape[key as keyof typeof globalShape]).status, "ignored", key);
  for (const key of ["sub_policies", "tls_downstream_client_ca", "idp_client_id", "allowed_groups"] as const)
    assert.notEqual(keyMeta(routeShape[key]).status, "ignored", key);
});

test("a complete Pomerium configuration runs unchanged", () => {
  const text = readFileSync(new URL("../../examples/pomerium.yaml", import.meta.url), "utf8");
  const generate = () => ({ ok: true as const, secrets: { shared_secret: sharedSecret, cookie_secret: cookieSecret } });
  const result = parse(text, { generate });
  assert.ok(result.ok, result.ok ? "" : result.problems.map(formatProblem).join("\n"));
  assert.deepEqual(
    result.warnings.map(({ key }) => key),
    ["insecure_server"],
  );
  assert.equal(result.config.routes.length, 8);
  assert.deepEqual(
    result.config.routes.map(({ match }) => match.kind),
    ["prefix", "prefix", "prefix", "prefix", "regex", "prefix", "prefix", "prefix"],
  );
});

test("flags and keys for pages are off by default, and a picture is a URL", () => {
  const configOf = (text: string) => {
    const result = parse(text);
    assert.ok(result.ok, result.ok ? "" : result.problems.map(formatProblem).join("\n"));
    return result.config;
  };
  const plain = configOf(`${base}${goodRoute}`);
  assert.deepEqual([plain.jwtEndpoint, plain.signOutToRoutes, plain.routes[0]?.logoUrl], [false, false, ""]);
  const flags = "runtime_flags: {pomerium_jwt_endpoint: true, allow_any_sign_out_redirect_uri: true}\n";
  const enabled = configOf(`${base}${flags}${goodRoute}    logo_url: https://static.example.com/wiki.svg\n`);
  assert.deepEqual(
    [enabled.jwtEndpoint, enabled.signOutToRoutes, enabled.routes[0]?.logoUrl],
    [true, true, "https://static.example.com/wiki.svg"],
  );
  assert.notEqual(enabled.hash, plain.hash);
  for (const logo of ["javascript:alert(1)", "//static.example.com/a.png", "https://a/'onerror=x", "data:text/html,x"])
    assert.match(
      errors(`${base}${goodRoute}    logo_url: "${logo}"\n`).join(),
      /logo_url: .* is not the address of an image/,
    );
});

test("dns_lookup_family works as in Pomerium, with IPv4 first by default", () => {
  const familyOf = (text: string): string => {
    const result = parse(`${base}${text}${goodRoute}`);
    return result.ok ? result.config.dnsLookupFamily : "refused";
  };
  assert.equal(familyOf(""), "V4_PREFERRED");
  assert.equal(familyOf("dns_lookup_family: V6_ONLY\n"), "V6_ONLY");
  assert.equal(familyOf("dns_lookup_family: auto\n"), "AUTO");
  assert.equal(familyOf("dns_lookup_family: v5\n"), "refused");
});
