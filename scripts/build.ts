/**
 * Build: makes a publishable `dist/` from `src/`.
 *
 * Running from a checkout needs none of this. The compiler rewrites imports from `.ts` to `.js`. This script adds the
 * rest: files that are not TypeScript, and the addresses of workers, written `new URL("./x.ts", import.meta.url)`.
 */
import { spawnSync } from "node:child_process";
import { cpSync, globSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const source = join(root, "src");
const target = join(root, "dist");

rmSync(target, { recursive: true, force: true });
const compiled = spawnSync("tsc", ["-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
if (compiled.status !== 0) process.exit(1);

cpSync(source, target, { recursive: true, filter: (path) => statSync(path).isDirectory() || !path.endsWith(".ts") });

const workerAddress = /new URL\((["'])(\.{1,2}\/[^"']+)\.ts\1, import\.meta\.url\)/g;
for (const name of globSync("**/*.js", { cwd: target })) {
  const path = join(target, name);
  const before = readFileSync(path, "utf8");
  const after = before.replaceAll(workerAddress, 'new URL("$2.js", import.meta.url)');
  if (after !== before) writeFileSync(path, after);
  const left = /["'`]\.{1,2}\/[^"'`]*\.ts["'`]/.exec(after);
  if (left !== null) {
    console.error(
      `dist/${name} still refers to ${left[0]}, which does not exist; write new URL("./x.ts", import.meta.url)`,
    );
    process.exitCode = 1;
  }
}
