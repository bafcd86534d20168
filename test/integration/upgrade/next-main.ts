/** The program as its next build (next-build.ts). Never part of the product, which has no such switch. */
import { registerHooks } from "node:module";
import { nextBuild } from "./next-build.ts";

const root = new URL("../../../", import.meta.url);
const changed = new Set<string>();

registerHooks({
  load(loading, context, next) {
    const loaded = next(loading, context);
    const sentences = nextBuild.filter(({ file }) => new URL(file, root).href === loading);
    if (sentences.length === 0) return loaded;
    let source = String(loaded.source);
    for (const { file, take, put } of sentences) {
      if (source.split(take).length !== 2)
        throw new Error(`next build: ${file} does not say ${JSON.stringify(take)} once`);
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
