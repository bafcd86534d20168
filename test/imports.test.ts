/**
 * Imports: the order of the packages, their entry points, and which files may do I/O, read from import lines.
 *
 * A file may do I/O, set timers, or read a clock or randomness only if its name or folder says so. A message names the
 * file, the line and the rule.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "./support/child.ts";

/** A package imports only from its left. */
const packages = ["events", "config", "replication", "broker", "auth", "audit", "console", "proxy", "dev", "cli"];
/** Composition roots: they build the real parts and may do any I/O. */
const compositionRoots = ["src/main.ts", "src/cli/", "src/dev/"];

/**
 * A file does I/O when its name ends in one of these words (`oidc-client.ts`, but not `log.ts`, a contract) …
 */
const ioEndings = new Set([
  ...["client", "server", "listener", "socket", "connection", "fanout", "fetch", "splice"], // the network
  ...["forwarder", "pipeline", "tunnel", "attempt", "pools", "choice", "metrics"], // what uses it
  ...["file", "folder", "lock", "loader", "log", "sink", "spool", "feed"], // storage
  ...["adapter", "adapters"], // a directory of people
  ...["clock", "timer", "random", "worker"], // the machine
]);
/**
 * … or when any of its words, or its folder, names a system or protocol (`nats-modules.ts`, `log/postgres/`).
 */
const ioWords = new Set([
  "postgres",
  "sqlite",
  "nats",
  "http",
  "http1",
  "http2",
  "https",
  "system",
  "node",
  "undici",
  "fastify",
]);

const ioFolders = new Set(["postgres", "sqlite", "http1", "http2"]);

/** Modules that do I/O; any file may import their types. */
const ioModules = [
  /^node:(fs|net|http|https|http2|tls|dns|dgram|child_process|worker_threads|os|sqlite|timers|process|perf_hooks|readline|cluster)\b/,
  /^(pg|undici|fastify|pino|prom-client|oidc-provider|openid-client)\b/,
  /^@(nats-io|fastify)\//,
];
/** Pure exports of those modules: plain functions and tables. */
const pureNames = new Set(["isIP", "isIPv4", "isIPv6", "BlockList", "SocketAddress", "STATUS_CODES", "METHODS"]);
const randomNames = new Set([
  "randomBytes",
  "randomUUID",
  "randomInt",
  "randomFillSync",
  "getRandomValues",
  "webcrypto",
]);

