/** The program with one rule of decisions removed: it permits every person who is signed in. */
import { registerHooks } from "node:module";

const file = new URL("../../../src/auth/authorize/decide.ts", import.meta.url).href;
const take = 'if (allow.met) return { type: "permit"';
const put = 'if (!deny.met) return { type: "permit"';

registerHooks({
  load(loading, context, next) {
    const loaded = next(loading, context);
    if (loading !== file) return loaded;
    const source = String(loaded.source);
    if (source.split(take).length !== 2) throw new Error(`${file} does not say ${take} once`);
    return { ...loaded, source: source.replace(take, () => put) };
  },
});
await import("../../../src/main.ts");
