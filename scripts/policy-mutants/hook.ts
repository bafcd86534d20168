/** Loaded before a test: changes the sentence that `POLICY_MUTANT` names as its module is loaded. */
import { registerHooks } from "node:module";
import { policyMutants } from "./mutants.ts";

const name = process.env["POLICY_MUTANT"] ?? "";
const mutant = policyMutants[name];
if (mutant === undefined) throw new Error(`there is no mutant ${JSON.stringify(name)}`);
const url = new URL(`../../${mutant.file}`, import.meta.url).href;
registerHooks({
  load(loading, context, next) {
    const loaded = next(loading, context);
    return loading === url
      ? { ...loaded, source: String(loaded.source).replace(mutant.take, () => mutant.put) }
      : loaded;
  },
});
