/**
 * Promises: the operator's receipts as cuts: the time after which nothing of a session may pass.
 *
 * Pure. A cut begins when a complete receipt has fully reached the operator, which is later than the event itself.
 * Without a receipt it begins when every lease that may have been granted before the acknowledgement has expired. It
 * also begins when a session expires. If it is uncertain that something must not pass, nothing is promised: a checker
 * with false alarms is switched off.
 */

import { type CommandEntry, type History, type Intent, type Ns, nsPerMs, type SessionEntry } from "./history.ts";
import type { Losses } from "./losses.ts";

/** One command of the operator over all its attempts, which share the command id. */
export type Operation = Readonly<{
  op: string;
  intent: Intent;
  commandId: string;
  begin: Ns;
  /** `unknown`: it may have happened or may still happen. */
  outcome: "done" | "refused" | "unknown";
  /** The regions that accepted it by themselves while cut off. It may take effect in the log at any later time. */
  local: readonly LocalAcceptance[];
  /** When a definite answer had arrived; null: never. */
  end: Ns | null;
  link: CommandEntry["link"];
  changed: boolean;
  /** When the first complete receipt had arrived; null: never. */
  completeAt: Ns | null;
  attempts: readonly CommandEntry[];
}>;

/** A region has accepted a command by itself. */
export type LocalAcceptance = Readonly<{
  region: string;
  /** When the first such answer had arrived. */
  at: Ns;
  /** When the first complete receipt of the region had arrived; null: never. */
  completeAt: Ns | null;
  /** What the region knew then; null: no receipt says it. */
  basis: Position | null;
}>;

/** After `from`, nothing of a session may pass on a route. From `until` on it may be permitted for another reason. */
export type Cut = Readonly<{
  /** The cause: an operation, or the expiry of the session. */
  by: string;
  what: string;
  why: "receipt" | "window" | "expiry";
  /** Where it holds; null: everywhere. */
  region: string | null;
  from: Ns;
  until: Ns;
}>;

export function operationsOf(history: History): readonly Operation[] {
  const attempts = Map.groupBy(history.command, (command) => command.op);
  const complete = new Map<string, Ns>();
  for (const receipt of history.receipt) {
    if (receipt.complete) complete.set(receipt.op, Math.min(receipt.end, complete.get(receipt.op) ?? receipt.end));
  }
  return [...attempts.values()].flatMap((all) => {
    const [first] = all;
    if (first === undefined) return [];
    const isDefinite = ({ outcome }: CommandEntry): boolean => outcome === "done" || outcome === "refused";
    const definite = all.filter(isDefinite).sort((a, b) => a.end - b.end)[0];
    return [
      {
        op: first.op,
        intent: first.intent,
        commandId: first.commandId,
        begin: Math.min(...all.map((each) => each.begin)),
        outcome: definite?.outcome === "done" ? "done" : definite?.outcome === "refused" ? "refused" : "unknown",
        local: localAcceptancesOf(all, history["local-receipt"]),
        end: definite?.end ?? null,
        link: definite?.link ?? null,
        changed: definite?.changed ?? false,
        completeAt: complete.get(first.op) ?? null,
        attempts: all,
      },
    ];
  });
}

function localAcceptancesOf(
  attempts: readonly CommandEntry[],
  receipts: History["local-receipt"],
): readonly LocalAcceptance[] {
  const accepted = Map.groupBy(
    attempts.filter(({ outcome }) => outcome === "local"),
    ({ region }) => region,
  );
  return [...accepted].map(([region, all]) => {
    const own = receipts.filter((receipt) => receipt.region === region && receipt.op === all[0]?.op);
    const complete = own.filter((receipt) => receipt.complete).map(({ end }) => end);
    return {
      region,
      at: Math.min(...all.map(({ end }) => end)),
      completeAt: complete.length === 0 ? null : Math.min(...complete),
      basis: own.find(({ basis }) => basis !== null)?.basis ?? null,
    };
  });
}

export type RouteTerms = Readonly<{
  /** The group that it admits; null: every signed-in person. */
  group: string | null;
  /** How long an isolated node may decide for it. */
  windowMs: number;
}>;
export type Cuts = Readonly<{
  /** @param region of the node */
  of(session: string, region: string | null, terms: RouteTerms): readonly Cut[];
}>;

/** The allowed error of clocks and of the sweep when a session expires. */
const expirySlackMs = 100;
const never = Number.POSITIVE_INFINITY;

