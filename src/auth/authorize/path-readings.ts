/**
 * Path readings: the other paths that a server may understand for a path with parameters.
 *
 * - RFC 3986 §3.3 lets a segment carry parameters (`/area;a=b/x`), and servers disagree about them. Tomcat, Jetty and
 *   Spring drop `;…` from each segment, some servers cut the path at its first semicolon, others keep it as text. Some
 *   decode `%3b` before that and some after it. There are at most four readings.
 * - On a route with `allow_encoded_slashes`, `%2F` is a character of its segment to some servers and a slash to others.
 *   The proxy refuses parameters in such a path (src/proxy/message/canonical-request.ts), so it has one other reading.
 * - Any other path has none.
 *
 * Routes (src/proxy/routing/route-table.ts) and policies (decide.ts) refuse a request with 400 if a reading leads to
 * another answer. Pure.
 */
export function pathReadings(asked: Readonly<{ path: string; rawPath?: string }>): readonly string[] {
  const { path, rawPath = path } = asked;
  if (rawPath.includes("%") && encodedSlash.test(rawPath)) return [decoded(rawPath)];
  if (!path.includes(";")) return none;
  const readings = new Set([dropParameters(path), cutAtSemicolon(path)]);
  if (rawPath.includes(";") && rawPath !== path) {
    readings.add(decoded(dropParameters(rawPath)));
    readings.add(decoded(cutAtSemicolon(rawPath)));
  }
  readings.delete(path);
  return [...readings];
}

const none: readonly string[] = [];
const encodedSlash = /%2f/i;

/** The reason to refuse a path that has several readings. */
export function ambiguityOf({ path }: Readonly<{ path: string }>): "path-parameters" | "encoded-separator" {
  return path.includes(";") ? "path-parameters" : "encoded-separator";
}

function dropParameters(path: string): string {
  return path.replace(/;[^/]*/g, "");
}

function cutAtSemicolon(path: string): string {
  return path.slice(0, path.indexOf(";"));
}

/** @param rawPath part of a path that decodes; a cut at a semicolon splits no character */
function decoded(rawPath: string): string {
  return decodeURIComponent(rawPath);
}
