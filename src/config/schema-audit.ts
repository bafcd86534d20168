/** Decision records: where they go and what they say. Pure. */
import { z } from "zod";
import { cardea } from "./keys.ts";
import { auditMode, filePath, oneOf } from "./kinds.ts";
import { sinks } from "./kinds-network.ts";

export const auditGroup = {
  audit: cardea(
    z.strictObject({
      mode: cardea(
        auditMode().prefault("best_effort"),
        "`best_effort`: records are streamed off the request path, and what is lost is declared. `strict` is not supported by this version.",
      ),
      spool_dir: cardea(
        filePath().optional(),
        "Where records wait for the sinks. Absent: `audit/spool` in the data folder. They wait in memory in this version.",
      ),
      trace: cardea(
        oneOf(["denials", "all"]).prefault("denials"),
        "Which decision records say which rules and facts decided: `denials`, or `all` decisions. See docs/policy.md.",
      ),
      sinks: cardea(
        sinks().optional(),
        "Where decision records go. Absent: `audit/decisions.jsonl` in the data folder, and NATS where it is configured.",
      ),
    }),
    "Decision records: what was asked, what was answered, and why.",
  ),
};
