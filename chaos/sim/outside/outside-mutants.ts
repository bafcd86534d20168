/** Mutants of what arrives from outside: logouts, provisioned people, mass changes (mutants.ts). Pure data. */
import type { Mutant } from "../mutant.ts";

const recordLogout = "src/broker/commands/session/record-logout.ts";
const createSession = "src/broker/commands/session/create-session.ts";
const accessRequest = "src/broker/commands/access-request";
const massChange = "src/broker/commands/held/guard-mass-change.ts";

export const outsideMutants: Readonly<Record<string, Mutant>> = {
  "logout-not-remembered": {
    meaning: "a logout that no session is known of yet is not recorded",
    changes: [
      {
        file: recordLogout,
        take: "const remembered = command.remembered && hasRoom ?",
        put: 'const remembered = command.remembered && hasRoom && logoutId === "" ?',
      },
    ],
    within: 6,
    where: "logouts",
  },
  "logout-ignored": {
    meaning: "a sign-in with a session of the provider that was logged out creates a session",
    changes: [
      {
        file: recordLogout,
        take: "const isEnded = providerSession !== undefined && isRemembered(projection, providerSession, now);",
        put: "const isEnded = providerSession !== undefined && now < 0 && isRemembered(projection, providerSession, now);",
      },
    ],
    within: 6,
    where: "logouts",
  },
  "name-not-claimed": {
    meaning: "the leader gives a user name to two people whose nodes both found it free",
    changes: [
      {
        file: "src/broker/commands/provisioned/write-provisioned-user.ts",
        take: "basis: command.basis ?? noPosition }) === true)",
        put: "basis: command.basis ?? noPosition }) === undefined)",
      },
    ],
    within: 20,
    where: "provisioning",
  },
  "deactivated-sign-in": {
    meaning: "a person signs in though their provisioned person is not active",
    changes: [{ file: createSession, take: "if (directory.barred !== undefined) return directory.barred;", put: "" }],
    within: 6,
    where: "provisioning",
  },
  "mass-change-made": {
    meaning: "a change that takes a group from too many people is made at once",
    changes: [
      {
        file: massChange,
        take: "if (count.counted <= count.limit) return withEarlierEnded(projection, change, performed);",
        put: "if (count.counted >= 0) return withEarlierEnded(projection, change, performed);",
      },
    ],
    within: 6,
    where: "massChanges",
  },
  "decided-twice": {
    meaning: "a request that was decided is decided again",
    changes: [
      {
        file: `${accessRequest}/decide-access-request.ts`,
        take: 'if (status !== "pending") {',
        put: 'if (status !== "pending" && now < 0) {',
      },
    ],
    within: 10,
    where: "accessRequests",
  },
  "access-not-ended": {
    meaning: "the end of a request leaves the access that it gave",
    changes: [
      {
        file: `${accessRequest}/request-parts.ts`,
        take: "if (projection.membership(userId, groupId)?.requested?.requestId !== requestId) return [];",
        put: 'if (requestId !== "") return [];',
      },
    ],
    within: 10,
    where: "accessRequests",
  },
  "release-not-ended": {
    meaning: "a release makes the change, and keeps it for another release",
    changes: [
      {
        file: "src/broker/commands/held/held-changes.ts",
        take: "events: [...changes.events, ended, ...permitted]",
        put: "events: [...changes.events, ...permitted]",
      },
    ],
    within: 10,
    where: "massChanges",
  },
  "drop-unseen": {
    meaning: "an operator who has not seen the drop of a change releases it",
    changes: [
      {
        file: "src/events/projection/mass-changes.ts",
        take: 'version: version + 1, status: "dropped"',
        put: 'version, status: "dropped"',
      },
    ],
    within: 10,
    where: "massChanges",
  },
  "partial-removes": {
    meaning: "a run that read only a part of a directory withdraws what it did not read",
    changes: [
      {
        file: "src/auth/directory/removal-rule.ts",
        take: 'return { removals: false, result: "partial", problem };',
        put: 'return { removals: true, result: "partial", problem };',
      },
    ],
    within: 20,
    where: "directory",
  },
  "empty-removes": {
    meaning: "a directory that is suddenly empty withdraws every membership",
    changes: [
      {
        file: "src/auth/directory/removal-rule.ts",
        take: "if (plan.isSuddenlyEmpty && !run.areAllowed) {",
        put: "if (plan.isSuddenlyEmpty && run.areAllowed) {",
      },
    ],
    within: 20,
    where: "directory",
  },
  "acknowledged-early": {
    meaning: "a token is acknowledged to its transmitter though the log does not have it",
    changes: [
      {
        file: "src/auth/authenticate/signals/poll-rules.ts",
        take: '(type === "accepted" ? [jti] : [])',
        put: '(type !== "refused" ? [jti] : [])',
      },
    ],
    within: 30,
    where: "signals",
  },
  "failed-given-up": {
    meaning: "a signal that did not reach its receiver is not sent again",
    changes: [
      {
        file: "src/auth/authenticate/transmitter/stream-duty.ts",
        take: "          this.#noteFailure(stream, effect.reason, now);",
        put: "          this.#conclude(jti, (one) => one);",
      },
    ],
    within: 10,
    where: "signals",
  },
  "identity-of-leader": {
    meaning: "a token gets another identity when another leader sends it",
    changes: [
      {
        file: "src/auth/authenticate/transmitter/pending-signals.ts",
        take: "jti: jtiOf(streamId, hash, index),",
        put: "jti: jtiOf(streamId, hash, index, this.#start.after.position),",
      },
    ],
    within: 20,
    where: "signals",
  },
  "logout-not-read": {
    meaning: "a sign-in in the batch of its logout does not see it",
    changes: [{ file: createSession, take: "        ...logoutsConcerning(command).map(sessionStream),\n", put: "" }],
    within: 20,
    where: "logouts",
  },
  "delta-of-partial": {
    meaning: "the next run begins behind changes that this one did not apply",
    changes: [
      {
        file: "src/auth/directory/directory-duty.ts",
        take: "const isExact = isComplete && parts.newer.size === 0;",
        put: 'const isExact = mode === "full" || mode === "delta";',
      },
    ],
    within: 30,
    where: "directory",
  },
  "cursor-ahead": {
    meaning: "what waits for its delivery counts as delivered when the leader changes",
    changes: [
      {
        file: "src/auth/authenticate/transmitter/pending-signals.ts",
        take: "return this.#entries[0]?.pending.at ?? this.#scanned;",
        put: "return this.#entries.length < 0 ? this.#start : this.#scanned;",
      },
    ],
    within: 10,
    where: "signals",
  },
};
