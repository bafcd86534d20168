/**
 * Build: makes a publishable `dist/` out of `src/`.
 *
 * Running from a checkout needs none of this. The compiler rewrites the imports from `.ts` to `.js`; this adds what it
 * leaves alone: the files that are not TypeScript, and the addresses of workers, written `new URL("./x.ts",
 * import.meta.url)`.
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
      `dist/${name} still speaks of ${left[0]}, which is not there; write new URL("./x.ts", import.meta.url)`,
    );
    process.exitCode = 1;
  }
}
