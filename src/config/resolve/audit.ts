/** Audit settings: the sinks by kind, and the defaults of the spool. Pure. */
import type { Config } from "../config.ts";
import { configFields } from "../schema/keys.ts";
import { type Globals, globalKeys } from "../schema/schema.ts";
import type { ProblemReporter } from "../source/source-locations.ts";
import type { Sink } from "../values/sink-values.ts";

export function resolveAudit(
  globals: Globals,
  from: Readonly<{ report: ProblemReporter; failed: ReadonlySet<string>; nats: Config["nats"] }>,
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
  return {
    ...configFields(globalKeys.audit.shape, audit),
    spoolDir: audit.spool_dir ?? `${globals.data_dir}/audit/spool`,
    spoolMaxBytes: audit.spool_max_bytes,
    files: sinks.flatMap((sink) => {
      if (sink.kind !== "file") return [];
      const { path, format, rotation } = sink;
      return [{ path, format, rotation }];
    }),
    nats: nats >= 0,
    stdout: sinks.find((sink) => sink.kind === "stdout")?.format ?? null,
    recorded: { query: audit.query, headers: audit.headers, redactPath: audit.redact_path },
    streamBytesMax: audit.stream_max_bytes,
  };
}
