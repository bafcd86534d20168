/**
 * Build: makes a publishable `dist/` from `src/`, or from the same sources the program that tests start.
 *
 *   node scripts/build.ts [FOLDER]      the folder for `dist/`; default: this checkout
 *
 * - The program is one file, with the libraries that every start loads. A process then loads one file instead of 1,200,
 *   which saves a third of the processor time of its start (`bench/start.ts`). Its compiled code, beside it, saves
 *   another third (program.mjs). The code is for the Node that builds it; another one compiles the program anew.
 *   Its text is without comments and white space, since a process keeps it in memory.
 * - A library that stays outside the file is loaded on first use, so it has to be imported by `await import()`.
 * - An `import` of `node:http` reads all its exports. One of them loads Node's own copy of undici: 20 ms of each start,
 *   also of `cardea health`. undici from npm asks for it too, to accept the other copy's headers in its functions for
 *   cookies, which nothing uses. See node-http.cjs.
 * - A thread has its own file, because `new URL("./x.ts", import.meta.url)` names one.
 * - The scripts and style sheets of pages are files of their own in `dist/web/`, which browsers load.
 * - A process that starts meanwhile sees the old program or the new one, never half of one.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");
/** With what it loads before everything else (program.mjs). */
const program = { program: "src/main.ts", "gc-threads": "src/cli/process/gc/gc-threads.ts" };
const threads = {
  "log-worker": "src/replication/log/sqlite/log-worker.ts",
  "policy-worker": "src/cli/policy/policy-worker.ts",
};
const pageScripts = "src/console/web";
/** What the program reads beside `dist/`: src/cli/terminal/package-file.ts. */
const beside = ["package.json", "cardea.dev.yaml"];
/** Loaded on first use, or with files of their own that they look for beside themselves. */
const libraries = [
  ...["acme-client", "oidc-provider", "@grpc/grpc-js", "msgpackr-extract", "node-gyp-build-optional-packages"],
  ...["@fastify/ajv-compiler", "@fastify/fast-json-stringify-compiler"], // of JSON schemas, of which there are none
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
const bundled = [
  bundle(program, "cjs", [
    "--minify-whitespace",
    "--line-limit=1000",
    "--out-extension:.js=.cjs",
    "--define:import.meta.url=importMetaUrl",
  ]),
  bundle(threads, "esm", [`--banner:js=${requireFunction}`]),
];
const minified = spawnSync(
  "esbuild",
  [
    ...globSync([`${pageScripts}/*.js`, `${pageScripts}/*.css`], { cwd: root }),
    ...["--minify", "--format=esm", "--target=es2022", "--log-level=warning", `--outdir=${join(fresh, "web")}`],
  ],
  { cwd: root, stdio: "inherit" },
);
if (minified.error !== undefined) console.error(`esbuild does not run: ${minified.error.message}`);
if ([...bundled, minified].some(({ status }) => status !== 0)) {
  rmSync(fresh, { recursive: true, force: true });
  process.exit(1);
}
copyFileSync(join(root, "scripts", "program.mjs"), join(fresh, "main.js"));
makeFunction(join(fresh, "program.cjs"));
for (const [name, library] of librariesOfEveryStart()) {
  console.error(`${name} loads ${library} at every start; import it where it is used, with await import()`);
  process.exitCode = 1;
}
for (const name of globSync("*.{js,cjs}", { cwd: fresh })) {
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
const made = globSync(["*.{js,cjs}", "web/*"], { cwd: fresh });
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
if (!hasCode(target)) keepCode();

function bundle(files: Readonly<Record<string, string>>, format: "cjs" | "esm", more: readonly string[]) {
  return spawnSync(
    "esbuild",
    [
      ...Object.entries(files).map(([name, file]) => `${name}=${file}`),
      ...["--bundle", `--format=${format}`, "--platform=node", "--target=node26", "--log-level=warning", ...more],
      ...libraries.map((name) => `--external:${name}`),
      `--alias:node:http=${join(root, "scripts", "node-http.cjs")}`,
      "--define:globalThis.Headers=undefined",
      `--outdir=${fresh}`,
      `--metafile=${join(fresh, `${format}.meta.json`)}`,
    ],
    { cwd: root, stdio: "inherit" },
  );
}

/**
 * Makes the program an expression of a function, as program.mjs runs it, in ASCII, since that reads it as Latin-1.
 * esbuild escapes other characters in strings, but neither in regular expressions nor in tagged templates. An escape
 * means the same in both, as long as no tag reads `raw` text.
 */
function makeFunction(file: string): void {
  const text = readFileSync(file, "utf8");
  const escaped = text.replace(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  writeFileSync(file, `(function (require, module, exports, importMetaUrl) {${escaped}\n})`);
}

/** Without it the program only starts more slowly. */
function keepCode(): void {
  const env = { ...process.env };
  for (const name of ["NODE_OPTIONS", "NODE_COMPILE_CACHE"]) delete env[name];
  const args = ["--no-warnings", join(root, "scripts", "keep-code.ts"), target];
  const { status } = spawnSync(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"], env });
  if (status !== 0) console.error("dist/ has no compiled code");
}

function hasCode(folder: string): boolean {
  return globSync(`program.*-${process.versions.v8}-${process.arch}.code`, { cwd: folder }).length > 0;
}

function contentOf(of: string, name: string): Buffer | null {
  try {
    return readFileSync(join(of, name));
  } catch {
    return null;
  }
}

/** The libraries that modules of the program import by a statement, each with its module. Removes the lists. */
function librariesOfEveryStart(): readonly (readonly [string, string])[] {
  type Import = Readonly<{ path: string; kind: string; external?: boolean }>;
  const modules: Record<string, Readonly<{ imports: readonly Import[] }>> = {};
  for (const name of globSync("*.meta.json", { cwd: fresh })) {
    Object.assign(modules, JSON.parse(readFileSync(join(fresh, name), "utf8")).inputs);
    rmSync(join(fresh, name));
  }
  return Object.entries(modules).flatMap(([path, { imports }]) =>
    imports
      .filter((each) => each.external === true && each.kind === "import-statement" && isLibrary(each.path))
      .map((each) => [path, each.path] as const),
  );
}

/** esbuild's own helpers are imports too, of a path in angle brackets. */
function isLibrary(path: string): boolean {
  return !path.startsWith("<") && !isBuiltin(path);
}
