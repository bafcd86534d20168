/** Test mutants of the audit sinks: batches, answers, rotation and TLS (test-mutants.ts). Pure data. */
import type { TestMutant } from "./test-mutant.ts";

const batchingTest = "test/audit/sink-batching.test.ts";
const syncTest = "test/audit/sink-sync.test.ts";
const rotationTest = "test/audit/file-rotation.test.ts";
const webhookTest = "test/audit/sinks/webhook-sink.test.ts";
const otlpTest = "test/audit/sinks/otlp-sink.test.ts";
const s3Test = "test/audit/sinks/s3-sink.test.ts";
const delivery = "src/audit/sink-delivery.ts";
const cursor = "src/audit/spool/spool-cursor.ts";

export const sinkTestMutants: Readonly<Record<string, TestMutant>> = {
  "batch-end-unstored": {
    section: 7,
    meaning: "a batch is sent before its end is stored, so after a crash another one has its first records",
    test: batchingTest,
    changes: [
      {
        file: delivery,
        take: "        await this.#store({ now: true });\n      }\n      if (this.#sink.batching === undefined &&",
        put: "      }\n      if (this.#sink.batching === undefined &&",
      },
    ],
  },
  "position-before-sync": {
    section: 7,
    meaning: "the position of a sink is stored before the sink has synced what it wrote",
    test: syncTest,
    changes: [
      {
        file: delivery,
        take: "if (this.#synced.position !== this.#delivered && !(await this.#sync())) return;",
        put: "",
      },
    ],
  },
  "failed-sync-forgotten": {
    section: 7,
    meaning: "what a failed sync did not keep is not written again",
    test: syncTest,
    changes: [{ file: delivery, take: "this.#mustRewind = true;", put: "this.#synced = this.#progress();" }],
  },
  "batch-in-flight-overwritten": {
    section: 7,
    meaning: "a batch is read into the memory of the one that the sink still has",
    test: "test/audit/spool/spool.test.ts",
    changes: [
      {
        file: cursor,
        take: "const isInUse = ahead && this.#returned === present;",
        put: "const isInUse = ahead && this.#returned === null;",
      },
    ],
  },
  "batch-grows-after-crash": {
    section: 7,
    meaning: "the stored end of a batch is ignored after a crash",
    test: batchingTest,
    changes: [
      {
        file: delivery,
        take: "return await this.#cursor.next(this.#begun ?? undefined, how);",
        put: "return await this.#cursor.next(undefined, how);",
      },
    ],
  },
  "batch-unbounded": {
    section: 7,
    meaning: "a batch has more records than its sink asked for",
    test: batchingTest,
    changes: [
      {
        file: cursor,
        take: "const lastMax = Math.min(first + recordsMax - 1, endLast, frame.last);",
        put: "const lastMax = Math.min(endLast, frame.last);\n    void [first, recordsMax];",
      },
    ],
  },
  "retry-after-ignored": {
    section: 7,
    meaning: "a sink that asks for a pause is tried again at once",
    test: batchingTest,
    changes: [{ file: delivery, take: "Math.max(retryMs, askedMs)", put: "Math.max(retryMs, 0 * askedMs)" }],
  },
  "partial-rejection-lost": {
    section: 7,
    meaning: "records that a receiver did not accept, without saying which, are in no file",
    test: batchingTest,
    changes: [{ file: delivery, take: "await this.#bury(batch, error, error.rejected);", put: "return;" }],
  },
  "rejected-buried-again": {
    section: 7,
    meaning: "a rejected record is put aside once more with each failure of a later half of its batch",
    test: batchingTest,
    changes: [{ file: delivery, take: "if (batch.last <= this.#settled) return;", put: "" }],
  },
  "batch-renamed-on-retry": {
    section: 7,
    meaning: "a batch that is sent again has another id, so its receiver keeps it twice",
    test: webhookTest,
    changes: [
      {
        file: "src/audit/sinks/webhook-sink.ts",
        take: "const id = webhookIdOf(batch);",
        put: "const id = webhookIdOf(batch) + performance.now();",
      },
    ],
  },
  "credential-empties-spool": {
    section: 7,
    meaning: "a wrong credential or address of a sink puts every record into the dead letters",
    test: webhookTest,
    changes: [
      {
        file: "src/audit/sinks/sink-answer.ts",
        take: "new Set([400, 413, 422])",
        put: "new Set([400, 401, 403, 404, 413, 422])",
      },
    ],
  },
  "sink-trusts-anyone": {
    section: 7,
    meaning: "records and credentials are sent to a receiver whose certificate is not trusted",
    test: webhookTest,
    changes: [
      {
        file: "src/audit/sinks/sink-client.ts",
        take: "      ...trusted,\n",
        put: "      ...trusted,\n      rejectUnauthorized: false,\n",
      },
    ],
  },
  "web-page-accepts-records": {
    section: 7,
    meaning: "any answer of success counts as one of an OpenTelemetry collector",
    test: otlpTest,
    changes: [
      { file: "src/audit/sinks/otlp-sink.ts", take: "if (rejected === null)", put: "if (rejected === undefined)" },
    ],
  },
  "object-without-hour": {
    section: 7,
    meaning: "an object has records of several hours",
    test: s3Test,
    changes: [
      {
        file: "src/audit/sinks/object-key.ts",
        take: "if (begun !== null && hour > begun.hour) {",
        put: "if (begun !== null && hour < begun.hour) {",
      },
    ],
  },
  "written-to-renamed-file": {
    section: 7,
    meaning: "records count as stored in a file that another process renamed, and perhaps compressed, meanwhile",
    test: rotationTest,
    changes: [
      {
        file: "src/audit/sinks/file-sink.ts",
        take: "if (!(await isStillNamed(identity, path))) throw new AuditFileMovedError(path);",
        put: "",
      },
    ],
  },
  "renames-overwrite": {
    section: 7,
    meaning: "two processes rename the audit file to one name at the same moment, and lose what the first one renamed",
    test: rotationTest,
    changes: [{ file: "src/audit/sinks/rotated-folder.ts", take: 'randomBytes(3).toString("hex")', put: '"000000"' }],
  },
  "operators-file-deleted": {
    section: 7,
    meaning: "rotation deletes files that the operator renamed",
    test: rotationTest,
    changes: [
      {
        file: "src/audit/sinks/rotated-folder.ts",
        take: "/^\\d{8}T\\d{9}Z-[0-9a-f]{6}$/.test(",
        put: "/^/.test(",
      },
    ],
  },
  "plain-file-lost": {
    section: 7,
    meaning: "a renamed file is removed before its compressed one has its name",
    test: rotationTest,
    changes: [
      {
        file: "src/audit/sinks/rotated-folder.ts",
        take: "if ((await stat(to).catch(() => undefined)) === undefined) {",
        put: 'if (plain === "") {',
      },
    ],
  },
};
