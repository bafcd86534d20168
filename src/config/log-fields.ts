/** Names that may stand in `access_log_fields`: Pomerium's, with its defaults, and ours. Pure. */

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

/** What Pomerium's log does not have. */
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
