/**
 * Turn end: what is to be sent leaves when everything that has come in this turn of the event loop has been looked at.
 *
 * Small writes that are spread over a turn each wake the other side for a moment; together they wake it once. Nothing waits for
 * longer than the turn, and whatever is cut meanwhile is not sent. Upstreams come first: whoever is written to again while it is still awake
 * need not be woken again.
 *
 * A turn may be long, and a process may be stopped in the middle of one: whoever is run is told of which flush it is part, so that the
 * clock is read for that once and what was looked at too long ago is looked at again (exchanges.ts).
 */
export interface TurnEndTask {
  /** Whom it writes to. */
  readonly towards: "upstream" | "caller";
  runAtTurnEnd(flush: Flush): void;
}

/** A few tasks that are run one behind the other, by their number. */
export type Flush = number;
/** In place of it, for what leaves before the end of the turn: a flush of its own. */
export const ownFlush: Flush = Number.NaN;

/** A flush is over in a few milliseconds, also where there are thousands of tasks. */
const tasksOfFlushMax = 64;

let tasks: TurnEndTask[] = [];
let flush: Flush = 0;
let flushed = 0;

export function atTurnEnd(task: TurnEndTask): void {
  if (tasks.length === 0) setImmediate(run);
  tasks.push(task);
}

function run(): void {
  const now = tasks;
  tasks = [];
  flushed = tasksOfFlushMax;
  for (const task of now) if (task.towards === "upstream") attempt(task);
  for (const task of now) if (task.towards === "caller") attempt(task);
}

function attempt(task: TurnEndTask): void {
  if (++flushed > tasksOfFlushMax) {
    flush++;
    flushed = 1;
  }
  try {
    task.runAtTurnEnd(flush);
  } catch (error) {
    // The others are sent all the same; this one is nobody's to handle.
    setImmediate(() => {
      throw error;
    });
  }
}
