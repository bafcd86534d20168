/** Messages of the gRPC benches: each has another content, behind its length as gRPC frames it. */

export const messageHeadBytes = 5;
export const streamPath = "/bench.Messages/Stream";
export const echoPath = "/bench.Messages/Echo";
/** The beginning of the paths of unary calls. */
export const unaryPaths = "/bench.Unary/";
export const messageBytes = 128;

/** @returns latin1: the message with its prefix; `bytes` of content */
export function messageText(n: number, bytes: number): string {
  const content = `${n.toString(36)}.${Math.imul(n + 1, 2_654_435_761) >>> 0}.`
    .repeat(8)
    .slice(0, 96)
    .padEnd(bytes, "x");
  return (
    String.fromCharCode(0, bytes >>> 24, (bytes >>> 16) & 0xff, (bytes >>> 8) & 0xff, bytes & 0xff) +
    content.slice(0, bytes)
  );
}
