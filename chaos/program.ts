/**
 * Program: the file that the processes under chaos run, and the cache of their compiled code.
 *
 * Chaos builds it as for the image (scripts/build.ts): a start from the sources takes twice the processor time, and a
 * round begins with some twenty of them. A process with a weakened rule runs the sources (weakened-main.ts).
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const folder = join(root, ".cache", "program");
export const compileCache = process.env["NODE_COMPILE_CACHE"] ?? join(root, ".cache", "compile");

/** @returns whether there is a program now; if not, it has printed why */
export function buildProgram(): boolean {
  const path = `${join(root, "node_modules", ".bin")}:${process.env["PATH"] ?? ""}`;
  return (
    spawnSync(process.execPath, ["scripts/build.ts", folder], {
      cwd: root,
      stdio: "inherit",
      env: { ...process.env, PATH: path },
    }).status === 0
  );
}

export const programFile = (): string => join(folder, "dist", "main.js");
