/**
 * Promises: what the operator was told, as cuts: from when on nothing of a session may pass any more.
 *
 * Pure. A cut begins when the whole of a complete receipt had reached the operator, later than what it speaks of;
 * without one, when every lease that may have been granted before the acknowledgement is over; and when a session
 * expires. Whenever it is not certain that something must not pass, nothing is promised: a checker that cries wolf is
 * switched off.
 */

import { type CommandEntry, type History, type Ns, nsPerMs, type SessionEntry, type Wish } from "./history.ts";
import type { Losses } from "./losses.ts";

/** One wish of the operator over all its attempts (a command is sent again with the same id). */
export type Operation = Readonly<{
  op: string;
  wish: Wish;
  commandId: string;
  begin: Ns;
  /** `unknown`: it may have happened, or may still happen. */
  outcome: "done" | "refused" | "unknown";
  /** When a definite answer had come; null: none did. */
  end: Ns | null;
  link: CommandEntry["link"];
  changed: boolean;
  /** When the first complete receipt had come; null: none did. */
  completeAt: Ns | null;
  attempts: readonly CommandEntry[];
}>;

/** After `from`, nothing of a session passes on a route; what was let through from `until` on has another reason. */
export type Cut = Readonly<{
  /** What ended it: an operation, or the session's own expiry. */
  by: string;
  what: string;
  why: "receipt" | "window" | "expiry";
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
    const definite = all.filter((each) => each.outcome !== "unknown").sort((a, b) => a.end - b.end)[0];
    return [
      {
        op: first.op,
        wish: first.wish,
        commandId: first.commandId,
        begin: Math.min(...all.map((each) => each.begin)),
        outcome: definite?.outcome ?? "unknown",
        end: definite?.end ?? null,
        link: definite?.link ?? null,
        changed: definite?.changed ?? false,
        completeAt: complete.get(first.op) ?? null,
        attempts: all,
      },
    ];
  });
}

export type RouteTerms = Readonly<{
  /** The group that it lets in; null: everybody who is signed in. */
  group: string | null;
  /** How long a node that hears nothing may go on deciding for it. */
  windowMs: number;
}>;
export type Cuts = Readonly<{ of(session: string, terms: RouteTerms): readonly Cut[] }>;

/** How far clocks and the sweep of a tick may be off when a session expires. */
const expirySlackMs = 100;
const never = Number.POSITIVE_INFINITY;

/** Something that ends what it names, and from when on that may be undone. */
type End = Readonly<{ operation: Operation; acknowledgedAt: Ns; until: Ns }>;

export function cutsOf(history: History, operations: readonly Operation[], losses: Losses): Cuts {
  const ofSession = new Map<string, End[]>();
  const ofMember = new Map<string, End[]>();
  const sessions = new Map(history.session.map((entry) => [entry.session, entry]));
  const sessionsOf = Map.groupBy(history.session, (entry) => entry.user);
  for (const operation of operations) {
    const { wish, link } = operation;
    if (operation.outcome !== "done" || operation.end === null) continue;
    const end: End = { operation, acknowledgedAt: operation.end, until: never };
    if (wish.type === "revoke-session") put(ofSession, wish.session, end);
    if ((wish.type === "revoke-user" || wish.type === "suspend-user") && link !== null) {
      const before = (entry: SessionEntry): boolean => comesBefore(entry, link);
      for (const { session } of (sessionsOf.get(wish.user) ?? []).filter(before)) put(ofSession, session, end);
    }
    if (wish.type === "remove-member") {
      const undoneFrom = losses.operations.has(operation.op) ? losses.from : never;
      const until = Math.min(undoneFrom, mayBeMemberFrom(operation, operations));
      put(ofMember, memberKey(wish.user, wish.group), { ...end, until });
    }
  }
  return {
    of(session, { group, windowMs }) {
      const entry = sessions.get(session);
      if (entry === undefined) return [];
      const ends = ofSession.get(session) ?? [];
      const left = group === null ? [] : (ofMember.get(memberKey(entry.user, group)) ?? []);
      const cuts = [...ends, ...left].map((end) => cutOf(end, windowMs));
      // An addition that had begun by then may have been applied together with the removal.
      return [...cuts, ...expiryOf(entry)].filter(({ from, until }) => from < until);
    },
  };
}

/** By a complete receipt, or without one by the longest time that any node may go on not knowing. */
function cutOf({ operation, acknowledgedAt, until }: End, windowMs: number): Cut {
  const { op, wish, completeAt } = operation;
  const window = acknowledgedAt + windowMs * nsPerMs;
  const receipt = completeAt ?? never;
  const why = receipt <= window ? "receipt" : "window";
  return { by: op, what: `${wish.type} (${op})`, why, from: Math.min(receipt, window), until };
}

function expiryOf({ session, expiresAt }: SessionEntry): Cut[] {
  if (expiresAt === null) return [];
  const from = expiresAt + expirySlackMs * nsPerMs;
  return [{ by: "expiry", what: `session ${session}`, why: "expiry", from, until: never }];
}

function put<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const values = map.get(key);
  if (values === undefined) map.set(key, [value]);
  else values.push(value);
}

/** The earliest time from which an addition may have undone a removal. */
function mayBeMemberFrom(removal: Operation, operations: readonly Operation[]): Ns {
  const { wish, link } = removal;
  if (wish.type !== "remove-member") return never;
  const additions = operations.filter(
    (other) => other.wish.type === "add-member" && other.wish.user === wish.user && other.wish.group === wish.group,
  );
  return additions.reduce((earliest, addition) => {
    const isBefore =
      addition.outcome === "refused" || (addition.link !== null && link !== null && comesBefore(addition.link, link));
    return isBefore ? earliest : Math.min(earliest, addition.begin);
  }, never);
}

type Place = Readonly<{ epoch: number; position: number }>;

/** In the log, whose positions begin again where a lost suffix began. */
export function comesBefore(one: Place, other: Place): boolean {
  return one.epoch === other.epoch ? one.position < other.position : one.epoch < other.epoch;
}

/** One person in one group. */
export function memberKey(user: string, group: string): string {
  return JSON.stringify([user, group]);
}
