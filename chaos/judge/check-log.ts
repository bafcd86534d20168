/**
 * Check log: compares every answer that named a position with the log at the end of the run.
 *
 * Pure. The hash at a position covers everything before it, so one equal hash proves that nothing below was lost.
 */
import type { Ending, Intent, LoggedEvents, SessionEntry } from "./history.ts";
import type { Losses } from "./losses.ts";
import { comesBefore, isWithin, type Operation } from "./promises.ts";
import type { Findings } from "./violation.ts";

export function checkLog(
  all: readonly Operation[],
  ending: Ending,
  { sessions, losses, found }: Readonly<{ sessions: readonly SessionEntry[]; losses: Losses; found: Findings }>,
): void {
  const operations = all.filter(({ op }) => !losses.operations.has(op));
  if (ending.logProblem !== null)
    found.add({ check: "log-broken", at: Number.MAX_SAFE_INTEGER, what: ending.logProblem, about: {} });
  for (const operation of operations) checkAttempts(operation, found);
  const { log } = ending;
  if (log === null) return;
  const byCause = Map.groupBy(log, (event) => event.cause);
  for (const operation of operations) {
    if (operation.outcome === "done" && operation.link !== null)
      checkPosition(operation, log, byCause.get(operation.commandId) ?? [], found);
  }
  for (const operation of operations.filter(({ local }) => local.length > 0))
    checkMerge(operation, { log, caused: byCause.get(operation.commandId) ?? [], operations, sessions, found });
  checkOrder(operations, found);
}

type MergeCheck = Readonly<{
  log: LoggedEvents;
  caused: LoggedEvents;
  operations: readonly Operation[];
  sessions: readonly SessionEntry[];
  found: Findings;
}>;

/** At the end the log has what a region accepted by itself, under the same command, once; or another command did it. */
function checkMerge(operation: Operation, { log, caused, operations, sessions, found }: MergeCheck): void {
  const { op, intent, local } = operation;
  const [first, last] = [caused[0], caused.at(-1)];
  const at = Math.min(...local.map((each) => each.at));
  const regions = local.map(({ region }) => region).join(", ");
  const about = { operation: op };
  const ends = intent.type === "revoke-session" ? endsOf(intent.session, log) : [];
  if (ends.length > 1) {
    const what = `${intent.type} (${op}), accepted in ${regions} alone, ended its session ${ends.length} times, at ${ends.join(", ")}`;
    found.add({ check: "repeated-command-differs", at, what, about });
    return;
  }
  if (first !== undefined && last !== undefined) {
    if (last.position - first.position === caused.length - 1) return;
    const positions = caused.map(({ position }) => position).join(", ");
    const what = `${intent.type} (${op}), accepted in ${regions} alone, has events at ${positions}, not one run`;
    found.add({ check: "repeated-command-differs", at, what, about });
    return;
  }
  if (mayBeDoneOtherwise(operation, { log, operations, sessions })) return;
  const what = `${intent.type} (${op}) was accepted in ${regions} alone, and the log has nothing of it at the end`;
  found.add({ check: "local-revocation-lost", at, what, about });
}

/** Where the log ends a session, whichever command did it. */
function endsOf(session: string, log: LoggedEvents): readonly number[] {
  return log
    .filter(({ type, stream }) => type === "SessionRevoked" && stream === `session:${session}`)
    .map(({ position }) => position);
}

/** Whether other commands, or the expiry of sessions, may have left nothing to record. */
function mayBeDoneOtherwise(
  operation: Operation,
  { log, operations, sessions }: Pick<MergeCheck, "log" | "operations" | "sessions">,
): boolean {
  const { intent, local } = operation;
  const others = operations.filter((other) => other !== operation && other.outcome !== "refused");
  const onUser = (user: string, types: readonly Intent["type"][]): boolean =>
    others.some(({ intent: other }) => types.includes(other.type) && "user" in other && other.user === user);
  if (intent.type === "suspend-user") return onUser(intent.user, ["suspend-user"]);
  const isMeant = (entry: SessionEntry): boolean =>
    intent.type === "revoke-session"
      ? entry.session === intent.session
      : intent.type === "revoke-user" &&
        entry.user === intent.user &&
        local.some(({ basis }) => basis !== null && isWithin(entry, basis));
  return sessions
    .filter(isMeant)
    .every(
      ({ session, user, expiresAt }) =>
        expiresAt !== null ||
        onUser(user, ["revoke-user", "suspend-user"]) ||
        others.some(({ intent: other }) => other.type === "revoke-session" && other.session === session) ||
        endsOf(session, log).length > 0,
    );
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
