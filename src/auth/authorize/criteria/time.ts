/**
 * Criteria about the moment of the request: `date`, `day_of_week`, `time_of_day`.
 *
 * - `after` and `before` are both exclusive. Zones are IANA zones, whose days may have 23 or 25 hours.
 * - A zone's clock is computed once for the period in which the answer is constant, so a decision costs two
 *   comparisons. The decision is made again at the end of that period.
 * - Pure: the moment is an argument.
 */
import { suggest } from "../../../config/index.ts";
import type { UnixMs } from "../../../events/index.ts";
import {
  describeValue,
  isObject,
  type PolicyPath,
  type ReportPolicyProblem,
  suggestionFor,
  useOneOf,
} from "../ppl-parser.ts";
import type { Requirement } from "../requirements.ts";
import {
  type CompiledCriterion,
  type CriterionContext,
  type CriterionDescriptor,
  compiledCriterion,
  readsOf,
  requestTest,
} from "./criterion-parts.ts";

export const timeCriteria: readonly CriterionDescriptor[] = [
  {
    name: "date",
    compile: compileDate,
    reasons: { ok: "date-ok", fail: "date-unauthorized" },
    replay: "time",
  },
  {
    name: "day_of_week",
    compile: compileDayOfWeek,
    reasons: {
      ok: "day-of-week-ok",
      fail: "day-of-week-unauthorized",
    },
    replay: "time",
  },
  {
    name: "time_of_day",
    compile: compileTimeOfDay,
    reasons: {
      ok: "time-of-day-ok",
      fail: "time-of-day-unauthorized",
    },
    replay: "time",
  },
];

function compileDate(context: CriterionContext): CompiledCriterion | undefined {
  const { report } = context;
  const data = fieldsOf(context, ["after", "before", "timezone"]);
  const zone = data && parseZone(data["timezone"] ?? "UTC", [...context.criterion.path, "timezone"], report);
  if (data === undefined || zone === undefined) return undefined;
  const bounds = parseBounds(context, data, (text) => parseDate(text, zone), dateForm);
  if (bounds === undefined) return undefined;
  const { after, before } = bounds;
  const [from, until] = [after && Math.floor(after) + 1, before && Math.ceil(before)];
  const never = warnIfNever(context, bounds);
  return timeCriterion(context, { type: "date" }, never ? false : null, (now) => ({
    holds: (from === undefined || now >= from) && (until === undefined || now < until),
    until: firstAfter(now, [from, until]),
  }));
}

function compileDayOfWeek(context: CriterionContext): CompiledCriterion | undefined {
  const { criterion, report } = context;
  const { data, path } = criterion;
  const fields = isObject(data) ? fieldsOf(context, ["days", "timezone"]) : { days: data };
  if (fields === undefined) return undefined;
  const at = isObject(data) ? [...path, "days"] : path;
  const days = parseDays(fields["days"], at, report);
  const zone = parseZone(fields["timezone"] ?? "UTC", [...path, "timezone"], report);
  if (days === undefined || zone === undefined) return undefined;
  return timeCriterion(context, { type: "days", days: [...days] }, null, (now) => {
    const local = localTime(now, zone);
    return {
      holds: days.has(local.dayOfWeek),
      until: days.size === 7 ? null : startOfNextDay(local),
    };
  });
}

function compileTimeOfDay(context: CriterionContext): CompiledCriterion | undefined {
  const { criterion, report } = context;
  const data = fieldsOf(context, ["timezone", "after", "before"]);
  if (data === undefined) return undefined;
  const at = [...criterion.path, "timezone"];
  if (data["timezone"] === undefined)
    report(criterion.path, "`time_of_day` needs a time zone", "add `timezone: UTC` or a name such as `Europe/Berlin`");
  const zone = data["timezone"] === undefined ? undefined : parseZone(data["timezone"], at, report);
  const bounds = parseBounds(context, data, parseClock, clockForm);
  if (zone === undefined || bounds === undefined) return undefined;
  const never = warnIfNever(context, bounds);
  return timeCriterion(context, { type: "time-of-day" }, never ? false : null, (now) => clockPeriod(now, zone, bounds));
}

// --- periods of constant answers

/** `until`: the next time at which the answer may change; null: never. */
type ConstantPeriod = Readonly<{ holds: boolean; until: UnixMs | null }>;
type Bounds = Readonly<{ after: number | undefined; before: number | undefined }>;

