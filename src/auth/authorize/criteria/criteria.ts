/**
 * Criteria: every criterion name of the policy language, compiled to a closure over (request, principal, moment).
 *
 * - A closure holds all values that it compares with, allocates nothing and never throws.
 * - The files of each kind list the criteria. An unknown name is an error. docs/pomerium-behaviour.md §6.3
 */

import { suggestionFor } from "../ppl-parser.ts";
import type { CompiledCriterion, CriterionContext, CriterionDescriptor } from "./criterion-parts.ts";
import { deviceCriteria } from "./device.ts";
import { toolCriteria } from "./eval-only/mcp-tool.ts";
import { sshCriteria } from "./eval-only/ssh.ts";
import { personCriteria } from "./person.ts";
import { recordCriteria } from "./record.ts";
import { requestCriteria } from "./request.ts";
import { timeCriteria } from "./time.ts";

export const criterionDescriptors: readonly CriterionDescriptor[] = [
  ...requestCriteria,
  ...personCriteria,
  ...deviceCriteria,
  ...timeCriteria,
  ...recordCriteria,
  ...toolCriteria,
  ...sshCriteria,
];
const byName: ReadonlyMap<string, CriterionDescriptor> = new Map(criterionDescriptors.map((one) => [one.name, one]));

/** @param name as written in a policy, with or without a sub-path: `claim/groups` */
export function criterionDescriptor(name: string): CriterionDescriptor | undefined {
  return byName.get(name.split("/", 1)[0] ?? name);
}

/** Compiles one parsed criterion. Reports its problems; undefined: it had some. */
export function compileCriterion(context: Omit<CriterionContext, "words">): CompiledCriterion | undefined {
  const { name, path, subPath } = context.criterion;
  const { report } = context;
  const descriptor = byName.get(name);
  if (descriptor === undefined) {
    if (name === "pomerium_routes") {
      report(
        path,
        "`pomerium_routes` does not exist",
        "remove it: paths below /.pomerium are answered before any policy",
      );
      return undefined;
    }
    report(path, `unknown criterion \`${name}\``, suggestionFor(name, [...byName.keys()]));
    return undefined;
  }
  if (subPath !== null && name !== "claim") {
    report(path, `\`${name}\` takes nothing after a slash`, `write \`${name}: …\``);
    return undefined;
  }
  return descriptor.compile({ ...context, words: descriptor.reasons });
}