/** An end of its targets in a region or everywhere, and the time from which it may be undone. */
type End = Readonly<{
  operation: Operation;
  region: string | null;
  acknowledgedAt: Ns;
  completeAt: Ns | null;
  until: Ns;
}>;

export function cutsOf(history: History, operations: readonly Operation[], losses: Losses): Cuts {
  const ofSession = new Map<string, End[]>();
  const ofMember = new Map<string, End[]>();
  const sessions = new Map(history.session.map((entry) => [entry.session, entry]));
  const sessionsOf = Map.groupBy(history.session, (entry) => entry.user);
  function endSessions(end: End, isMeant: (entry: SessionEntry) => boolean): void {
    const { intent } = end.operation;
    if (intent.type === "revoke-session") put(ofSession, intent.session, end);
    if (intent.type !== "revoke-user" && intent.type !== "suspend-user") return;
    for (const { session } of (sessionsOf.get(intent.user) ?? []).filter(isMeant)) put(ofSession, session, end);
  }
  for (const operation of operations) {
    const { intent, link, completeAt } = operation;
    for (const { region, at, completeAt, basis } of operation.local) {
      const end = { operation, region, acknowledgedAt: at, completeAt, until: never };
      endSessions(end, (entry) => basis !== null && isWithin(entry, basis));
    }
    if (operation.outcome !== "done" || operation.end === null) continue;
    const end: End = { operation, region: null, acknowledgedAt: operation.end, completeAt, until: never };
    endSessions(end, (entry) => link !== null && comesBefore(entry, link));
    if (intent.type === "remove-member") {
      const undoneFrom = losses.operations.has(operation.op) ? losses.from : never;
      const until = Math.min(undoneFrom, mayBeMemberFrom(operation, operations));
      put(ofMember, memberKey(intent.user, intent.group), { ...end, until });
    }
  }
  return {
    of(session, region, { group, windowMs }) {
      const entry = sessions.get(session);
      if (entry === undefined) return [];
      const ends = ofSession.get(session) ?? [];
      const left = group === null ? [] : (ofMember.get(memberKey(entry.user, group)) ?? []);
      const holds = (end: End): boolean => end.region === null || end.region === region;
      const cuts = [...ends.filter(holds), ...left].map((end) => cutOf(end, windowMs));
      // An addition that had begun may have been applied with the removal.
      return [...cuts, ...expiryOf(entry)].filter(({ from, until }) => from < until);
    },
  };
}

/** By a complete receipt; without one, by the longest time that any node may not know it. */
function cutOf({ operation, region, acknowledgedAt, completeAt, until }: End, windowMs: number): Cut {
  const { op, intent } = operation;
  const window = acknowledgedAt + windowMs * nsPerMs;
  const receipt = completeAt ?? never;
  const why = receipt <= window ? "receipt" : "window";
  const what = region === null ? `${intent.type} (${op})` : `${intent.type} (${op}) in ${region}`;
  return { by: op, what, why, region, from: Math.min(receipt, window), until };
}

function expiryOf({ session, expiresAt }: SessionEntry): Cut[] {
  if (expiresAt === null) return [];
  const from = expiresAt + expirySlackMs * nsPerMs;
  return [{ by: "expiry", what: `session ${session}`, why: "expiry", region: null, from, until: never }];
}

function put<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, [value]);
  else values.push(value);
}

/** The earliest time from which an addition may have undone a removal. */
function mayBeMemberFrom(removal: Operation, operations: readonly Operation[]): Ns {
  const { intent, link } = removal;
  if (intent.type !== "remove-member") return never;
  const additions = operations.filter(
    (other) =>
      other.intent.type === "add-member" && other.intent.user === intent.user && other.intent.group === intent.group,
  );
  return additions.reduce((earliest, addition) => {
    const isBefore =
      addition.outcome === "refused" || (addition.link !== null && link !== null && comesBefore(addition.link, link));
    return isBefore ? earliest : Math.min(earliest, addition.begin);
  }, never);
}

type Position = Readonly<{ epoch: number; position: number }>;

/** Order in the log, whose positions restart where a lost suffix began. */
export function comesBefore(one: Position, other: Position): boolean {
  return one.epoch === other.epoch ? one.position < other.position : one.epoch < other.epoch;
}

/** Whether someone who had seen the log up to `known` had seen it. */
export function isWithin(one: Position, known: Position): boolean {
  return !comesBefore(known, one);
}

/** The membership of one person in one group. */
export function memberKey(user: string, group: string): string {
  return JSON.stringify([user, group]);
}
