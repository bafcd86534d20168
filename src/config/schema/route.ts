/** Schema of a route: the keys that this build supports, in the order of the documentation. */
import * as z from "zod";
import { hostNames, subPolicies } from "../values/identity-values.ts";
import {
  duration,
  headerNames,
  headerRewrites,
  headers,
  pathPatterns,
  regularExpression,
  upstreams,
} from "../values/network-values.ts";
import { routeGroupNames } from "../values/operator-entries.ts";
import { bearerFormat } from "../values/process-values.ts";
import { requestAccess } from "../values/request-access.ts";
import {
  auditMode,
  booleanValue,
  enumValue,
  filePath,
  formatValue,
  integer,
  isPlainObject,
  secretString,
  stringList,
  stringMatching,
  stringValue,
  type ValueType,
  valueType,
} from "../values/value-type.ts";
import { picture } from "./branding.ts";
import { cardea, pomerium } from "./keys.ts";
import { upstreamCodecTypes, upstreamKeys } from "./upstreams.ts";

const slashed = (what: string): ValueType<string> =>
  stringMatching({ label: "path", json: { type: "string" }, pattern: /^\/[^?#\s]*$/, what, example: "/api/" });

const host = (): ValueType<string> =>
  stringMatching({
    label: "host",
    json: { type: "string" },
    pattern: /^[A-Za-z0-9._-]+(?::\d{1,5})?$/,
    what: "a host",
    example: "app.internal",
  });

/** Sufficient values by claim name. A single value counts as a list of one. */
const claims = (): ValueType<Readonly<Record<string, unknown>>> =>
  valueType({ label: "mapping of claim to values", json: { type: "object" } }, (value, refuse) =>
    isPlainObject(value) ? value : refuse(`${formatValue(value)} is not a mapping`, "write claim: [value]"),
  );

/** Checks only that a policy is a mapping or a list. src/auth/authorize compiles it. */
const policy = (): ValueType<unknown> =>
  valueType({ label: "policy (PPL)", json: { type: ["object", "array"] } }, (value, refuse) =>
    typeof value === "object" && value !== null
      ? value
      : refuse(`${formatValue(value)} is not a policy`, "write allow: and/or/not/nor with a list of criteria"),
  );

const matchers = {
  id: cardea(
    stringMatching({
      label: "name",
      json: { type: "string" },
      pattern: /^[A-Za-z0-9._-]{1,100}$/,
      what: "an id",
      example: "wiki",
    }).optional(),
    "The route's stable id in decision records. Absent: derived from `from`, the matcher and the action.",
  ),
  from: pomerium(
    stringValue().optional(),
    "Required. Scheme and host as visitors type it; `*` in the host matches anything, including dots. No path; but `tcp+https://host:port` and `udp+https://host:port` (docs/tcp.md).",
  ),
  prefix: pomerium(
    slashed("a path prefix").optional(),
    "Match paths with this prefix. Absent, with no other matcher: every path.",
  ),
  path: pomerium(slashed("a path").optional(), "Match exactly this path."),
  regex: pomerium(regularExpression().optional(), "Match paths that this RE2 expression matches as a whole."),
  allow_encoded_slashes: cardea(
    booleanValue().prefault(false),
    "Accept paths with `%2F`, as used by the API of GitLab and by npm's scoped packages, and forward them byte for byte. Both readings, as a slash and as a character of its segment, must lead to this route and to the same answer of its policy (docs/request-parsing.md). Absent: 400.",
    { inConfig: "value" },
  ),
  name: pomerium(stringValue().optional(), "The name shown to people."),
  description: pomerium(stringValue().prefault(""), "The description shown to people.", { inConfig: "value" }),
  logo_url: pomerium(
    picture().prefault(""),
    "The image shown in lists of routes (`/.pomerium/routes`): a URL with `http`, `https` or `data:image/`, as the global `logo_url`.",
    { inConfig: "value" },
  ),
  owner: cardea(
    stringMatching({
      label: "text",
      json: { type: "string" },
      pattern: /^[^\p{Cc}]{0,200}$/u,
      what: "a line of at most 200 characters",
      example: "the payroll team",
    }).prefault(""),
    "Who decides about access: a name, a team or an address. People who are signed in and refused are told to ask there.",
    { inConfig: "value" },
  ),
  route_groups: cardea(
    routeGroupNames().prefault([]),
    "The groups of routes that this route belongs to. An entry of `administrators`, `operators` or `viewers` may be limited to some of them (docs/operator-roles.md). They decide nothing about requests.",
    { inConfig: "value" },
  ),
  request_access: cardea(
    requestAccess().optional(),
    "People who are signed in and refused may ask for access: `group` is the group that an approval adds them to, for a time; `approvers` (`group:`, `email:` or `sub:`, as in `administrators`) decide; `durations` (default `[1h, 4h, 8h]`) is what people choose from, and the longest is the most that an approver gives; `reason` is `required` (the default) or `optional`. Needs cluster level 7. See docs/access-requests.md.",
    { configPaths: ["requestAccess"] },
  ),
  discoverable: cardea(
    booleanValue().prefault(false),
    "Show the route in the portal to everyone who is signed in, with its name, description, logo and owner, also to people who are refused by its policy: they see why, and who can be asked. `false`: as in Pomerium, only people who may use it see it.",
    { inConfig: "value" },
  ),
};

const actions = {
  to: pomerium(
    upstreams().optional(),
    "The upstream service: a URL (`http`, `https`; `h2` and `h2c`, which is HTTP/2 with TLS and without; `unix:///run/app.sock`, and `https+unix` with TLS; `tcp` or `udp` with host and port; on a TCP route also another proxy, by `http` or `https`) or a list, each with an optional weight (`http://a,10`). One of `to`, `redirect`, `response` is required.",
  ),
  redirect: pomerium(
    z.strictObject({
      https_redirect: pomerium(booleanValue().optional(), "Redirect to https.", { inConfig: "value" }),
      scheme_redirect: pomerium(enumValue(["http", "https"]).optional(), "The new scheme.", { inConfig: "value" }),
      host_redirect: pomerium(host().optional(), "The new host.", { inConfig: "value" }),
      port_redirect: pomerium(integer({ min: 1, max: 65_535 }).optional(), "The new port.", { inConfig: "value" }),
      path_redirect: pomerium(slashed("a path").optional(), "The new path.", { inConfig: "value" }),
      prefix_rewrite: pomerium(slashed("a path").optional(), "What the matched prefix becomes.", { inConfig: "value" }),
      response_code: pomerium(integer({ min: 301, max: 308 }).prefault(301), "301, 302, 303, 307 or 308."),
      strip_query: pomerium(booleanValue().prefault(false), "Drop the query.", { inConfig: "value" }),
    }),
    "Respond with a redirect.",
  ),
  response: pomerium(
    z.strictObject({
      status: pomerium(integer({ min: 200, max: 599 }).prefault(200), "The status.", { inConfig: "value" }),
      body: pomerium(stringValue().prefault(""), "The body.", { inConfig: "value" }),
    }),
    "Respond with a fixed text, after the policy.",
  ),
  prefix_rewrite: pomerium(slashed("a path").optional(), "What the matched prefix becomes upstream."),
  regex_rewrite_pattern: pomerium(
    regularExpression().optional(),
    "An RE2 expression; what it matches in the path is replaced.",
  ),
  regex_rewrite_substitution: pomerium(
    stringValue().optional(),
    "What it is replaced by; `\\1` is the first group. After a `?` it makes a query, and the request's own query follows.",
    { secretParts: ["regexRewrite.substitution?"] },
  ),
  host_rewrite: pomerium(host().optional(), "The `Host` that the upstream sees. Absent: that of `to`."),
  host_rewrite_header: pomerium(stringValue().optional(), "Take the upstream's `Host` from this request header."),
  host_path_regex_rewrite_pattern: pomerium(
    regularExpression().optional(),
    "Derive the upstream's `Host` from the path: what this RE2 expression matches in it is replaced.",
  ),
  host_path_regex_rewrite_substitution: pomerium(
    stringValue().optional(),
    "What it is replaced by; `\\1` is the first group. If the result is not a host, the upstream sees that of `to`.",
  ),
  preserve_host_header: pomerium(booleanValue().prefault(false), "Send the `Host` of the request."),
};

const access = {
  policy: pomerium(
    policy().optional(),
    "Who may use the route, in Pomerium's policy language. Without this key and the other keys of this table: no one.",
  ),
  shadow_policy: cardea(
    policy().optional(),
    "A policy that is evaluated next to `policy` on every decision and never enforced: what it would change is counted and recorded.",
  ),
  sub_policies: pomerium(
    subPolicies().prefault([]),
    "Policies that a console attached, each with `source_ppl` or lists of people. Each of them may permit a caller; a denial by any of them wins.",
  ),
  allowed_users: pomerium(stringList("e-mail or user id").prefault([]), "Allow these people."),
  allowed_domains: pomerium(stringList("domain").prefault([]), "Allow people with an e-mail address in these domains."),
  allowed_idp_claims: pomerium(claims().prefault({}), "Allow people with one of these claim values."),
  allow_any_authenticated_user: pomerium(booleanValue().prefault(false), "Allow everyone who is signed in.", {
    inConfig: "value",
  }),
  allow_public_unauthenticated_access: pomerium(booleanValue().prefault(false), "Allow everyone, without sign-in.", {
    inConfig: "value",
  }),
  cors_allow_preflight: pomerium(booleanValue().prefault(false), "Allow CORS preflights without a session.", {
    inConfig: "value",
  }),
  show_error_details: pomerium(booleanValue().prefault(false), "Show people who are refused the reason.", {
    inConfig: "value",
  }),
};

const identity = {
  idp_client_id: pomerium(
    stringValue().optional(),
    "Sign in for this route with its own client at the identity provider. The sessions are valid only on routes with this client.",
  ),
  idp_client_secret: pomerium(secretString().optional(), "The secret of `idp_client_id`.", {
    secret: "idpClient.clientSecret",
  }),
  sign_in_providers: cardea(
    stringList("name").optional(),
    "The providers at which people may sign in for this route, by name; `default` is that of the `idp_` keys. With several, people choose. A session of another provider does not count here. Absent: `default_sign_in_providers`.",
    { inConfig: "value" },
  ),
  bearer_token_format: pomerium(bearerFormat().optional(), "As the global key, for this route."),
  idp_access_token_allowed_audiences: pomerium(stringList("audience").optional(), "As the global key, for this route."),
  identity_providers: pomerium(
    stringList("name").optional(),
    "With `bearer_token_format: jwt`: the only issuers in the global `identity_providers` whose tokens are accepted here. Absent: all of them.",
  ),
  depends_on: pomerium(
    hostNames().prefault([]),
    "Hosts of other routes that this route's pages call. Sign-in here also signs the visitor in on them. At most five.",
  ),
};

const headersAndIdentity = {
  pass_identity_headers: pomerium(
    booleanValue().optional(),
    "Send the signed assertion and the claim headers upstream. Absent: the global setting.",
  ),
  jwt_issuer_format: pomerium(enumValue(["hostOnly", "uri"]).optional(), "As the global key, for this route."),
  jwt_groups_filter: pomerium(
    stringList("group").prefault([]),
    "Groups named in this route's assertion, in addition to those of the global key; both empty: all.",
  ),
  set_request_headers: pomerium(
    headers().prefault({}),
    `Headers set on requests to the upstream. May contain \`\${pomerium.jwt}\`, \`\${pomerium.id_token}\`, \`\${pomerium.access_token}\`, \`\${pomerium.request.headers["Name"]}\` and others; \`$$\` is \`$\`. See docs/identity.md.`,
    { secretParts: ["setRequestHeaders.*"] },
  ),
  remove_request_headers: pomerium(headerNames().prefault([]), "Headers removed from requests to the upstream.", {
    inConfig: "value",
  }),
  set_response_headers: pomerium(
    headers().prefault({}),
    "Headers set on responses, in addition to the global ones; the key `disable` means none at all.",
  ),
  rewrite_response_headers: pomerium(
    headerRewrites().prefault([]),
    "In the upstream's response, replace a literal prefix of a header's value: a list of `{header, prefix, value}`.",
  ),
  kubernetes_service_account_token: pomerium(
    secretString().optional(),
    "`to` is an API server of Kubernetes: requests carry this token and act for the person (`Impersonate-User`: e-mail, `Impersonate-Group`). See docs/kubernetes.md.",
    { secret: "kubernetes.token" },
  ),
  kubernetes_service_account_token_file: pomerium(
    filePath().optional(),
    "The same, from a file, which is reread as the token rotates.",
  ),
  assertion: cardea(
    enumValue(["cached", "per_request"]).prefault("cached"),
    "`cached`: one signed assertion serves a session's requests for up to 30 s; `per_request`: each request gets its own.",
    { inConfig: "value" },
  ),
};

const flow = {
  timeout: pomerium(
    duration().optional(),
    "How long the whole exchange with the upstream may take, including the bodies of request and response (Envoy starts counting after the request's body); `0s`: no bound. Absent: `default_upstream_timeout`, or 30 s from the end of the request's body; no bound with websockets, Kubernetes, TCP and UDP, and `mcp`.",
  ),
  idle_timeout: pomerium(
    duration().optional(),
    "How long the exchange may be silent; `0s`: no bound. Absent: `timeout_idle`, or no bound as for `timeout`.",
  ),
  allow_websockets: pomerium(booleanValue().optional(), "Allow WebSocket connections. Absent: as in `allow_upgrades`."),
  allow_upgrades: pomerium(
    stringList("protocol").optional(),
    "Allowed upgrades, by their names in the header: `websocket`, `spdy/3.1` or others. Absent: the global ones.",
  ),
  allow_spdy: pomerium(
    booleanValue().prefault(false),
    "Allow upgrades to SPDY/3.1, which older Kubernetes clients request.",
  ),
  session_lifetime: cardea(
    duration().prefault("0s"),
    "How long after a sign-in a session counts on this route; then the person signs in again, and open streams are cut. `0s`: until the session expires (`cookie_expire`, or `session_lifetime` of the provider).",
    { inConfig: "milliseconds" },
  ),
  session_idle_lifetime: cardea(
    duration({ min: "10s", max: "8784h", allowsNone: true }).prefault("0s"),
    "How long a session may be unused to count on this route; then the person signs in again, and open streams are cut. The shortest of this, the global one and that of the provider counts. `0s`: no bound by the route.",
    { inConfig: "milliseconds" },
  ),
  max_stream_lifetime: cardea(
    duration().prefault("0s"),
    "The longest a WebSocket or other stream may live; `0s`: no bound.",
    { inConfig: "milliseconds" },
  ),
  max_request_body_bytes: cardea(
    integer({ min: 0, max: 1_099_511_627_776 }).prefault(0),
    "The longest request body; a longer one gets 413, even when it is chunked. `0`: no bound, as in Pomerium.",
    { inConfig: "value" },
  ),
  on_stale: cardea(
    enumValue(["serve", "deny"]).prefault("serve"),
    "Without a fresh lease: `serve` from the last known state for `stale_grace`, or `deny` with 503 at once.",
    { inConfig: "value" },
  ),
  stale_grace: cardea(
    duration({ max: "15m" }).optional(),
    "How long a `serve` route continues without a lease; a revocation may stay unconfirmed for as long. Absent: `60s`. At most `15m`.",
  ),
  audit: cardea(auditMode().optional(), "As `audit.mode`, for this route."),
  audit_ends: cardea(
    enumValue(["streams", "all"]).optional(),
    "As `audit.ends`, for this route. Takes effect with a reload.",
  ),
  audit_trace: cardea(
    enumValue(["denials", "all"]).optional(),
    "As `audit.trace`, for this route. Takes effect with a reload.",
  ),
  audit_query: cardea(stringList("query parameters").optional(), "As `audit.query`, for this route."),
  audit_headers: cardea(headerNames().optional(), "As `audit.headers`, for this route."),
  audit_redact_path: cardea(pathPatterns().prefault([]), "As `audit.redact_path`, in addition, for this route."),
};

const upstreamTls = {
  tls_skip_verify: pomerium(
    booleanValue().prefault(false),
    "Do not verify the upstream's certificate. Anyone in between can then read and change everything.",
  ),
  tls_upstream_server_name: pomerium(host().optional(), "The name that the upstream's certificate must have."),
  tls_server_name: pomerium(host().optional(), "Old name of `tls_upstream_server_name`."),
  tls_custom_ca: pomerium(
    stringValue().optional(),
    "Certificates (PEM, or base64 of it) that verify the upstream, instead of the system's.",
  ),
  tls_custom_ca_file: pomerium(filePath().optional(), "The same, from a file."),
  tls_client_cert: pomerium(stringValue().optional(), "The certificate shown to the upstream: PEM, or base64 of it."),
  tls_client_cert_file: pomerium(filePath().optional(), "The same, from a file."),
  tls_client_key: pomerium(secretString().optional(), "The key of `tls_client_cert`.", { secret: "tls.clientKey" }),
  tls_client_key_file: pomerium(filePath().optional(), "The same, from a file."),
  tls_downstream_client_ca: pomerium(
    stringValue().optional(),
    "The authorities (PEM, or base64 of it) for certificates of this route's callers, instead of those in `downstream_mtls`. Pomerium calls it deprecated.",
  ),
  tls_downstream_client_ca_file: pomerium(filePath().optional(), "The same, from a file."),
  tls_upstream_allow_renegotiation: pomerium(
    booleanValue().prefault(false),
    "Let the upstream start a new handshake within a TLS 1.2 connection, as some do to request a client certificate. HTTP/2 has no such handshake, so it is not offered then.",
  ),
  upstream_codec_type: cardea(enumValue(upstreamCodecTypes).optional(), "As the global key, for this route."),
};

export const supportedRouteGroups = [
  { title: "What a route matches", keys: matchers },
  { title: "What it does", keys: actions },
  { title: "Who may use it", keys: access },
  { title: "How people sign in", keys: identity },
  { title: "Headers and identity", keys: headersAndIdentity },
  { title: "Time, streams and staleness", keys: flow },
  { title: "Several upstreams", keys: upstreamKeys },
  { title: "TLS to the upstream", keys: upstreamTls },
] as const;

export const supportedRouteKeys = {
  ...matchers,
  ...actions,
  ...access,
  ...identity,
  ...headersAndIdentity,
  ...flow,
  ...upstreamKeys,
  ...upstreamTls,
};
