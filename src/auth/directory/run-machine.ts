/**
 * Run machine: one run of a directory, from its first page to the decision what it may change. Pure.
 *
 * - A page that could not be read is requested again, at the same cursor, after a pause that the directory or the
 *   number of failures decides. What it keeps refusing ends the run, and nothing is removed.
 * - A delta that the directory no longer has, or that meets groups inside groups, becomes a full run.
 *
 *   reading --page--> reading, or applying after the last one
 *   reading --failure--> waiting --waited--> reading; or failed
 */
import { type DirectoryMode, type Fact, unreachable } from "../../events/index.ts";
import type { DirectoryErrorKind } from "./directory-error.ts";
import type { DirectoryPage } from "./source.ts";
import { StagedRun } from "./staged-run.ts";

export type DirectoryRun = Readonly<{
  /** Null: a full run. */
  since: string | null;
  cursor: string | null;
  staged: StagedRun;
  pages: number;
  /** Failures in a row, at this cursor. */
  failures: number;
  restarts: number;
  waitedMs: number;
}>;

export type RunInput =
  | Fact<"begin", object>
  | Fact<"page", { page: DirectoryPage }>
  | Fact<"readFailed", { kind: DirectoryErrorKind; message: string; retryAfterMs: number | null }>
  | Fact<"waited", object>;

export type RunEffect =
  | Fact<"read", { since: string | null; cursor: string | null }>
  | Fact<"wait", { ms: number }>
  /** Everything was read. `delta`: where the next delta begins. */
  | Fact<"apply", { staged: StagedRun; delta: string | null }>
  | Fact<"fail", { message: string }>;

const pagesMax = 1_000_000;
const restartsMax = 3;
/** Of `unreachable`, which a pause may cure. A malformed answer may be one that was cut: it gets one more attempt. */
const failuresMax: Readonly<Partial<Record<DirectoryErrorKind, number>>> = { unreachable: 6, malformed: 1 };
const firstPauseMs = 1_000;
const limitedPauseMs = 30_000;
/** All pauses of one run together: a directory that limits us for longer is read by a later run. */
export const waitedMsMax = 6 * 3_600_000;

export function newRun(since: string | null): DirectoryRun {
  return { since, cursor: null, staged: stageOf(since), pages: 0, failures: 0, restarts: 0, waitedMs: 0 };
}

export const modeOf = ({ since }: Pick<DirectoryRun, "since">): DirectoryMode => (since === null ? "full" : "delta");

export function step(run: DirectoryRun, input: RunInput): readonly [DirectoryRun, RunEffect] {
  switch (input.type) {
    case "begin":
    case "waited":
      return [run, { type: "read", since: run.since, cursor: run.cursor }];
    case "page":
      return afterPage(run, input.page);
    case "readFailed":
      return afterFailure(run, input);
    default:
      return unreachable(input);
  }
}

function afterPage(before: DirectoryRun, page: DirectoryPage): readonly [DirectoryRun, RunEffect] {
  before.staged.add(page);
  const run = { ...before, pages: before.pages + 1, failures: 0, cursor: page.next };
  if (run.since !== null && run.staged.isNested) return restart(run, "groups inside groups need a full run");
  if (page.next === null) return [run, { type: "apply", staged: run.staged, delta: page.delta }];
  if (page.next === before.cursor || run.pages >= pagesMax)
    return [run, { type: "fail", message: "the directory's pages do not end" }];
  return [run, { type: "read", since: run.since, cursor: run.cursor }];
}

function afterFailure(
  run: DirectoryRun,
  { kind, message, retryAfterMs }: Extract<RunInput, { type: "readFailed" }>,
): readonly [DirectoryRun, RunEffect] {
  if (kind === "deltaExpired") return restart(run, message);
  const failures = run.failures + 1;
  const mayRetry = kind === "limited" || failures <= (failuresMax[kind] ?? 0);
  const ms = kind === "limited" ? (retryAfterMs ?? limitedPauseMs) : firstPauseMs * 2 ** (failures - 1);
  const waitedMs = run.waitedMs + ms;
  if (!mayRetry || waitedMs > waitedMsMax) return [run, { type: "fail", message }];
  return [
    { ...run, failures, waitedMs },
    { type: "wait", ms },
  ];
}

/** Begins again as a full run; nothing that was read so far counts. */
function restart(run: DirectoryRun, message: string): readonly [DirectoryRun, RunEffect] {
  if (run.restarts >= restartsMax) return [run, { type: "fail", message }];
  const { waitedMs } = run;
  const fresh = { ...newRun(null), restarts: run.restarts + 1, waitedMs };
  return [fresh, { type: "read", since: null, cursor: null }];
}

function stageOf(since: string | null): StagedRun {
  return new StagedRun(modeOf({ since }));
}
