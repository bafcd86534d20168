/**
 * Weakened main: the program with one safety rule removed, to prove that the harness notices.
 *
 * It is never part of the product. It replaces one statement of one module as that is loaded (weakenings.ts);
 * CARDEA_CHAOS_WEAKEN selects it. The product has no such switch.
 */
import { registerHooks } from "node:module";
import { weakenings } from "./weakenings.ts";

const rule = process.env["CARDEA_CHAOS_WEAKEN"] ?? "";
const weakening = weakenings[rule];
if (weakening === undefined)
  throw new Error(`CARDEA_CHAOS_WEAKEN names no rule: ${Object.keys(weakenings).join(", ")}`);
const { file, take, put } = weakening;

const url = new URL(`../${file}`, import.meta.url).href;
let weakened = false;
registerHooks({
  load(loading, context, next) {
    const loaded = next(loading, context);
    if (loading !== url) return loaded;
    const source = String(loaded.source);
    if (source.split(take).length !== 2) throw new Error(`${rule}: ${file} does not say ${JSON.stringify(take)} once`);
    weakened = true;
    return { ...loaded, source: source.replace(take, () => put) };
  },
});
await import(url);
if (!weakened) throw new Error(`${rule}: nothing was weakened`);
await import("../src/main.ts");
