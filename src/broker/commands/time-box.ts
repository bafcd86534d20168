/** Time box: the end and the reason of a right or a suspension, as commands name them. Pure. */
import { type Projection, parseUnixMs, type Stream, timeBoxedFrom, type UnixMs } from "../../events/index.ts";
import { type Fields, MalformedCommandError, textOf } from "./fields.ts";
import { type Performed, refuseCommand } from "./performed.ts";

/** Of time-boxed memberships and suspensions in the log together: about 50 MB in each process. */
export const timeBoxesMax = 100_000;
/** A reason stays in the memory of every node until the end. */
export const timeBoxReasonMax = 200;
/** Commands that give an end are performed one after the other, so that each counts those before. */
export const timeBoxStream: Stream = "cluster:time-boxes";
const yearMs = 366 * 24 * 3_600_000;
const aheadMsMax = 10 * yearMs;

/** Absent fields stay absent. @throws MalformedCommandError, or an error of the id parsers */
export function parseTimeBox(fields: Fields): Readonly<{ until?: UnixMs; reason?: string }> {
  const reason = fields["reason"] === undefined ? undefined : textOf(fields, "reason");
  if (reason !== undefined && reason.length > timeBoxReasonMax)
    throw new MalformedCommandError(`reason is longer than ${timeBoxReasonMax} characters`);
  return { ...parseUntil(fields), ...(reason === undefined ? {} : { reason }) };
}

export function parseUntil(fields: Fields): Readonly<{ until?: UnixMs }> {
  return fields["until"] === undefined ? {} : { until: parseUnixMs(fields["until"]) };
}

/**
 * Why an end cannot be recorded; undefined: it can.
 * @param end.added how many ends the log would have more; 0: an existing end changes
 */
export function refuseEnd(
  projection: Projection,
  { until, now, added }: Readonly<{ until: UnixMs; now: UnixMs; added: number }>,
): Performed | undefined {
  if (projection.level < timeBoxedFrom) {
    const remedy = "run `cardea cluster finalize` once every process runs this version";
    return refuseCommand(
      "conflict",
      `an end needs level ${timeBoxedFrom}, and the cluster is at level ${projection.level}: ${remedy}`,
    );
  }
  if (until <= now) return refuseCommand("invalid", `the end has passed: the leader's clock says ${iso(now)}`);
  if (until > now + aheadMsMax) return refuseCommand("invalid", "the end is more than ten years ahead: give none");
  const { timeBoxes } = projection;
  if (added > 0 && timeBoxes + added > timeBoxesMax)
    return refuseCommand(
      "conflict",
      `the log has ${timeBoxes} memberships and suspensions with an end, and this would add ${added}: ` +
        `it keeps at most ${timeBoxesMax}`,
    );
  return undefined;
}

export const iso = (at: UnixMs): string => Temporal.Instant.fromEpochMilliseconds(at).toString();
