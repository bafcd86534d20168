/**
 * Path readings: the other paths that a server may take a path with parameters for.
 *
 * Pure. RFC 3986 §3.3 lets a segment carry parameters (`/area;a=b/x`), and servers disagree about them: Tomcat, Jetty and Spring drop
 * `;…` from each segment before they choose what to serve, some cut the whole path at its first semicolon, others take it for text. Some
 * decode `%3b` before that and some after it. A path without a semicolon has one reading, and there are at most four others.
 *
 * Routes (src/proxy/routing.ts) and policies (decide.ts) refuse a request with 400 where a reading leads to another answer.
 */
export function pathReadings({
  path,
  rawPath = path,
}: Readonly<{ path: string; rawPath?: string }>): readonly string[] {
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
