/**
 * Changed sources: replaces code of the product as its modules are loaded, so that a test or a simulation runs without
 * a rule. No file is edited.
 */
import { registerHooks } from "node:module";

/** `take` occurs once in the file; `put` replaces it. The file's path is relative to the repository. */
export type Change = Readonly<{ file: string; take: string; put: string }>;

const root = new URL("../../", import.meta.url);

/**
 * Applies the changes from now on, in this thread.
 * @returns the files not loaded yet
 * @throws when a loaded file does not contain `take` exactly once
 */
export function changeSources(name: string, changes: readonly Change[]): ReadonlySet<string> {
  const urls = new Map(changes.map(({ file }) => [new URL(file, root).href, file]));
  const missing = new Set(urls.values());
  registerHooks({
    load(loading, context, next) {
      const loaded = next(loading, context);
      const file = urls.get(loading);
      if (file === undefined) return loaded;
      let source = String(loaded.source);
      for (const change of changes) {
        if (change.file !== file) continue;
        if (source.split(change.take).length !== 2)
          throw new Error(`${name}: ${file} does not contain ${JSON.stringify(change.take)} exactly once`);
        source = source.replace(change.take, () => change.put);
      }
      missing.delete(file);
      return { ...loaded, source };
    },
  });
  return missing;
}
