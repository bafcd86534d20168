/** Schema of the `audit` keys: the sinks, the spool and the content of decision records. Pure. */
import * as z from "zod";
import { duration, headerNames, pathPatterns } from "../values/network-values.ts";
import { sinks } from "../values/sinks/sink-values.ts";
import { auditMode, enumValue, filePath, integer, stringList } from "../values/value-type.ts";
import { cardea } from "./keys.ts";

const sinkPaths = ["files", "nats", "stdout", "postgres", "webhooks", "otlp", "s3"].map((kind) => `audit.${kind}`);
const sinkSecrets = [
  "postgres.connectionString",
  "webhooks.*.secrets.*",
  "webhooks.*.endpoint.headers.*",
  "webhooks.*.endpoint.tls.key",
  "otlp.*.endpoint.headers.*",
  "otlp.*.endpoint.tls.key",
  "s3.*.credentials.secretAccessKey",
].map((path) => `audit.${path}`);

export const auditKeys = {
  audit: cardea(
    z.strictObject({
      mode: cardea(
        auditMode().prefault("best_effort"),
        "`best_effort`: records are stored off the request path, and losses are declared. `strict`: nothing is permitted before its record is on disk; while it cannot be stored, the answer is 503. See docs/audit.md.",
        { reload: "restart", inConfig: "value" },
      ),
      spool_dir: cardea(
        filePath().optional(),
        "The folder in which records wait for the sinks, on a disk that survives a restart. Absent: `audit/spool` in the data folder. See docs/audit.md.",
        { reload: "restart" },
      ),
      spool_max_bytes: cardea(
        integer({ min: 16_777_216, max: 1_000_000_000_000_000 }).prefault(2_147_483_648),
        "The maximum size, in bytes, of the records that wait in the spool of one node. At this size the oldest are dropped and declared by a gap record; records of strict routes are never dropped.",
        { reload: "restart", configPaths: ["audit.spoolMaxBytes"] },
      ),
      seal_interval: cardea(
        duration({ min: "1s", max: "24h", allowsNone: true }).prefault("300s"),
        "How often a node seals the root of its decision records into the log, if there are new ones. `0s`: never. See docs/audit-proofs.md.",
        { reload: "restart", configPaths: ["audit.sealMs"] },
      ),
      ends: cardea(
        enumValue(["streams", "all"]).prefault("streams"),
        "The permitted requests whose end has a record, with its bytes and its cause: `streams` (upgraded connections, tunnels, and responses of 10 s or longer), or `all`, which doubles the records. See docs/audit.md.",
      ),
      trace: cardea(
        enumValue(["denials", "all"]).prefault("denials"),
        "The decision records that name the deciding rules and facts: `denials`, or `all` decisions. See docs/policy-testing.md.",
      ),
      query: cardea(
        stringList("query parameters").prefault([]),
        "The query parameters that decision records contain; all others are left out. Parameters that begin with `pomerium_` are never recorded.",
      ),
      headers: cardea(
        headerNames().prefault(["user-agent"]),
        "The request headers that decision records contain. Credentials, such as `Authorization` and `Cookie`, are never recorded.",
      ),
      redact_path: cardea(
        pathPatterns().prefault([]),
        "Path segments that decision records show as `[redacted]`: `*` is any one segment, `**` at the end all that follow. A pattern covers every path that begins like it, and is compared without regard to case. See docs/audit.md.",
      ),
      recheck_one_in: cardea(
        integer({ min: 0, max: 1_000_000_000 }).prefault(1_000),
        "An authenticate service decides one in this many decisions of the other nodes again and compares the answers; needs `nats`. 0: none. See docs/audit-explain.md.",
        { reload: "restart", inConfig: "value" },
      ),
      recheck_per_second: cardea(
        integer({ min: 1, max: 1_000 }).prefault(5),
        "At most this many decisions a second are decided again.",
        { reload: "restart", inConfig: "value" },
      ),
      sinks: cardea(
        sinks().optional(),
        "The destinations of audit records, each with an optional `format`: `json`, `cloudevents` or `ocsf`, and with settings of its own. Absent: `audit/decisions.jsonl` in the data folder, and NATS where it is configured. See docs/audit-sinks.md.",
        { reload: "restart", configPaths: sinkPaths, secretParts: sinkSecrets },
      ),
      pull_max_bytes: cardea(
        integer({ min: 0, max: 1_000_000_000_000 }).prefault(268_435_456),
        "The maximum size, in bytes, of the newest audit records that a process without NATS keeps on disk for callers that pull them (`GET /decisions`); the oldest are removed first. 0: none are kept, so a caller resumes only within the records in memory.",
        { reload: "restart", configPaths: ["audit.pullMaxBytes"] },
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
