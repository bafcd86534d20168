/**
 * Rights: what a person certainly has or certainly never had, whatever the unknown outcomes were.
 *
 * Pure. "Had begun" counts, not "was answered": a command may take effect at any time after it was sent.
 */

import { type History, type Ns, nsPerMs, type RequestEntry } from "./history.ts";
import type { Losses } from "./losses.ts";
import { memberKey, type Operation } from "./promises.ts";

export type Rights = Readonly<{
  /** No command that had begun by then can have ended this session. */
  surelyLive(session: string, at: Ns): boolean;
  /** No command that had begun by then can have removed this user from the group. */
  neverRemoved(user: string, group: string, at: Ns): boolean;
  /** No command that had begun by then can have added this user to the group. */
  neverAdded(user: string, group: string, at: Ns): boolean;
}>;

const never = Number.POSITIVE_INFINITY;
/** A session this close to its expiry does not count as certainly live. */
const expiryMarginMs = 1_000;

export function rightsOf(history: History, operations: readonly Operation[], losses: Losses): Rights {
  const sessions = new Map(history.session.map((entry) => [entry.session, entry]));
  const revokedFrom = new Map<string, Ns>();
  const removedFrom = new Map<string, Ns>();
  const addedFrom = new Map<string, Ns>();
  const cutsOfUser = new Map<string, Operation[]>();
  const earliest = (map: Map<string, Ns>, key: string, at: Ns): void => {
    map.set(key, Math.min(at, map.get(key) ?? at));
  };
  for (const operation of operations) {
    const { intent, begin, outcome, local } = operation;
    if (outcome === "refused" && local.length === 0) continue;
    if (intent.type === "revoke-session") earliest(revokedFrom, intent.session, begin);
    if (intent.type === "remove-member") earliest(removedFrom, memberKey(intent.user, intent.group), begin);
    if (intent.type === "add-member") earliest(addedFrom, memberKey(intent.user, intent.group), begin);
    if (intent.type === "revoke-user" || intent.type === "suspend-user")
      cutsOfUser.set(intent.user, [...(cutsOfUser.get(intent.user) ?? []), operation]);
    // The lifted suspension may be in force again.
    if (intent.type === "restore-user" && losses.operations.has(operation.op))
      cutsOfUser.set(intent.user, [
        ...(cutsOfUser.get(intent.user) ?? []),
        { ...operation, begin: losses.from, end: null },
      ]);
    if (intent.type === "add-member" && losses.operations.has(operation.op))
      earliest(removedFrom, memberKey(intent.user, intent.group), losses.from);
  }
  return {
    surelyLive(session, at) {
      const entry = sessions.get(session);
      if (losses.sessions.has(session) && at >= losses.from) return false;
      if (entry === undefined || (revokedFrom.get(session) ?? never) <= at) return false;
      if (entry.expiresAt !== null && at > entry.expiresAt - expiryMarginMs * nsPerMs) return false;
      return (cutsOfUser.get(entry.user) ?? []).every(
        ({ begin, end, local }) => begin > at || (end !== null && end < entry.begin && local.length === 0),
      );
    },
    neverRemoved: (user, group, at) => (removedFrom.get(memberKey(user, group)) ?? never) > at,
    neverAdded: (user, group, at) => (addedFrom.get(memberKey(user, group)) ?? never) > at,
  };
}

export type EntitlementTerms = Readonly<{
  /** The group that a route admits; null: every signed-in person. */
  groupOf: (route: string) => string | null;
  /** The members of a group at the start. */
  isFirstMember: (user: string, group: string) => boolean;
}>;

/** A proxy that is down. A load balancer would know. */
const nobodyThere = "ECONNREFUSED";

/** Whether a request reached a running proxy and certainly had a right to be permitted. */
export function entitlementOf(
  history: History,
  rights: Rights,
  { groupOf, isFirstMember }: EntitlementTerms,
): (request: RequestEntry) => boolean {
  const users = new Map(history.session.map((entry) => [entry.session, entry.user]));
  return ({ session, route, end, problem }) => {
    const user = users.get(session);
    if (problem === nobodyThere || user === undefined || !rights.surelyLive(session, end)) return false;
    const group = groupOf(route);
    return group === null || (isFirstMember(user, group) && rights.neverRemoved(user, group, end));
  };
}
