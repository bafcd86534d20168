/** Schema of the `audit` keys: the sinks, the spool and the content of decision records. Pure. */
import { z } from "zod";
import { sinks } from "../values/network-values.ts";
import { auditMode, enumValue, filePath, integer } from "../values/value-type.ts";
import { cardea } from "./keys.ts";

export const auditKeys = {
  audit: cardea(
    z.strictObject({
      mode: cardea(
        auditMode().prefault("best_effort"),
        "`best_effort`: records are streamed off the request path, and losses are declared. `strict` is not supported by this version.",
        { reload: "restart", inConfig: "value" },
      ),
      spool_dir: cardea(
        filePath().optional(),
        "The folder in which records wait for the sinks. Absent: `audit/spool` in the data folder. In this version they wait in memory.",
        { reload: "restart" },
      ),
      trace: cardea(
        enumValue(["denials", "all"]).prefault("denials"),
        "The decision records that name the deciding rules and facts: `denials`, or `all` decisions. See docs/policy-testing.md.",
      ),
      sinks: cardea(
        sinks().optional(),
        "The destinations of decision records. Absent: `audit/decisions.jsonl` in the data folder, and NATS where it is configured.",
        { reload: "restart", configPaths: ["audit.files", "audit.nats", "audit.stdout"] },
      ),
      stream_max_bytes: cardea(
        integer({ min: 1_048_576, max: 1_000_000_000_000_000 }).prefault(10_737_418_240),
        "The maximum size, in bytes, of the audit stream in JetStream; the oldest records are removed first. Applies when the stream is created, and to a stream that has no limit.",
        { reload: "restart", configPaths: ["audit.streamBytesMax"] },
      ),
    }),
    "Decision records: each request, its answer, and why.",
    { reload: "restart" },
  ),
};
