/**
 * Mutated test: runs one test file without one rule of the product, in the file's own process and in all that it
 * starts.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Change } from "./change-sources.ts";

const root = join(import.meta.dirname, "../..");
const hook = pathToFileURL(join(import.meta.dirname, "hook.ts")).href;
/** A test that hangs has noticed the change, too. */
const limitMs = 240_000;

/** As the runner runs it (scripts/test-file.ts). @returns whether the test file fails */
export function failsWith(name: string, changes: readonly Change[], testFile: string): boolean {
  const { status } = spawnSync(process.execPath, ["--test-force-exit", testFile], {
    cwd: root,
    env: {
      ...process.env,
      CARDEA_MUTANT: JSON.stringify({ name, changes }),
      NODE_OPTIONS: `${process.env["NODE_OPTIONS"] ?? ""} --import=${hook}`.trim(),
    },
    stdio: "ignore",
    timeout: limitMs,
  });
  return status !== 0;
}
