/**
 * Recorded text: what a caller chose, cut to the size that a decision record keeps, and times as records and logs
 * print them.
 *
 * Pure. A record of a refused request must not cost much more than one of an honest request: records wait for their
 * sinks in memory.
 */

/** Characters of a path; a mark replaces the rest. */
export const recordedPathMax = 2_048;
/** HTTP/2 lets a caller send any token as a method. */
export const recordedMethodMax = 32;

/** The whole path, or its beginning and how many characters are missing: `/a/b…(+61440)`. */
export function recordedPath(path: string): string {
  if (path.length <= recordedPathMax) return path;
  // The copy does not keep the long text alive, as a slice would.
  const beginning = Buffer.from(path.slice(0, recordedPathMax)).toString();
  return `${beginning}…(+${path.length - recordedPathMax})`;
}

export function recordedMethod(method: string): string {
  return method.length <= recordedMethodMax ? method : Buffer.from(method.slice(0, recordedMethodMax)).toString();
}

/** Milliseconds, to the microsecond. */
export function roundedMs(ms: number): number {
  return Math.round(ms * 1_000) / 1_000;
}
