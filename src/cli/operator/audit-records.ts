/**
 * Stored decision records: an audit file with its rotated files, or the audit stream of all nodes.
 *
 * Reads the oldest first, and skips files that were last written before the requested time.
 */
import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { LRUCache } from "lru-cache";
import { auditFiles, type RecordRefusal, readAuditStream, withoutEnvelope } from "../../audit/index.ts";
import type { Config } from "../../config/index.ts";
import { connectNats, secretsOf } from "../build/audit-parts.ts";
import { CannotError, UsageError } from "../terminal/command.ts";
import { type ReadValue, readLines, readValues } from "../terminal/read-lines.ts";

/** Ids kept to recognise repeated records. A batch that was written twice is closer together than this. */
const seenIdsMax = 20_000;

/** The parts of a configuration that say where records are stored. */
export type RecordLocation = Readonly<{
  audit: Readonly<{ files: readonly Pick<Config["audit"]["files"][number], "path" | "format">[]; nats: boolean }>;
  nats: Config["nats"];
  broker: Pick<Config["broker"], "clusterName">;
}> &
  Pick<Config, "sharedSecret" | "sharedSecretPrevious">;
/** `refused`: why a message of the audit stream was refused. */
export type RecordReading = ReadValue | Readonly<{ at: string; problem: string; refused: RecordRefusal }>;
export type ReadingSource = Readonly<{ name: string; read: () => AsyncGenerator<RecordReading> }>;

/**
 * @param options.input a file, or `-`; undefined: the source that the configuration names
 * @throws UsageError if there is nothing to read
 */
export function recordSource(
  config: RecordLocation,
  options: Readonly<{ input: string | undefined; from: number; kept: "files" | "nats" | undefined }>,
): ReadingSource {
  const { input, from, kept } = options;
  if (input !== undefined) return { name: input, read: () => withoutRepeats(readValues(input)) };
  const { nats } = config;
  const viaNats = config.audit.nats && nats !== null;
  if (kept === "nats" && !viaNats)
    throw new UsageError("the configuration stores no records in NATS; name a file with --input");
  if (viaNats && kept !== "files") return { name: "NATS", read: () => withoutRepeats(readStream(config, from)) };
  const path = config.audit.files.find(({ format }) => format !== "ocsf")?.path;
  if (path === undefined)
    throw new UsageError(
      config.audit.files.length > 0
        ? "the configuration's audit files are in OCSF, from which no record can be read back; name another file with --input"
        : "the configuration names no audit file; name one with --input",
    );
  const files = auditFiles(path, from);
  if (files.length === 0) throw new UsageError(`${path} cannot be read: there is no such file`);
  return { name: path, read: () => withoutRepeats(readFiles(files)) };
}

async function* readFiles(files: readonly string[]): AsyncGenerator<ReadValue> {
  for (const file of files) {
    const raw = createReadStream(file);
    const opened: Readable = file.endsWith(".gz") ? raw.pipe(createGunzip()) : raw;
    raw.on("error", (error) => opened.destroy(error));
    yield* readLines(opened, file);
  }
}

async function* readStream(config: RecordLocation, fromMs: number): AsyncGenerator<RecordReading> {
  if (config.nats === null) return;
  const connection = await connectNats(config.nats, "cardea audit reader", { reconnects: false }).catch(
    (cause: unknown) => {
      throw new CannotError("NATS does not answer; read files instead, with --kept files or --input", { cause });
    },
  );
  try {
    let number = 0;
    const { clusterName: cluster } = config.broker;
    for await (const one of readAuditStream(connection, { cluster, secrets: secretsOf(config), fromMs })) {
      number += 1;
      const at = `NATS:${number}`;
      if ("refused" in one) yield { at, problem: `is refused: ${one.refused}`, refused: one.refused };
      else yield { at, value: one.record };
    }
  } catch (cause) {
    throw cause instanceof CannotError ? cause : new CannotError("the audit stream cannot be read", { cause });
  } finally {
    await connection.close();
  }
}

/** Skips repetitions: a batch whose acknowledgement was lost is written twice. */
async function* withoutRepeats(all: AsyncGenerator<RecordReading>): AsyncGenerator<RecordReading> {
  const seen = new LRUCache<string, true>({ max: seenIdsMax });
  for await (const read of all) {
    const one = "value" in read ? { ...read, value: withoutEnvelope(read.value) } : read;
    const id = "value" in one ? idIn(one.value) : null;
    if (id !== null && seen.has(id)) continue;
    if (id !== null) seen.set(id, true);
    yield one;
  }
}

function idIn(value: unknown): string | null {
  if (typeof value !== "object" || value === null || !("boot" in value) || !("seq" in value)) return null;
  return typeof value.boot === "string" && typeof value.seq === "number" ? `${value.boot}:${value.seq}` : null;
}
