/**
 * Build: makes a publishable `dist/` from `src/`, or from the same sources the program that tests start.
 *
 *   node scripts/build.ts [FOLDER]      the folder for `dist/`; default: this checkout
 *
 * - The program is one file, with the libraries that every start loads. A process then loads one file instead of 1,200,
 *   which saves a third of the processor time of its start (`bench/start.ts`).
 * - A library that stays outside the file is loaded on first use: an `import` statement of it would move to the top of
 *   the file, and every start would load it.
 * - An `import` of `node:http` reads all its exports. One of them loads Node's own copy of undici: 20 ms of each start,
 *   also of `cardea health`. undici from npm asks for it too, to accept the other copy's headers in its functions for
 *   cookies, which nothing uses. See node-http.cjs.
 * - A thread has its own file, because `new URL("./x.ts", import.meta.url)` names one.
 * - The scripts and style sheets of pages are files of their own in `dist/web/`, which browsers load.
 * - A process that starts meanwhile sees the old program or the new one, never half of one.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, globSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { isBuiltin } from "node:module";
import { basename, join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");
const files = {
  main: "src/main.ts",
  "log-worker": "src/replication/log/sqlite/log-worker.ts",
  "policy-worker": "src/cli/policy/policy-worker.ts",
};
const pageScripts = "src/console/web";
/** What the program reads beside `dist/`: src/cli/terminal/package-file.ts. */
const beside = ["package.json", "cardea.dev.yaml"];
/** Loaded on first use, or with files of their own that they look for beside themselves. */
const libraries = [
  ...["acme-client", "oidc-provider", "@grpc/grpc-js", "msgpackr-extract", "node-gyp-build-optional-packages"],
  ...[
    "@opentelemetry/exporter-*",
    "@opentelemetry/resources",
    "@opentelemetry/sdk-trace",
    "@opentelemetry/otlp-transformer",
    "@aws-sdk/client-s3",
  ],
];
/** CommonJS libraries inside the file call it. */
const requireFunction =
  'import { createRequire as requireFrom } from "node:module"; const require = requireFrom(import.meta.url);';

const folder = resolve(process.argv[2] ?? root);
const target = join(folder, "dist");
const fresh = join(folder, `dist-${process.pid}`);
const bundled = spawnSync(
  "esbuild",
  [
    ...Object.entries(files).map(([name, file]) => `${name}=${file}`),
    ...["--bundle", "--format=esm", "--platform=node", "--target=node26", "--log-level=warning"],
    ...libraries.map((name) => `--external:${name}`),
    `--alias:node:http=${join(root, "scripts", "node-http.cjs")}`,
    "--define:globalThis.Headers=undefined",
    `--banner:js=${requireFunction}`,
    `--outdir=${fresh}`,
    `--metafile=${join(fresh, "meta.json")}`,
  ],
  { cwd: root, stdio: "inherit" },
);
const minified = spawnSync(
  "esbuild",
  [
    ...globSync([`${pageScripts}/*.js`, `${pageScripts}/*.css`], { cwd: root }),
    ...["--minify", "--format=esm", "--target=es2022", "--log-level=warning", `--outdir=${join(fresh, "web")}`],
  ],
  { cwd: root, stdio: "inherit" },
);
if (bundled.error !== undefined) console.error(`esbuild does not run: ${bundled.error.message}`);
if (bundled.status !== 0 || minified.status !== 0) {
  rmSync(fresh, { recursive: true, force: true });
  process.exit(1);
}
for (const [name, library] of librariesOfEveryStart(join(fresh, "meta.json"))) {
  console.error(`dist/${name} loads ${library} at every start; import it where it is used, with await import()`);
  process.exitCode = 1;
}
for (const name of globSync("*.js", { cwd: fresh })) {
  const left = /new URL\(["'`](\.{1,2}\/[^"'`]*\.ts)["'`]/.exec(readFileSync(join(fresh, name), "utf8"));
  if (left === null) continue;
  console.error(
    `dist/${name} refers to ${left[1]}, which is not beside it; name the thread's file in scripts/build.ts`,
  );
  process.exitCode = 1;
}

if (folder !== root) {
  mkdirSync(folder, { recursive: true });
  for (const name of beside) copyFileSync(join(root, name), join(folder, name));
}
const made = globSync(["*.js", "web/*"], { cwd: fresh });
const isUnchanged = made.every((name) => contentOf(target, name)?.equals(contentOf(fresh, name) ?? Buffer.of()));
if (!isUnchanged) {
  rmSync(`${fresh}-old`, { recursive: true, force: true });
  try {
    renameSync(target, `${fresh}-old`);
  } catch {
    // There was none.
  }
  renameSync(fresh, target);
}
for (const path of [fresh, `${fresh}-old`]) rmSync(path, { recursive: true, force: true });

function contentOf(of: string, name: string): Buffer | null {
  try {
    return readFileSync(join(of, name));
  } catch {
    return null;
  }
}

/** The libraries that a file of the program imports by a statement, each with the file. Removes the list. */
function librariesOfEveryStart(metafile: string): readonly (readonly [string, string])[] {
  type Import = Readonly<{ path: string; kind: string; external?: boolean }>;
  const { outputs } = JSON.parse(readFileSync(metafile, "utf8")) as {
    outputs: Readonly<Record<string, Readonly<{ imports: readonly Import[] }>>>;
  };
  rmSync(metafile);
  return Object.entries(outputs).flatMap(([path, { imports }]) =>
    imports
      .filter((each) => each.external === true && each.kind === "import-statement" && !isBuiltin(each.path))
      .map((each) => [basename(path), each.path] as const),
  );
}
