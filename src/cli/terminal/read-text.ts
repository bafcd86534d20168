/** Text from a file, or from standard input for `-`. */
import { readFile } from "node:fs/promises";
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
