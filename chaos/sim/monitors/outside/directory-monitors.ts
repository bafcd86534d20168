/**
 * Directory monitors: what a run of a directory may take away, and what the log has after the last one.
 *
 * - A run that failed, that read only a part, or that found the directory suddenly empty withdraws no membership.
 * - A run withdraws a membership only if the directory did not have it when the run began.
 * - Once the directory neither changes nor fails, the memberships of its source are those of the directory, and people
 *   that it lacks, or has as not active, have no session.
 */

import type { MassChangeLimits } from "../../../../src/broker/commands/performed.ts";
import type { SimFactOf } from "../../facts.ts";
import type { DirectoryState } from "../../outside/outside-facts.ts";
import { directoryUserOf } from "../../outside/provisioned-people.ts";
import type { LogPoint } from "../chains.ts";
import type { GroundTruth } from "../ground-truth.ts";
import { formatLink } from "../log-monitors.ts";
import type { Monitor } from "../monitor.ts";
import { WrittenCommands } from "./written-commands.ts";

type Run = {
  readonly began: SimFactOf<"directory-run">;
  /** The last one that the directory answered; `last`: all of it was read. */
  pages: "none" | "some" | "last";
  isPartial: boolean;
};

/** A change, and a run that was lost with its leader, are made up for in this time (ms). */
const settledMs = 25_000;

/** @param limits of mass changes; null: none of the directory's is held, so the log follows it */
export function watchDirectory(truth: GroundTruth, limits: MassChangeLimits | null): Monitor {
  const { findings, observations, rights } = truth;
  const written = new WrittenCommands(truth);
  const runs = new Map<number, Run>();
  const submitted = new Map<string, number>();
  let present: SimFactOf<"directory-changed"> | null = null;
  /** By group: when operators removed it with everything in it. */
  const removedAt = new Map<string, number>();
  let fullAt = Number.NEGATIVE_INFINITY;

  const { before, after } = written.handlers(({ commandId, points, last }, fact) => {
    const run = runs.get(submitted.get(commandId) ?? Number.NaN);
    for (const { recorded, before: previous } of points) {
      const event = recorded?.event;
      if (event?.type === "GroupRemoved") removedAt.set(event.groupId, fact.at);
      if (run === undefined || event === undefined || previous === null) continue;
      for (const [user, group] of withdrawnBy(event, previous)) checkRemoval(run, { user, group, point: last }, fact);
    }
  });

  /** Memberships that an event withdraws, and people whose access it ends. */
  function withdrawnBy(
    event: NonNullable<LogPoint["recorded"]>["event"],
    before: LogPoint,
  ): readonly (readonly [user: string, group: string | null])[] {
    const isIn = (user: string, group: string): boolean => rights.sourcesOf(user, group, before).has("directory");
    switch (event.type) {
      case "GroupMembersChanged":
        return event.source === "directory" ? event.removed.map((user) => [user, event.groupId] as const) : [];
      case "GroupRemoved": {
        const members = rights.membersOf(event.groupId).filter((user) => isIn(user, event.groupId));
        return members.map((user) => [user, event.groupId] as const);
      }
      case "UserGroupsReplaced": {
        const left = new Set<string>(event.groupIds);
        const { userId, source } = event;
        const lost = rights.groupsOf(userId).filter((group) => isIn(userId, group) && !left.has(group));
        return source === "directory" ? lost.map((group) => [userId, group] as const) : [];
      }
      case "UserSuspended":
        return [[event.userId, null]];
      default:
        return [];
    }
  }

  function checkRemoval(
    run: Run,
    { user, group, point }: Readonly<{ user: string; group: string | null; point: LogPoint }>,
    fact: SimFactOf<"wrote">,
  ): void {
    observations.add("removal-checked");
    const { state, isEmpty, run: number } = run.began;
    const why = run.isPartial
      ? "read only a part"
      : isEmpty
        ? "found the directory suddenly empty"
        : run.pages === "last"
          ? null
          : "has not read everything";
    const isNamed = (id: string): boolean => directoryUserOf(id) === user || id === user;
    const has =
      group === null
        ? Object.entries(state.people).some(([id, isActive]) => isActive && isNamed(id))
        : state.groups[group]?.some(isNamed) === true;
    // That a person is not active is true in a part, too.
    if (!has && (why === null || group === null)) return;
    const from = group === null ? `ends the access of ${user}` : `takes ${user} out of ${group}`;
    const what = `run ${number} ${from} at ${formatLink(point.link)}, and ${why ?? "the directory has that person there"}`;
    findings.add("directory-kept", what, [run.began, fact]);
  }

  function checkEnd(): void {
    const isSettled = present !== null && truth.now - present.at >= settledMs && truth.faultsOver !== null;
    if (present === null || !isSettled || limits !== null) return;
    const { state } = present;
    for (const [group, ids] of Object.entries(state.groups)) {
      if ((removedAt.get(group) ?? Number.NEGATIVE_INFINITY) >= fullAt) continue;
      observations.add("directory-end-checked");
      const wanted = new Set(ids.map(directoryUserOf) as string[]);
      // People who have signed in follow their person of the directory.
      const people = new Set<string>(allPeople(state));
      const all = [...new Set([...rights.membersOf(group), ...wanted])].filter((user) => !people.has(user));
      const isIn = (user: string): boolean => rights.sourcesOf(user, group, truth.head).has("directory");
      const signedIn = [...people].filter((id) => rights.sessionsOf(id, truth.head).length > 0);
      const wrong = [
        ...all.filter((user) => isIn(user) !== wanted.has(user)),
        ...signedIn.filter((id) => isIn(id) !== wanted.has(directoryUserOf(id))),
      ];
      if (wrong.length === 0) continue;
      const what = `${wrong.join(", ")}: membership in ${group} is not that of the directory at the end`;
      findings.add("directory-followed", what, [present]);
    }
    for (const id of allPeople(state)) {
      if (state.people[id] === true) continue;
      for (const session of rights.sessionsOf(id, truth.head)) {
        if (rights.denialOf(session, truth.head) !== null) continue;
        const what = `session ${session} of ${id} is live at the end, though the directory ${id in state.people ? "has the person as not active" : "no longer has the person"}`;
        findings.add("directory-followed", what, [present]);
      }
    }
  }

  /** All people that the directory ever had. */
  function allPeople({ people }: DirectoryState): readonly string[] {
    return [...new Set([...Object.keys(people), ...known])];
  }
  const known = new Set<string>();

  return {
    invariants: ["directory-kept", "directory-followed"],
    before: {
      ...before,
      "directory-changed": (fact) => {
        present = fact;
        for (const id of Object.keys(fact.state.people)) known.add(id);
      },
      "directory-run": (fact) => {
        observations.add("directory-run-checked");
        runs.set(fact.run, { began: fact, pages: "none", isPartial: false });
        if (fact.mode === "full" && !fact.isEmpty) fullAt = fact.at;
      },
      "directory-page": (fact) => {
        const run = runs.get(fact.run);
        if (run === undefined) return;
        if (fact.what === "partial") run.isPartial = true;
        if (fact.what === "page" || fact.what === "last") run.pages = fact.what === "last" ? "last" : "some";
      },
      "directory-submitted": (fact) => {
        submitted.set(fact.commandId, fact.run);
      },
      "run-over": checkEnd,
    },
    after,
  };
}