function timeCriterion(
  { reasons, words }: CriterionContext,
  requirement: Requirement,
  always: boolean | null,
  findPeriod: (now: UnixMs) => ConstantPeriod,
): CompiledCriterion {
  let period: ConstantPeriod | undefined;
  let since = Infinity;
  const periodAt = (now: UnixMs): ConstantPeriod => {
    if (period !== undefined && now >= since && (period.until === null || now < period.until)) return period;
    period = findPeriod(now);
    since = now;
    return period;
  };
  const test = requestTest(reasons, words, (_request, now) => periodAt(now).holds);
  return compiledCriterion(test, requirement, {
    reads: readsOf({ boundaries: [(_request, now) => periodAt(now).until] }),
    always,
  });
}

function firstAfter(now: number, moments: readonly (number | undefined)[]): UnixMs | null {
  const later = moments.filter((moment) => moment !== undefined && moment > now);
  return later.length === 0 ? null : (Math.min(...(later as number[])) as UnixMs);
}

function localTime(now: UnixMs, zone: string): Temporal.ZonedDateTime {
  return Temporal.Instant.fromEpochMilliseconds(now).toZonedDateTimeISO(zone);
}

function startOfNextDay(local: Temporal.ZonedDateTime): UnixMs {
  return local.toPlainDate().add({ days: 1 }).toZonedDateTime(local.timeZoneId).epochMilliseconds as UnixMs;
}

/**
 * The clock of a zone passes a bound once a day, twice when it is set back, and skips it when it is set forward.
 */
function clockPeriod(now: UnixMs, zone: string, { after, before }: Bounds): ConstantPeriod {
  const local = localTime(now, zone);
  const time = clockMs(local.toPlainTime());
  const today = local.toPlainDate();
  const moments: number[] = [startOfNextDay(local)];
  const changes = [after && Math.floor(after) + 1, before && Math.ceil(before)];
  for (const change of changes) {
    if (change === undefined || change >= dayMs) continue;
    const wall = today.toPlainDateTime(Temporal.PlainTime.from({ hour: 0 })).add({ milliseconds: change });
    for (const disambiguation of ["earlier", "later"] as const)
      moments.push(wall.toZonedDateTime(zone, { disambiguation }).epochMilliseconds);
  }
  const jump = local.getTimeZoneTransition("next");
  if (jump !== null) moments.push(jump.epochMilliseconds);
  return {
    holds: (after === undefined || time > after) && (before === undefined || time < before),
    until: firstAfter(now, moments),
  };
}

const dayMs = 24 * 3_600_000;

function clockMs(time: Temporal.PlainTime): number {
  return ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000 + time.millisecond;
}

// --- parsing

function fieldsOf(
  { criterion, report }: CriterionContext,
  known: readonly string[],
): Readonly<Record<string, unknown>> | undefined {
  const { data, path, name } = criterion;
  if (!isObject(data)) {
    report(path, `expected conditions for \`${name}\`, found ${describeValue(data)}`, useOneOf(known));
    return undefined;
  }
  const strange = Object.keys(data).filter((key) => !known.includes(key));
  for (const key of strange) report([...path, key], `unknown operator \`${key}\``, suggestionFor(key, known, data));
  return strange.length === 0 ? data : undefined;
}

function parseBounds(
  { criterion, report }: CriterionContext,
  data: Readonly<Record<string, unknown>>,
  parse: (text: string) => number | undefined,
  form: string,
): Bounds | undefined {
  const { path, name } = criterion;
  if (data["after"] === undefined && data["before"] === undefined) {
    report(path, `\`${name}\` without \`after\` and \`before\` would always be met`, "write at least one of them");
    return undefined;
  }
  let complete = true;
  const bound = (key: "after" | "before"): number | undefined => {
    const value = data[key];
    if (value === undefined) return undefined;
    const parsed = typeof value === "string" ? parse(value.trim()) : undefined;
    if (parsed !== undefined) return parsed;
    complete = false;
    const what = typeof value === "string" ? `\`${value}\`` : describeValue(value);
    report(
      [...path, key],
      `${what} cannot be read as ${form}`,
      form === dateForm ? "write `2026-12-24T18:00:00Z`" : "write `15:04` or `3:04 PM`",
    );
    return undefined;
  };
  const bounds = { after: bound("after"), before: bound("before") };
  return complete ? bounds : undefined;
}

