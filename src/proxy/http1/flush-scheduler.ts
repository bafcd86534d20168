/**
 * Flush scheduler: what a turn of the event loop writes leaves at its end, when everything that arrived in the turn
 * has been handled.
 *
 * - Small writes spread over a turn each wake the other side for a moment; together they wake it once. Nothing waits
 *   longer than the turn.
 * - What is cut meanwhile is not sent. Requests to upstreams leave first: a process that is written to while still
 *   awake need not be woken.
 * - A turn may be long, and the process may be stopped within it. Each task gets the flush that it is part of, for
 *   which the clock is read once, and checks again what was checked too long before (enforce/exchanges.ts). A request
 *   to an upstream reads the clock once more right before it is written and shares its flush with others. A response
 *   has a flush of its own.
 */
export interface FlushTask {
  /** The side that it writes to. */
  readonly target: "upstream" | "caller";
  runFlush(flush: Flush): void;
}

/** One task, or a few that run one after the other. */
export class Flush {
  #now: number | undefined;
  /** Start of the flush, monotonic milliseconds. */
  get now(): number {
    this.#now ??= performance.now();
    return this.#now;
  }
}

/** Bounds a flush to a few milliseconds, also with thousands of tasks. */
const tasksPerFlushMax = 64;

let tasks: FlushTask[] = [];

export function scheduleFlush(task: FlushTask): void {
  if (tasks.length === 0) setImmediate(runAll);
  tasks.push(task);
}

/** Runs what is scheduled before the end of the turn. */
export function flushNow(): void {
  runAll();
}

function runAll(): void {
  const now = tasks;
  tasks = [];
  let flush = new Flush();
  let flushed = 0;
  for (const task of now) {
    if (task.target !== "upstream") continue;
    if (flushed++ === tasksPerFlushMax) {
      flush = new Flush();
      flushed = 1;
    }
    runTask(task, flush);
  }
  // A response leaves right after the clock was read: what leaves cannot be taken back from a caller.
  for (const task of now) if (task.target === "caller") runTask(task, new Flush());
}

function runTask(task: FlushTask, flush: Flush): void {
  try {
    task.runFlush(flush);
  } catch (error) {
    // The other tasks still run; this error is uncaught.
    setImmediate(() => {
      throw error;
    });
  }
}
