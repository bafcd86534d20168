/**
 * Turn end: what is to be sent leaves when everything that has come in this turn of the event loop has been looked at.
 *
 * Small writes that are spread over a turn each wake the other side for a moment; together they wake it once. Nothing waits for
 * longer than the turn, and whatever is cut meanwhile is not sent. Upstreams come first: whoever is written to again while it is still awake
 * need not be woken again.
 */
export interface TurnEndTask {
  /** Whom it writes to. */
  readonly towards: "upstream" | "caller";
  runAtTurnEnd(): void;
}

let tasks: TurnEndTask[] = [];

export function atTurnEnd(task: TurnEndTask): void {
  if (tasks.length === 0) setImmediate(run);
  tasks.push(task);
}

function run(): void {
  const now = tasks;
  tasks = [];
  for (const task of now) if (task.towards === "upstream") attempt(task);
  for (const task of now) if (task.towards === "caller") attempt(task);
}

function attempt(task: TurnEndTask): void {
  try {
    task.runAtTurnEnd();
  } catch (error) {
    // The others are sent all the same; this one is nobody's to handle.
    setImmediate(() => {
      throw error;
    });
  }
}
