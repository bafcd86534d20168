/**
 * Turn end: what is to be sent leaves when everything that has come in this turn of the event loop has been looked at.
 *
 * Small writes that are spread over a turn each wake the other side for a moment; together they wake it once. Nothing waits for
 * longer than the turn, and whatever is cut meanwhile is not sent. Upstreams come first: whoever is written to again while it is still awake
 * need not be woken again.
 *
 * A turn may be long, and a process may be stopped in the middle of one: whoever is run is told of the flush that it is part of,
 * for which the clock is read once, and looks again at what was looked at too long before (exchanges.ts). A request to an upstream looks
 * at the clock once more right before it is written, and shares its flush with others; an answer has one of its own.
 */
export interface FlushTask {
  /** Whom it writes to. */
  readonly target: "upstream" | "caller";
  runFlush(flush: Flush): void;
}

/** One task, or a few that are run one behind the other. */
export class Flush {
  #now: number | undefined;
  /** When it began. Monotonic. */
  get now(): number {
    this.#now ??= performance.now();
    return this.#now;
  }
}

/** So that a flush is over in a few milliseconds, also where there are thousands of tasks. */
const tasksPerFlushMax = 64;

let tasks: FlushTask[] = [];

export function scheduleFlush(task: FlushTask): void {
  if (tasks.length === 0) setImmediate(runAll);
  tasks.push(task);
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
  // An answer leaves right behind its look at the clock: what a stop between the two lets out is a caller's for good.
  for (const task of now) if (task.target === "caller") runTask(task, new Flush());
}

function runTask(task: FlushTask, flush: Flush): void {
  try {
    task.runFlush(flush);
  } catch (error) {
    // The others are sent all the same; this one is nobody's to handle.
    setImmediate(() => {
      throw error;
    });
  }
}