/** Files that may set timers but do no other I/O, each with the reason. */
const timed = new Map([["src/broker/core/notifier.ts", "bounds the wait of a long poll"]]);
const timerRemedy = "take a timer as an argument";
const ioCode: readonly (readonly [pattern: RegExp, remedy: string])[] = [
  [/\bDate\.now\b|\bnew Date\(\s*\)|(?<!new )\bDate\(\)/, "take `now` or a clock as an argument"],
  [/\bperformance\.\w+/, "take a clock as an argument"],
  [/\bMath\.random\b|\bcrypto\.(random|getRandom)\w+/, "take a random source as an argument"],
  [/\b(set|clear)(Timeout|Interval|Immediate)\(|\bAbortSignal\.timeout\b/, timerRemedy],
  [
    /(?<![\w.#])process\.(env|argv|exit|exitCode|cwd|pid|on|once|stdin|stdout|stderr|hrtime|uptime|memoryUsage|kill|platform|versions?)\b/,
    "take what the process provides as an argument",
  ],
  [/(?<![\w.#])fetch\(/, "take a fetch function as an argument"],
];

/**
 * The state stateMachines that run in production and in the simulator alike. All code that they run, in any file and
 * package, never waits, and takes time and randomness only as arguments. biome.json forbids the same globals in its
 * files.
 */
const stateMachines = {
  leader: "src/broker/leader/leader.ts",
  follower: "src/replication/node/follower.ts",
  "lease holder": "src/replication/lease/lease-holder.ts",
  "lease granter": "src/replication/lease/lease-granter.ts",
  "regional granter": "src/replication/lease/regional-granter.ts",
  "regional broker": "src/broker/region/region-core.ts",
  "receipt collector": "src/broker/leader/receipt-tracker.ts",
  receipt: "src/replication/lease/receipt.ts",
  relay: "src/broker/leader/batch-publisher.ts",
  reconciler: "src/replication/node/denials/reassertions.ts",
  "snapshot builder": "src/replication/snapshot/builder.ts",
  "snapshot run": "src/broker/snapshots/snapshot-run.ts",
  "duty holder": "src/broker/leader/duty-holder.ts",
  exchanges: "src/proxy/enforce/exchanges.ts",
  admission: "src/proxy/request/admission.ts",
  decision: "src/auth/authorize/decide.ts",
  caller: "src/auth/authorize/caller.ts",
};
/** The stateMachines that own the others: a whole broker, a whole node. */
const ownerMachines = ["src/broker/broker-core.ts", "src/replication/node/node-core.ts"];
const cores = [...ownerMachines, ...Object.values(stateMachines)];
const waiting = /\b(async|await|Promise|queueMicrotask|nextTick|AbortController|AbortSignal|EventEmitter)\b/;

type Import = Readonly<{ line: number; from: string; names: readonly string[]; typesOnly: boolean }>;
type Source = Readonly<{ path: string; packageName: string; code: string; imports: readonly Import[] }>;

const root = join(import.meta.dirname, "..");
const sources = globSync("src/**/*.ts", { cwd: root }).sort().map(readSource);
const byPath = new Map(sources.map((source) => [source.path, source]));

test("each source file is in a known package", () => {
  assert.ok(sources.length > 0);
  const unknown = sources.filter(({ path, packageName }) => path !== "src/main.ts" && !packages.includes(packageName));
  assertNone(paths(unknown));
});

test("a package imports only from its left", () => {
  const wrong = eachImport(({ source, target }) => {
    if (target === undefined || target.packageName === source.packageName || source.path === "src/main.ts")
      return undefined;
    if (packages.indexOf(target.packageName) < packages.indexOf(source.packageName) && target.path !== "src/main.ts")
      return undefined;
    return `${target.path} is not to its left: ${packages.join(" ← ")}`;
  });
  assertNone(wrong);
});

test("other packages import a package only through an entry point: its index.ts, or that of one of its folders", () => {
  const wrong = eachImport(({ source, target }) => {
    if (
      target === undefined ||
      target.packageName === source.packageName ||
      /^src\/[\w-]+\/([\w-]+\/)?index\.ts$/.test(target.path)
    )
      return undefined;
    return `import it from an index.ts of ${target.packageName} rather than ${target.path}`;
  });
  assertNone(wrong);
});

test("each package that others import has an entry point, and it names its exports by hand", () => {
  const entered = packages.slice(0, -1).filter((name) => sources.some((source) => source.packageName === name));
  assertNone(entered.map((name) => `src/${name}/index.ts`).filter((path) => !byPath.has(path)));
  const starred = sources.filter(({ code }) => /^\s*export\s+\*/m.test(code));
  assertNone(paths(starred));
});

test("src imports nothing from test, chaos or bench", () => {
  const wrong = eachImport(({ found }) => {
    if (!found.from.startsWith(".") && !found.from.startsWith("/")) return undefined;
    return found.from.startsWith("src/") ? undefined : `${found.from} is outside src`;
  });
  assertNone(wrong);
});

test("a relative import names a file that exists", () => {
  const wrong = eachImport(({ found, target }) =>
    found.from.startsWith("src/") && target === undefined ? `there is no ${found.from}` : undefined,
  );
  assertNone(wrong);
});

test("only files that are named for it do I/O", () => {
  assertNone(pureSources().flatMap(ioIn));
});

test("a file that may set timers exists and does", () => {
  const idle = [...timed.keys()].filter((path) => {
    const code = byPath.get(path)?.code ?? "";
    return !ioCode.some(([pattern, remedy]) => remedy === timerRemedy && pattern.test(code));
  });
  assertNone(idle);
});

test("a pure file runs no function of a file that does I/O, not even through an entry point", () => {
  const wrong = pureSources().flatMap((source) =>
    source.imports
      .filter((found) => !found.typesOnly && found.from.startsWith("src/"))
      .flatMap((found) =>
        found.names
          .map((name) => ({ name, file: definingFileOf(name, found.from) }))
          .filter(({ name, file }) => performsIo(file) && !name.endsWith("Error") && !isEntryPoint(source.path))
          .map(({ name, file }) => `${source.path}:${found.line} runs ${name} of ${file}: take it as an argument`),
      ),
  );
  assertNone(wrong);
});

test("no code that a core runs waits, sets a timer, or reads a clock or randomness", () => {
  const wrong = cores.flatMap((core) => {
    assert.ok(byPath.has(core), `there is no ${core}`);
    const parts = runBy(core);
    assert.ok(!ownerMachines.includes(core) || parts.length > 20, `${core} runs more than ${parts.join(", ")}`);
    return parts.flatMap((path) => {
      const source = byPath.get(path);
      return source === undefined ? [] : [...ioIn(source), ...waitsIn(source)].map((found) => `${core} runs ${found}`);
    });
  });
  assertNone(wrong);
});

test("biome forbids the same in every file that a core runs", () => {
  const rules: unknown = JSON.parse(readFileSync(join(root, "biome.json"), "utf8"));
  const overrides = overridesIn(rules).filter((each) => each.text.includes("noRestrictedGlobals"));
  const covered = new Set(overrides.flatMap(({ includes }) => filesIn(includes)));
  const run = new Set(cores.flatMap(runBy));
  assertNone([...run].filter((path) => !covered.has(path)).map((path) => `${path} is not covered`));
});

/** One breach in each line, with its kind. */
const breaches = [
  ["await it();", "waiting"],
  ["export const a = new Promise(() => {});", "waiting"],
  ["queueMicrotask(() => {});", "waiting"],
  ["setTimeout(() => {}, 1);", "a timer"],
  ["setInterval(() => {}, 1);", "a timer"],
  ["export const b = Date.now();", "a clock"],
  ["export const c = performance.now();", "a clock"],
  ["export const d = Math.random();", "randomness"],
  ["export const e = crypto.getRandomValues(new Uint8Array(1));", "randomness"],
  ['import { randomBytes } from "node:crypto";', "randomness"],
  ['import { setTimeout as sleep } from "node:timers/promises";', "a timer"],
] as const;

test("this test finds every kind of breach", () => {
  const path = stateMachines.follower;
  const unseen = breaches.filter(([code]) => {
    const source = { path, packageName: "replication", code: withoutComments(code), imports: importsIn(code, path) };
    return ioIn(source).length + waitsIn(source).length === 0;
  });
  assertNone(unseen.map(([code, what]) => `${what}: ${code}`));
});

test("the linter finds a breach in every core, tried in a copy", () => {
  using folder = new TemporaryFolder("breach");
  const rules: object = JSON.parse(readFileSync(join(root, "biome.json"), "utf8"));
  writeFileSync(join(folder.path, "biome.json"), JSON.stringify({ ...rules, vcs: { enabled: false } }));
  // The linter checks globals only.
  const code = breaches.filter(([line]) => !/^(import|await)|Math/.test(line)).map(([line]) => line);
  for (const core of cores) {
    mkdirSync(join(folder.path, dirname(core)), { recursive: true });
    writeFileSync(join(folder.path, core), code.join("\n"));
  }
  const biome = join(root, "node_modules/@biomejs/biome/bin/biome");
  const args = ["lint", "--only=style/noRestrictedGlobals", "--reporter=github", "--max-diagnostics=none", "."];
  const { stdout, stderr, status } = spawnSync(process.execPath, [biome, ...args], {
    cwd: folder.path,
    encoding: "utf8",
  });
  assert.notEqual(status, 0, stderr);
  const missed = cores.flatMap((core) =>
    code
      .map((line, index) => ({ line, at: `${core},line=${index + 1},` }))
      .filter(({ at }) => !stdout.includes(at))
      .map(({ line }) => `${core}: ${line}`),
  );
  assertNone(missed);
});

test("the patterns match what they are meant to match", () => {
  assert.deepEqual(
    importsIn('import type { A } from "./a.ts";\nimport {\n  b,\n  type C,\n} from "./b.ts";', "src/x/y.ts"),
    [
      { line: 1, from: "src/x/a.ts", names: ["A"], typesOnly: true },
      { line: 2, from: "src/x/b.ts", names: ["b"], typesOnly: false },
    ],
  );
  assert.deepEqual(importsIn('const a = await import("../z/index.ts");', "src/x/y.ts")[0]?.from, "src/z/index.ts");
  assert.equal(withoutComments('a; // Date.now()\n/* process.env */ "Date.now()"').includes("Date.now"), false);
  for (const text of ["Date.now()", "new Date()", "process.env", "setTimeout(f)", "Math.random()", "await fetch(x)"]) {
    assert.ok(
      ioCode.some(([pattern]) => pattern.test(text)),
      text,
    );
  }
  for (const text of ["new Date(now)", "request.process.x", "deps.fetch(x)", "clock.now()"]) {
    assert.ok(!ioCode.some(([pattern]) => pattern.test(text)), text);
  }
  assert.ok(
    isNamedForIo("src/replication/log/postgres/log.ts") &&
      isNamedForIo("src/auth/authenticate/provider/oidc-client.ts"),
  );
  assert.ok(!isNamedForIo("src/replication/node/follower.ts") && !isNamedForIo("src/auth/client-certificate.ts"));
});

/** A core and every source file whose functions it runs, with entry points resolved to the defining files. */
function runBy(core: string): readonly string[] {
  const found = new Set([core]);
  for (const path of found) {
    for (const { from, names, typesOnly } of byPath.get(path)?.imports ?? []) {
      if (typesOnly || !from.startsWith("src/")) continue;
      for (const name of names) found.add(definingFileOf(name, from));
    }
  }
  return [...found].sort();
}

function waitsIn({ path, code }: Source): string[] {
  return code
    .split("\n")
    .flatMap((text, index) => (waiting.test(text) ? [`${path}:${index + 1}: ${waiting.exec(text)?.[0]}`] : []));
}

/** The files that match a list of patterns; a pattern that begins with `!` excludes. */
function filesIn(patterns: readonly string[]): string[] {
  const without = new Set(
    globSync(
      patterns.filter((one) => one.startsWith("!")).map((one) => one.slice(1)),
      { cwd: root },
    ),
  );
  return globSync(
    patterns.filter((one) => !one.startsWith("!")),
    { cwd: root },
  ).filter((path) => !without.has(path));
}

function overridesIn(rules: unknown): readonly Readonly<{ includes: string[]; text: string }>[] {
  const overrides = typeof rules === "object" && rules !== null ? Reflect.get(rules, "overrides") : undefined;
  if (!Array.isArray(overrides)) return [];
  return overrides.map((each: Readonly<{ includes: string[] }>) => ({
    includes: each.includes,
    text: JSON.stringify(each),
  }));
}

function pureSources(): Source[] {
  return sources.filter(
    ({ path }) => !isNamedForIo(path) && !compositionRoots.some((list) => path === list || path.startsWith(list)),
  );
}

function isNamedForIo(path: string): boolean {
  const words = basename(path, ".ts").split("-");
  const ending = words.at(-1) ?? "";
  return (
    (words.length > 1 && ioEndings.has(ending)) ||
    words.some((word) => ioWords.has(word)) ||
    ioFolders.has(basename(dirname(path)))
  );
}

function isEntryPoint(path: string): boolean {
  return basename(path) === "index.ts";
}

/** A name may promise I/O that the file only receives as an argument: a server is often a pure function. */
function performsIo(path: string): boolean {
  const source = byPath.get(path);
  return source !== undefined && isNamedForIo(path) && ioIn(source).length > 0;
}

function importsIo({ from, typesOnly, names }: Import): boolean {
  if (typesOnly) return false;
  if (from === "node:crypto") return names.length === 0 || names.some((name) => randomNames.has(name));
  const harmless = names.length > 0 && names.every((name) => pureNames.has(name));
  return ioModules.some((pattern) => pattern.test(from)) && !harmless;
}

/** The lines in which a file does I/O, each with the remedy. */
function ioIn({ path, code, imports }: Source): string[] {
  return [
    ...imports
      .filter(importsIo)
      .map(
        ({ line, from }) =>
          `${path}:${line} imports ${from}: take what it does as an argument, or name the file for it`,
      ),
    ...code
      .split("\n")
      .flatMap((text, index) =>
        ioCode
          .filter(([pattern, remedy]) => pattern.test(text) && !(remedy === timerRemedy && timed.has(path)))
          .map(([pattern, remedy]) => `${path}:${index + 1} uses ${pattern.exec(text)?.[0]}: ${remedy}`),
      ),
  ];
}

/** The file that defines a name, behind any entry points. */
function definingFileOf(name: string, path: string): string {
  const behind = isEntryPoint(path) ? byPath.get(path)?.imports.find((found) => found.names.includes(name)) : undefined;
  return behind === undefined ? path : definingFileOf(name, behind.from);
}

type Seen = Readonly<{ source: Source; found: Import; target: Source | undefined }>;

function eachImport(check: (seen: Seen) => string | undefined): string[] {
  return sources.flatMap((source) =>
    source.imports.flatMap((found) => {
      const problem = check({ source, found, target: byPath.get(found.from) });
      return problem === undefined ? [] : [`${source.path}:${found.line} ${problem}`];
    }),
  );
}

function readSource(path: string): Source {
  const text = readFileSync(join(root, path), "utf8");
  return { path, packageName: path.split("/")[1] ?? "", code: withoutComments(text), imports: importsIn(text, path) };
}

/** Import and re-export lines, dynamic ones too. Relative paths are resolved from the root: `src/events/index.ts`. */
function importsIn(text: string, path: string): Import[] {
  const pattern =
    /^(?:import|export)\s+(type\s+)?(?:\{([^}]*)\}|[\w*\s,{}]+?)\s+from\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/gm;
  return [...text.matchAll(pattern)].map((match) => {
    const names = (match[2] ?? "")
      .split(",")
      .map((name) => name.trim())
      .filter((name) => name !== "");
    const values = names.filter((name) => !name.startsWith("type "));
    const typesOnly = match[1] !== undefined || (names.length > 0 && values.length === 0);
    const from = match[3] ?? match[4] ?? match[5] ?? "";
    return {
      line: text.slice(0, match.index).split("\n").length,
      from: from.startsWith(".") ? relative(root, join(root, dirname(path), from)) : from,
      names: (typesOnly ? names : values).map((name) => name.replace(/^type /, "").replace(/ as \w+$/, "")),
      typesOnly,
    };
  });
}

/** Comments and the insides of plain strings become blanks; lines stay where they are. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\/|(?<![:"'`\\])\/\/.*$|"(?:[^"\\\n]|\\.)*"/gm, (found) =>
    found.startsWith('"') ? '""' : found.replaceAll(/[^\n]/g, " "),
  );
}

function paths(some: readonly Source[]): string[] {
  return some.map(({ path }) => path);
}

function assertNone(problems: readonly string[]): void {
  assert.ok(problems.length === 0, ["", ...problems].join("\n"));
}

test("property tests draw the same cases on every run: only one file imports fast-check", () => {
  const taking = globSync("test/**/*.ts").filter((file) => /from "fast-check"/.test(readFileSync(file, "utf8")));
  assert.deepEqual(
    taking.filter((file) => basename(file) !== basename(import.meta.filename)),
    [join("test", "support", "property.ts")],
  );
});
