/** Audit settings: the sinks by kind, and the defaults of the spool. Pure. */
import type { Config } from "../config.ts";
import { configFields } from "../schema/keys.ts";
import { type Globals, globalKeys } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import {
  isPlainPostgres,
  isPostgresAddress,
  type PostgresSinkConfig,
  type WrittenPostgresSink,
} from "../values/postgres-sink.ts";
import type { Sink } from "../values/sinks/sink-values.ts";
import type { KeyMaterial } from "./key-material.ts";
import { resolveRemoteSinks } from "./sinks/remote-sinks.ts";

export function resolveAudit(
  globals: Globals,
  from: Readonly<{
    report: ProblemReporter;
    material: KeyMaterial;
    failed: ReadonlySet<string>;
    nats: Config["nats"];
    store: Config["store"] | null;
  }>,
): Config["audit"] {
  const { audit } = globals;
  const sinks: readonly Sink[] = audit.sinks ?? [
    { kind: "file", path: `${globals.data_dir}/audit/decisions.jsonl`, format: "json", rotation: null },
    ...(from.nats === null ? [] : [{ kind: "nats" } as const]),
  ];
  const nats = sinks.findIndex(({ kind }) => kind === "nats");
  if (nats >= 0 && from.nats === null && !from.failed.has("nats.servers"))
    from.report.error(
      ["audit", "sinks", nats],
      "names NATS, and nats.servers is missing",
      "write nats.servers, or remove this sink",
    );
  if (sinks.length === 0)
    from.report.warn(["audit", "sinks"], "is empty, so no decision record is kept", "name a sink");
  const logAddress = from.store?.type === "postgres" ? from.store.connectionString : null;
  const postgres = sinks.flatMap((sink, index) =>
    sink.kind === "postgres" ? [resolvePostgresSink(sink, { ...from, index, logAddress })] : [],
  );
  if (postgres.length > 1)
    from.report.error(["audit", "sinks"], "names Postgres more than once", "keep one sink of this kind");
  return {
    ...configFields(globalKeys.audit.shape, audit),
    spoolDir: audit.spool_dir ?? `${globals.data_dir}/audit/spool`,
    spoolMaxBytes: audit.spool_max_bytes,
    sealMs: audit.seal_interval ?? 0,
    files: sinks.flatMap((sink) => {
      if (sink.kind !== "file") return [];
      const { path, format, rotation } = sink;
      return [{ path, format, rotation }];
    }),
    nats: nats >= 0,
    ...resolveRemoteSinks(sinks, from),
    stdout: sinks.find((sink) => sink.kind === "stdout")?.format ?? null,
    postgres: postgres[0] ?? null,
    recorded: { query: audit.query, headers: audit.headers, redactPath: audit.redact_path },
    pullMaxBytes: audit.pull_max_bytes,
    streamBytesMax: audit.stream_max_bytes,
  };
}

/** @param from.index of the entry in `audit.sinks` @param from.logAddress of the log; null: it is not in Postgres */
function resolvePostgresSink(
  written: WrittenPostgresSink,
  from: Readonly<{ report: ProblemReporter; material: KeyMaterial; index: number; logAddress: string | null }>,
): PostgresSinkConfig | null {
  const place = ["audit", "sinks", from.index];
  const found = from.material.under(...place).textOrFile(written, { key: "url", secrecy: "secret" });
  if (found === null) return null;
  const report = from.report.under(...place);
  const connectionString = found.text.trim();
  if (!isPostgresAddress(connectionString)) {
    const remedy = "write postgres://user@host:5432/audit";
    report.error(found.path, "is neither a postgres:// URL nor key=value settings", remedy);
    return null;
  }
  if (isPlainPostgres(connectionString))
    report.warn(found.path, "turns TLS to Postgres off", "use sslmode=verify-full where the network is not your own");
  if (connectionString === from.logAddress)
    report.warn(
      found.path,
      "is the address of the log, so who reads audit records also has the log",
      "use a database or a role of its own",
    );
  return { connectionString, schema: written.schema, retentionDays: written.retentionDays };
}
