/**
 * Path readings: the other paths that a server may take a path with parameters for.
 *
 * Pure. RFC 3986 §3.3 lets a segment carry parameters (`/area;a=b/x`), and servers disagree about them: Tomcat, Jetty
 * and Spring drop
 * `;…` from each segment before they choose what to serve, some cut the whole path at its first semicolon, others take
 * it for text. Some decode `%3b` before that and some after it. There are at most four such readings.
 *
 * On a route with `allow_encoded_slashes`, `%2F` is a character of its segment to some servers and a slash to others.
 * The proxy refuses parameters beside it (src/proxy/message/canonical-request.ts), so such a path has one other
 * reading. Any other path has none.
 *
 * Routes (src/proxy/routing/route-table.ts) and policies (decide.ts) refuse a request with 400 where a reading leads to
 * another answer.
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

/** Why a path is refused that a server could read in several ways. */
export function ambiguityOf({ path }: Readonly<{ path: string }>): "path-parameters" | "encoded-separator" {
  return path.includes(";") ? "path-parameters" : "encoded-separator";
}

function dropParameters(path: string): string {
  return path.replace(/;[^/]*/g, "");
}

function cutAtSemicolon(path: string): string {
  return path.slice(0, path.indexOf(";"));
}

/** @param rawPath part of a path that decodes; a cut beside a semicolon splits no character */
function decoded(rawPath: string): string {
  return decodeURIComponent(rawPath);
}