function warnIfNever({ criterion, report }: CriterionContext, { after, before }: Bounds): boolean {
  if (after === undefined || before === undefined || Math.floor(after) + 1 < Math.ceil(before)) return false;
  const remedy =
    criterion.name === "date"
      ? "swap them"
      : "for a night write two criteria under `or`: one with `after`, one with `before`";
  report(criterion.path, "`after` is not earlier than `before`, so it is never met", remedy, "warning");
  return true;
}

const dateForm = "a date of ISO 8601";
const clockForm = "a time of day";
const datePattern =
  /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}(?::\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?)(Z|[+-]\d{2}(?::?\d{2})?)?)?$/i;

/** Unix milliseconds, with fractions. A date without an offset is local to the zone. */
function parseDate(text: string, zone: string): number | undefined {
  const [, , , offset] = datePattern.exec(text) ?? [];
  if (!datePattern.test(text)) return undefined;
  try {
    const moment =
      offset === undefined
        ? Temporal.PlainDateTime.from(text).toZonedDateTime(zone).toInstant()
        : Temporal.Instant.from(text);
    return Number(moment.epochNanoseconds / 1_000_000n) + Number(moment.epochNanoseconds % 1_000_000n) / 1e6;
  } catch {
    return undefined;
  }
}

/** Milliseconds since midnight, with fractions. */
function parseClock(text: string): number | undefined {
  const [, h12, m12 = "0", half] = /^(\d{1,2})(?::(\d{2}))?\s?(AM|PM)$/i.exec(text) ?? [];
  const [, h24, m24, seconds = "0", fraction = ""] = /^(\d{1,2}):(\d{2})(?::(\d{2})(\.\d{1,9})?)?$/.exec(text) ?? [];
  const hour = half === undefined ? Number(h24) : (Number(h12) % 12) + (half.toUpperCase() === "PM" ? 12 : 0);
  const minute = Number(half === undefined ? m24 : m12);
  const inRange = half === undefined ? hour <= 23 : Number(h12) >= 1 && Number(h12) <= 12;
  if (!inRange || !(minute <= 59) || Number(seconds) > 59) return undefined;
  return ((hour * 60 + minute) * 60 + Number(seconds)) * 1_000 + Number(`0${fraction}`) * 1_000;
}

function parseZone(value: unknown, path: PolicyPath, report: ReportPolicyProblem): string | undefined {
  if (typeof value === "string" && /^[A-Za-z][A-Za-z0-9_+/-]*$/.test(value)) {
    try {
      return localTime(0 as UnixMs, value).timeZoneId;
    } catch {
      // reported below
    }
  }
  const meant = typeof value === "string" ? suggest(value, Intl.supportedValuesOf("timeZone")) : undefined;
  const what = typeof value === "string" ? `\`${value}\`` : describeValue(value);
  report(
    path,
    `${what} is not a time zone`,
    meant === undefined ? "write a name such as `UTC` or `Europe/Berlin`" : `did you mean \`${meant}\`?`,
  );
  return undefined;
}

const dayNames = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] as const;

/** 1 is Monday. A range may wrap around the end of the week: `fri-mon`. */
function parseDays(value: unknown, path: PolicyPath, report: ReportPolicyProblem): ReadonlySet<number> | undefined {
  const remedy = "write `*`, `mon,wed` or `tue-fri`";
  if (typeof value !== "string" || value.trim() === "") {
    report(path, `${describeValue(value)} is not a list of days`, remedy);
    return undefined;
  }
  if (value.trim() === "*") return new Set([1, 2, 3, 4, 5, 6, 7]);
  const days = new Set<number>();
  for (const part of value.split(",")) {
    const [first = "", last = first, ...more] = part.split("-").map((word) => word.trim());
    const [from, to] = [dayOf(first), dayOf(last)];
    if (from === undefined || to === undefined || more.length > 0) {
      const meant = suggest((from === undefined ? first : last).toLowerCase(), dayNames);
      report(
        path,
        `\`${part.trim()}\` is not a day of the week`,
        meant === undefined ? remedy : `did you mean \`${meant}\`?`,
      );
      return undefined;
    }
    for (let day = from; ; day = (day % 7) + 1) {
      days.add(day);
      if (day === to) break;
    }
  }
  return days;
}

function dayOf(word: string): number | undefined {
  const at = dayNames.findIndex((name) => word.toLowerCase() === name || word.toLowerCase() === name.slice(0, 3));
  return at < 0 ? undefined : at + 1;
}
