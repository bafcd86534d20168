/**
 * Page assets: the scripts and style sheets that pages load, each under a name with the hash of its content.
 *
 * - Pure. A name stands for one content forever, so browsers keep it (`immutable`).
 * - During a rolling deploy a page of one version can be answered by a node of another. An unknown hash of a known
 *   script is answered with the script that this node has, and not kept.
 */
import { hash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { assetPrefix } from "../pages/layout.ts";

/** The sources, by name: `page.js`. */
export type AssetSources = Readonly<Record<string, string>>;

export type Asset = Readonly<{
  type: string;
  body: Buffer;
  gzip: Buffer;
  /** The name has the hash of this content. */
  isExact: boolean;
}>;

export type PageAssets = Readonly<{
  /** The path of an asset; null: there is none of that name. */
  pathOf: (name: string) => string | null;
  /** @param name the last segment of the path */
  find: (name: string) => Asset | undefined;
}>;

const types: Readonly<Record<string, string>> = {
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
};

export function createPageAssets(sources: AssetSources): PageAssets {
  const known = new Map<string, NamedSource>();
  for (const name of Object.keys(sources)) nameSource(name, sources, known, []);
  const made = new Map<string, Asset>();
  return {
    pathOf: (name) => {
      const found = known.get(name);
      return found === undefined ? null : `${assetPrefix}${found.path}`;
    },
    find(file) {
      const [base = "", digest = "", extension = "", ...rest] = file.split(".");
      const name = `${base}.${extension}`;
      const found = rest.length === 0 && /^[\w-]{12}$/.test(digest) ? known.get(name) : undefined;
      if (found === undefined) return undefined;
      const asset = made.get(name) ?? assetOf(found);
      made.set(name, asset);
      return { ...asset, isExact: found.path === file };
    },
  };
}

type NamedSource = Readonly<{ source: string; extension: string; path: string }>;

/**
 * Names a source by the hash of what is served. Its imports of other scripts are replaced by their names first, so that
 * a name also stands for everything that the script loads.
 * @param open the scripts that import this one
 * @throws if a script imports one that is not there, or itself
 */
function nameSource(
  name: string,
  sources: AssetSources,
  known: Map<string, NamedSource>,
  open: readonly string[],
): NamedSource {
  const before = known.get(name);
  if (before !== undefined) return before;
  if (open.includes(name)) throw new TypeError(`scripts import each other: ${[...open, name].join(", ")}`);
  const written = sources[name];
  if (written === undefined) throw new TypeError(`${open.at(-1) ?? "a page"} imports ${name}, which is not there`);
  const [base = "", extension = ""] = name.split(".", 2);
  const source =
    extension !== "js"
      ? written
      : written.replace(
          importPattern,
          (_all, lead: string, imported: string) =>
            `${lead}"./${nameSource(imported, sources, known, [...open, name]).path}"`,
        );
  const digest = hash("sha256", source, "base64url").slice(0, 12);
  const named = { source, extension, path: `${base}.${digest}.${extension}` };
  known.set(name, named);
  return named;
}

/** Also as a minifier writes it: `from"./dom.js"`. */
const importPattern = /(\b(?:from|import)\s*\(?\s*)"\.\/([\w-]+\.js)"/g;

function assetOf({ source, extension }: Readonly<{ source: string; extension: string }>): Asset {
  const body = Buffer.from(source, "utf8");
  return {
    type: types[extension] ?? "application/octet-stream",
    body,
    gzip: gzipSync(body, { level: 9 }),
    isExact: true,
  };
}
