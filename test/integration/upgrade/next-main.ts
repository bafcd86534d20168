/** Entry point of the next build (next-build.ts). Not part of the product. */
import { registerHooks } from "node:module";
import { nextBuild } from "./next-build.ts";

const root = new URL("../../../", import.meta.url);
const changed = new Set<string>();

registerHooks({
  load(loading, context, next) {
    const loaded = next(loading, context);
    const changes = nextBuild.filter(({ file }) => new URL(file, root).href === loading);
    if (changes.length === 0) return loaded;
    let source = String(loaded.source);
    for (const { file, take, put } of changes) {
      if (source.split(take).length !== 2)
        throw new Error(`next build: ${file} does not contain ${JSON.stringify(take)} exactly once`);
      source = source.replace(take, () => put);
      changed.add(file);
    }
    return { ...loaded, source };
  },
});
await import(new URL("src/events/index.ts", root).href);
for (const { file } of nextBuild.filter(({ file }) => file.startsWith("src/events/")))
  if (!changed.has(file)) throw new Error(`next build: ${file} was not changed`);
await import(new URL("src/main.ts", root).href);
