/** Text from a file, or from standard input for `-`. */
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { CannotError } from "./command.ts";

/** @throws CannotError in one line */
export async function readText(path: string): Promise<string> {
  try {
    return path === "-" ? await text(process.stdin) : await readFile(path, "utf8");
  } catch (cause) {
    throw new CannotError(`${path} cannot be read`, { cause });
  }
}

/** Lines of a file that may be larger than a string can be. @throws CannotError, also for a longer line */
export async function* readTextLines(
  path: string,
  { bytesMax }: Readonly<{ bytesMax: number }>,
): AsyncGenerator<string> {
  const input: Readable = path === "-" ? process.stdin : createReadStream(path);
  let parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      let from = 0;
      for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
        yield Buffer.concat([...parts, chunk.subarray(from, end)]).toString("utf8");
        [parts, bytes, from] = [[], 0, end + 1];
      }
      parts.push(chunk.subarray(from));
      bytes += chunk.length - from;
      if (bytes > bytesMax) throw new CannotError(`${path} has a line of more than ${bytesMax} bytes`);
    }
  } catch (cause) {
    throw cause instanceof CannotError ? cause : new CannotError(`${path} cannot be read`, { cause });
  }
  if (bytes > 0) yield Buffer.concat(parts).toString("utf8");
}
