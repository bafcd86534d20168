/** Criterion `mcp_tool`: the tool name in a call of the Model Context Protocol. */

import { parseTextMatcher } from "../../matchers.ts";
import { textRequirement } from "../../requirements.ts";
import {
  type CompiledCriterion,
  type CriterionContext,
  type CriterionDescriptor,
  compiledCriterion,
} from "../criterion-parts.ts";

export const toolCriteria: readonly CriterionDescriptor[] = [
  {
    name: "mcp_tool",
    compile: compileTool,
    reasons: {
      ok: "mcp-tool-match",
      fail: "mcp-tool-no-match",
      others: ["mcp-not-a-tool-call"],
    },
    replay: "recorded", // no listener that writes decision records reads such messages
    unsupported: "this build does not read Model Context Protocol messages",
  },
];

function compileTool({ criterion, reasons, report, words }: CriterionContext): CompiledCriterion | undefined {
  const matcher = parseTextMatcher(criterion.data, criterion.path, report);
  if (matcher === undefined) return undefined;
  const noCall = reasons.of("mcp-not-a-tool-call").unmet;
  const met = reasons.of(words.ok).met;
  const unmet = reasons.of(words.fail).unmet;
  return compiledCriterion(
    ({ mcp }) => {
      if (mcp?.method !== "tools/call") return noCall;
      return mcp.tool !== null && matcher.matches(mcp.tool) ? met : unmet;
    },
    textRequirement("mcp-tool", matcher),
    { always: matcher.never ? false : null },
  );
}
