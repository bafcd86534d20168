/** Criterion `mcp_tool`: which tool a call of the Model Context Protocol names. */

import { parseTextMatcher } from "../../matchers.ts";
import { textPhrase } from "../../phrases.ts";
import { type CompileCriterion, compiledCriterion } from "../criterion-parts.ts";

export const toolCriteria: Readonly<Record<string, CompileCriterion>> = {
  mcp_tool: ({ criterion, reasons, report }) => {
    const matcher = parseTextMatcher(criterion.data, criterion.path, report);
    if (matcher === undefined) return undefined;
    const noCall = reasons.of("mcp-not-a-tool-call").unmet;
    const met = reasons.of("mcp-tool-match").met;
    const unmet = reasons.of("mcp-tool-no-match").unmet;
    return compiledCriterion(
      ({ mcp }) => {
        if (mcp?.method !== "tools/call") return noCall;
        return mcp.tool !== null && matcher.matches(mcp.tool) ? met : unmet;
      },
      textPhrase("a call of the tool", matcher),
      { always: matcher.never ? false : null },
    );
  },
};
