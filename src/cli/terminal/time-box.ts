/** Time box: the options `--until` and `--reason` of operator commands. Pure. */
import type { Parsed } from "./arguments.ts";
import { UsageError } from "./command.ts";

export const timeBoxOptions = { until: { type: "string" }, reason: { type: "string" } } as const;

const unitMs: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const zoned = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,3})?)?(?:Z|[+-]\d{2}:\d{2})$/;

/** The body of the request. A duration is counted from the server's clock. @throws UsageError */
export function timeBoxBody(parsed: Parsed): Readonly<{ until?: string; forMs?: number; reason?: string }> {
  const reason = parsed.text("reason");
  const until = parsed.text("until");
  const why = reason === undefined ? {} : { reason };
  if (reason !== undefined && (reason.trim() === "" || reason.length > 200))
    throw new UsageError("--reason takes 1 to 200 characters");
  if (until === undefined) return why;
  if (reason === undefined) throw new UsageError("--until needs --reason, which the log records");
  return { ...why, ...parseEnd(until) };
}

/** A duration, or a time with its zone. @throws UsageError */
export function parseEnd(until: string): Readonly<{ until: string }> | Readonly<{ forMs: number }> {
  const [, count, unit = ""] = /^(\d{1,6})([mhdw])$/.exec(until) ?? [];
  if (count !== undefined) {
    const forMs = Number(count) * (unitMs[unit] ?? 0);
    if (forMs === 0) throw new UsageError("--until takes a duration above 0");
    return { forMs };
  }
  return { until: parseTime(until, "--until", "such as 8h or 3d, or a time") };
}

/** A time with its zone, in UTC. @throws UsageError */
export function parseTime(text: string, option: string, alternative = "a time"): string {
  const at = zoned.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at))
    throw new UsageError(
      `${option} ${text}: write ${alternative} with its zone, such as 2026-12-01T18:00Z or 2026-12-01T18:00+01:00`,
    );
  return new Date(at).toISOString();
}
