/**
 * Order of the folders inside a package: a folder imports only from those to its left.
 *
 * - Runtime imports from the right are counted; counts may only fall (recorded/).
 * - `root` is the package's own folder. Its index.ts exports what other packages may use, so it may import from every
 *   folder.
 */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { assertRatchet, type Finding, numberedLines } from "./support/ratchet.ts";

const orders: Readonly<Record<string, string>> = {
  "src/events": "access entities root codec session-index projection snapshot",
  "src/config": "values schema source resolve root",
  "src/replication": "runtime log lease wire fanout snapshot node root",
  "src/broker": "core commands state snapshots leader api peers region root",
  "src/auth": "reply authorize idle root shared-signals authenticate directory",
  "src/audit": "spool seal root rederive pull status postgres sinks sources proof",
  "src/console": "text pages assets api views root",
  "src/proxy":
    "message enforce reply tls autocert http1 http2 upstream headers routing observe forward tunnel request listen decision-api root",
  "src/cli": "terminal tunnel process build operator policy drill commands root",
};

const root = join(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const sources = globSync("src/**/*.ts", { cwd: root }).sort();

test("every folder of a package is listed in its order", () => {
  const unknown = Object.entries(orders).flatMap(([parent, order]) =>
    sources
      .filter((path) => path.startsWith(`${parent}/`))
      .map((path) => folderIn(parent, path))
      .filter((folder) => !order.split(" ").includes(folder)),
  );
  assert.deepEqual([...new Set(unknown)], []);
});

test("a folder imports runtime code only from folders to its left", () => {
  assertRatchet(
    "imports-from-the-right",
    Object.entries(orders).flatMap(([parent, order]) => importsFromTheRight(parent, order.split(" "))),
  );
});

test("only src/proxy/http1 and src/proxy/http2 use internals of Node", () => {
  assertRatchet(
    "node-internals",
    sources
      .filter((path) => !/^src\/proxy\/http[12]\//.test(path))
      .flatMap((path) =>
        numberedLines(read(path))
          .filter(
            ([, text]) =>
              /\._handle\b|process\.binding|node:_http_common/.test(text) && !/^\s*(\*|\/\/|\/\*)/.test(text),
          )
          .map(([line, text]) => ({ path, line, text: text.trim() })),
      ),
  );
});

test("every pattern of a lint override matches a file", () => {
  const { overrides }: Readonly<{ overrides: readonly Readonly<{ includes: readonly string[] }>[] }> = JSON.parse(
    read("biome.json"),
  );
  const patterns = overrides.flatMap(({ includes }) => includes).map((pattern) => pattern.replace(/^!/, ""));
  assert.deepEqual(
    patterns.filter((pattern) => globSync(pattern, { cwd: root }).length === 0),
    [],
  );
});

function importsFromTheRight(parent: string, order: readonly string[]): Finding[] {
  return sources
    .filter((path) => path.startsWith(`${parent}/`) && path !== `${parent}/index.ts`)
    .flatMap((path) => {
      const here = order.indexOf(folderIn(parent, path));
      const text = read(path);
      return [...text.matchAll(/^(?:import|export)\s+(?!type\s)(?:\{([^}]*)\}[^"]*)?"?[^"\n]*"(\.[^"]+)"/gm)]
        .filter(([, names]) => names === undefined || names.split(",").some((name) => /^\s*(?!type\s)\w/.test(name)))
        .map(({ index, 2: from = "" }) => ({ index, target: relative(root, join(root, dirname(path), from)) }))
        .filter(({ target }) => target.startsWith(`${parent}/`))
        .filter(({ target }) => order.indexOf(folderIn(parent, target)) > here)
        .map(({ index, target }) => ({
          path,
          line: text.slice(0, index).split("\n").length,
          text: `imports ${target}`,
        }));
    });
}

function folderIn(parent: string, path: string): string {
  const inner = path.slice(parent.length + 1).split("/");
  return inner.length > 1 ? (inner[0] ?? "root") : "root";
}
