/**
 * Log levels, and the field names that `access_log_fields` and `authorize_log_fields` accept. Pure.
 *
 * The names are Pomerium's, with Pomerium's defaults, and Cardea's own.
 */

/** Levels of Pomerium that Cardea does not have, each with the level that replaces it. */
export const otherLogLevels = { trace: "debug", fatal: "error", panic: "error", disabled: "error" } as const;

export const pomeriumAccessLogFields = [
  "authority",
  "client-certificate",
  "cluster-stat-name",
  "duration",
  "forwarded-for",
  "headers",
  "ip",
  "method",
  "path",
  "query",
  "referer",
  "request-id",
  "response-code",
  "response-code-details",
  "size",
  "upstream-cluster",
  "user-agent",
] as const;

/**
 * Pomerium's fields that are accepted but not logged: they describe Envoy's connection, or data that Cardea does not
 * read.
 */
const hiddenAccessLogFields = [
  "dest-ip",
  "dest-port",
  "protocol-version",
  "upstream-transport-failure-reason",
  "downstream-transport-failure-reason",
  "tls-version",
  "tls-sni-hostname",
  "tls-cipher-suite",
  "tls-local-cert",
  "tls-peer-cert",
] as const;
/** The last form is a path into an Envoy record: `name=.common_properties.tls_properties`. */
export type HiddenAccessLogField = (typeof hiddenAccessLogFields)[number] | `${string}=.${string}`;

export function isHiddenAccessLogField(name: string): name is HiddenAccessLogField {
  return (
    (hiddenAccessLogFields as readonly string[]).includes(name) || /^[^=]{1,100}=\.[A-Za-z0-9_.[\]"]{1,300}$/.test(name)
  );
}

/** Cardea's own fields, which Pomerium's access log does not have. */
export const ownAccessLogFields = [
  "failure",
  "kind",
  "received",
  "route-id",
  "span-id",
  "trace-id",
  "upstream-duration",
] as const;

export const defaultAccessLogFields: readonly string[] = [
  "upstream-cluster",
  "method",
  "authority",
  "path",
  "user-agent",
  "referer",
  "forwarded-for",
  "request-id",
  "duration",
  "size",
  "response-code",
  "response-code-details",
];

export type AccessLogField = (typeof pomeriumAccessLogFields | typeof ownAccessLogFields)[number] | `headers.${string}`;

const known: ReadonlySet<string> = new Set([...pomeriumAccessLogFields, ...ownAccessLogFields]);

export function isAccessLogField(name: string): name is AccessLogField {
  return known.has(name) || /^headers\.[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name);
}

/** The default fields of Pomerium's decision log. */
export const defaultAuthorizeLogFields = [
  "request-id",
  "check-request-id",
  "method",
  "path",
  "host",
  "ip",
  "session-id",
  "impersonate-session-id",
  "impersonate-user-id",
  "impersonate-email",
  "removed-groups-count",
  "service-account-id",
  "user",
  "email",
  "envoy-route-checksum",
  "envoy-route-id",
  "route-checksum",
  "route-id",
] as const;

/** Pomerium's optional fields of the decision log. */
export const otherAuthorizeLogFields = ["query", "id-token-claims", "headers", "cluster-stat-name"] as const;

/** Pomerium's fields that are accepted but not logged: they hold a credential, or data that Cardea does not read. */
const hiddenLogFields = ["id-token", "body", "mcp-method", "mcp-tool", "mcp-tool-parameters"] as const;
export type HiddenLogField = (typeof hiddenLogFields)[number];

export type AuthorizeLogField =
  | (typeof defaultAuthorizeLogFields | typeof otherAuthorizeLogFields)[number]
  | `headers.${string}`;

const knownToDecisions: ReadonlySet<string> = new Set([...defaultAuthorizeLogFields, ...otherAuthorizeLogFields]);

export function isAuthorizeLogField(name: string): name is AuthorizeLogField {
  return knownToDecisions.has(name) || /^headers\.[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$/.test(name);
}

export function isHiddenLogField(name: string): name is HiddenLogField {
  return (hiddenLogFields as readonly string[]).includes(name);
}
