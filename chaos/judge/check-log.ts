/**
 * Check log: compares every answer that named a position with the log at the end of the run.
 *
 * Pure. The hash at a position covers everything before it, so one equal hash proves that nothing below was lost.
 */
import type { Ending, LoggedEvents } from "./history.ts";
import type { Losses } from "./losses.ts";
import { comesBefore, type Operation } from "./promises.ts";
import type { Findings } from "./violation.ts";

export function checkLog(
  all: readonly Operation[],
  ending: Ending,
  { losses, found }: Readonly<{ losses: Losses; found: Findings }>,
): void {
  const operations = all.filter(({ op }) => !losses.operations.has(op));
  if (ending.logProblem !== null)
    found.add({ check: "log-broken", at: Number.MAX_SAFE_INTEGER, what: ending.logProblem, about: {} });
  for (const operation of operations) checkAttempts(operation, found);
  if (ending.log === null) return;
  const byCause = Map.groupBy(ending.log, (event) => event.cause);
  for (const operation of operations) {
    if (operation.outcome === "done" && operation.link !== null)
      checkPosition(operation, ending.log, byCause.get(operation.commandId) ?? [], found);
  }
  checkOrder(operations, found);
}

function checkPosition(operation: Operation, log: LoggedEvents, caused: LoggedEvents, found: Findings): void {
  const { link, changed, op, intent, begin } = operation;
  if (link === null) return;
  const at = operation.end ?? begin;
  const about = { operation: op };
  const problem = lossOf(operation, log);
  if (problem !== undefined) {
    const what = `${intent.type} (${op}) was acknowledged at ${link.epoch}.${link.position}, and ${problem}`;
    found.add({ check: "acknowledged-event-lost", at, what, about });
  }
  const [first] = caused;
  if (!changed || first === undefined || link.position - first.position === caused.length - 1) return;
  const positions = caused.map((each) => each.position).join(", ");
  const what = `${intent.type} (${op}) has events at ${positions}, not one run that ends at ${link.position}`;
  found.add({ check: "repeated-command-differs", at, what, about });
}

function lossOf({ link, changed, commandId }: Operation, log: LoggedEvents): string | undefined {
  if (link === null || link.position === 0) return undefined;
  const there = log[link.position - 1];
  if (there === undefined) return `the log ends at ${log.length}`;
  if (there.position !== link.position) return `the log is not dense: ${there.position} stands there`;
  if (there.hash !== link.hash || there.epoch !== link.epoch)
    return `the log holds another ${there.type} there, of epoch ${there.epoch}`;
  if (changed && there.cause !== commandId)
    return `the event there (${there.type}) has another cause: ${there.cause ?? "none"}`;
  return undefined;
}

/** Every definite answer to one command id must equal the first one. */
function checkAttempts({ op, intent, attempts }: Operation, found: Findings): void {
  const answers = attempts.filter((each) => each.outcome === "done");
  const [first] = answers;
  const other = answers.find((each) => JSON.stringify(each.link) !== JSON.stringify(first?.link));
  if (first === undefined || other === undefined) return;
  const what = `${intent.type} (${op}) was acknowledged at ${first.link?.position} and again at ${other.link?.position}`;
  found.add({ check: "repeated-command-differs", at: other.end, what, about: { operation: op } });
}

/** A change acknowledged before another began must precede it in the log. One sweep over both times. */
function checkOrder(operations: readonly Operation[], found: Findings): void {
  const changes = operations.filter((each) => each.outcome === "done" && each.changed && each.link !== null);
  const acknowledged = [...changes].sort((a, b) => (a.end ?? 0) - (b.end ?? 0));
  let next = 0;
  let highest: Operation | undefined;
  for (const operation of [...changes].sort((a, b) => a.begin - b.begin)) {
    for (; (acknowledged[next]?.end ?? Number.POSITIVE_INFINITY) < operation.begin; next++) {
      const candidate = acknowledged[next];
      if (candidate?.link != null && (highest?.link == null || comesBefore(highest.link, candidate.link)))
        highest = candidate;
    }
    if (highest?.link == null || operation.link === null || comesBefore(highest.link, operation.link)) continue;
    const what = `${operation.op} stands at ${operation.link.position}, but began after ${highest.op} was acknowledged at ${highest.link.position}`;
    found.add({ check: "order-reversed", at: operation.begin, what, about: { operation: operation.op } });
  }
}
