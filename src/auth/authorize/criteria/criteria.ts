/**
 * Criteria: what each name in a policy means, compiled to one closure over (request, principal, moment).
 *
 * Closures hold everything they compare with, allocate nothing and never throw. Which criteria there are stands in the files of their
 * kinds; a name that is in none of them is an error, never a guess. docs/pomerium-behaviour.md §6.3
 */

import { suggestionFor } from "../ppl-parser.ts";
import type { CompileCriterion, CompiledCriterion, CriterionContext } from "./criterion-parts.ts";
import { deviceCriteria } from "./device.ts";
import { toolCriteria } from "./eval-only/mcp-tool.ts";
import { sshCriteria } from "./eval-only/ssh.ts";
import { personCriteria } from "./person.ts";
import { recordCriteria } from "./record.ts";
import { requestCriteria } from "./request.ts";
import { timeCriteria } from "./time.ts";

const criteria: Readonly<Record<string, CompileCriterion>> = {
  ...requestCriteria,
  ...personCriteria,
  ...deviceCriteria,
  ...timeCriteria,
  ...recordCriteria,
  ...toolCriteria,
  ...sshCriteria,
};
export const criterionNames: readonly string[] = Object.keys(criteria);

/** Gives one parsed criterion its meaning; what is wrong with it is reported, and then there is no test. */
export function compileCriterion(context: CriterionContext): CompiledCriterion | undefined {
  const { name, path, subPath } = context.criterion;
  const { report } = context;
  const compile = Object.hasOwn(criteria, name) ? criteria[name] : undefined;
  if (compile === undefined) {
    if (name === "pomerium_routes") {
      report(
        path,
        "`pomerium_routes` does not exist",
        "remove it: paths below /.pomerium are answered before any policy",
      );
      return undefined;
    }
    report(path, `unknown criterion \`${name}\``, suggestionFor(name, criterionNames));
    return undefined;
  }
  if (subPath !== null && name !== "claim") {
    report(path, `\`${name}\` takes nothing after a slash`, `write \`${name}: …\``);
    return undefined;
  }
  return compile(context);
}
