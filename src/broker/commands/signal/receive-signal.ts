/**
 * Receive signal: a transmitter of Shared Signals has said something about a subject. Pure.
 *
 * - Each signal is recorded, also one without consequences, so that a repeated token does nothing.
 * - A transmitter suspends and restores its own record of the subject, never the person. So it cannot lift a suspension
 *   by an operator or by another transmitter.
 * - Signals about the account are ordered by the transmitter's own times. One that a newer has overtaken is stale, and
 *   so is the repetition of one that an operator has lifted: the log forgets command ids, the record does not.
 * - What ends sessions ends those that began before the event, by the transmitter's own time. So a token that is sent
 *   again after the log has forgotten its id ends no newer session.
 * - A sign-in that began before all sessions of its person ended is refused, as after a logout (record-logout.ts).
 * - The sessions of people that only an e-mail identifies are ended by the nodes that serve sign-ins, from the state of
 *   the record.
 */
import {
  type CardeaEvent,
  groupStream,
  isSignalRecord,
  isStatedBefore,
  isTransmitterName,
  type Projection,
  parseTransmitterRecord,
  parseUnixMs,
  parseUserId,
  personLogoutId,
  replaceClaims,
  type SessionId,
  type SignalClaims,
  type SignalOutcome,
  type SignalStreamState,
  type SubjectSignals,
  sessionStream,
  signalActions,
  signalProfile,
  signalsFrom,
  type TransmitterRecord,
  type UnixMs,
  type UserId,
  userStream,
} from "../../../events/index.ts";
import type { CommandDefinition, CommandOf } from "../definition.ts";
import { type Fields, fieldsOf, listIn, MalformedCommandError, parseClaims, parseGroupIds, textOf } from "../fields.ts";
import { type NewKey, type Performed, recordChanges, refuseCommand, type Tools } from "../performed.ts";
import { openProfile, sameProfile, sealerFor } from "../profile-seal.ts";
import {
  endSessionsUpTo,
  logoutRecorded,
  parseProviderSession,
  rememberedOfSignalsMax,
  rememberLogouts,
  senderClockMs,
} from "../session/record-logout.ts";
import { providerGroupsOf, replaceGroups } from "../session/session-parts.ts";

type Signal = CommandOf<"receiveSignal">;

/** Two forms of an issuer, and the aliases of a subject. */
const peopleMax = 64;
const sessionsMax = 40;
const eventCharsMax = 300;
const streamTextMax = 1_000;
/** Records are users of the log. Above this number no new one is created. */
export const usersMax = 4_000_000;
/**
 * A session that began up to this long after an event may have begun before it, by the clock of the transmitter. It is
 * shorter for a required sign-in: the person may have signed in again at once.
 */
export const clockDifferenceMs = 60_000;

export const receiveSignal: CommandDefinition<"receiveSignal"> = {
  schema: parseSignal,
  permission: ["authenticate", "duty"],
  tightens: true,
  access: ({ recordId, people, sessions, claims }, projection) => ({
    reads: [...people.flatMap((id) => providerGroupsOf(projection, id)), ...(claims?.groups?.groupIds ?? [])].map(
      groupStream,
    ),
    writes: [recordId, ...people, ...peopleOfSessions(projection, sessions)]
      .map(userStream)
      .concat([recordId, ...people].map((id) => sessionStream(personLogoutId(id))))
      .concat(people.flatMap((id) => projection.sessionsOf(id)).map(sessionStream))
      .concat(sessions.flatMap((id) => [id, ...projection.sessionsOfProvider(id)]).map(sessionStream)),
  }),
  person: ({ recordId }) => recordId,
  perform(projection, command, tools) {
    if (projection.level < signalsFrom) return belowLevel(projection.level);
    if (projection.user(command.recordId)?.status === "erased")
      return refuseCommand("erased", "the record of this subject has been erased");
    if (command.stream !== null) return performStream(projection, command, { tools, said: command.stream });
    const known = parseTransmitterRecord(openProfileOf(projection, command.recordId, tools));
    const before = known?.kind === "subject" ? known : undefined;
    const isNew = projection.user(command.recordId) === undefined;
    if (isNew && changesRecord(command) && projection.counts.users >= usersMax)
      return refuseCommand("conflict", `the log has ${projection.counts.users} users, and no room for another record`);
    const newKeys: NewKey[] = [];
    const about = { tools, newKeys, before, endedUpTo: endedUpToOf(command, tools.now) };
    const events = consequencesOf(projection, command, about);
    if (events === "stale") return record(projection, command, { outcome: "stale", newKeys, events: [] });
    const outcome = events.length === 0 ? idleOutcomeOf(command) : "enforced";
    return record(projection, command, {
      outcome,
      newKeys,
      events: [...events, ...endSignIns(projection, command, about)],
    });
  },
};

/** Sessions that began up to here end; a disabled account ends all. */
function endedUpToOf({ action, occurredAt }: Signal, now: UnixMs): UnixMs {
  if (action === "suspend") return (now + senderClockMs) as UnixMs;
  return (occurredAt + (action === "revoke-sessions" ? senderClockMs : clockDifferenceMs)) as UnixMs;
}

type RecordTools = Readonly<{
  tools: Tools;
  newKeys: NewKey[];
  before: SubjectSignals | undefined;
  endedUpTo: UnixMs;
}>;

/** The events that follow from a signal about a person; empty: none. */
function consequencesOf(projection: Projection, command: Signal, about: RecordTools): CardeaEvent[] | "stale" {
  const { action, recordId, people, occurredAt } = command;
  if (command.subject === "unmatched") return [];
  if (action === "record") return [];
  const isAboutAccount = action === "suspend" || action === "restore";
  const isAboutPerson = isAboutAccount || replacesClaims(command);
  const named = isAboutPerson && command.subject === "matched" ? undefined : endNamed(projection, command, about);
  if (named !== undefined) return action === "restore" ? [] : named;
  switch (action) {
    case "replace-claims":
      if (people.length > 0 && command.claims !== undefined) {
        const { claims } = command;
        return people.flatMap((id) => replaceClaimsOf(projection, id, { command, claims, about }));
      }
      return consequencesOf(projection, { ...command, action: "require-new-sign-in" }, about);
    case "revoke-sessions":
    case "require-new-sign-in":
      return people.length === 0
        ? cutRecord(projection, command, about)
        : people.flatMap((id) => endSessionsUpTo(projection, id, about.endedUpTo).events);
    case "suspend": {
      if (isStaleDisabling(projection, command, about.before)) return "stale";
      const isSuspended = projection.user(recordId)?.status === "suspended";
      const reason = `${command.event} from transmitter ${command.transmitter}`;
      return [
        ...writeRecord(projection, command, about),
        ...(isSuspended ? [] : [{ type: "UserSuspended", userId: recordId, reason } as const]),
        ...people.flatMap((id) => endSessionsUpTo(projection, id, about.endedUpTo).events),
      ];
    }
    case "restore": {
      if (about.before === undefined || about.before.state === null) return [];
      if (occurredAt < about.before.stateAt) return "stale";
      const isSuspended = projection.user(recordId)?.status === "suspended";
      return [
        ...writeRecord(projection, command, about),
        ...(isSuspended ? [{ type: "UserRestored", userId: recordId } as const] : []),
      ];
    }
  }
}

/**
 * Ends the sessions that began in those of the provider, and remembers them: a sign-in under way is refused too.
 * @returns undefined: the subject names none, or none that the log knows, which may be any of the person's
 */
function endNamed(
  projection: Projection,
  { sessions, subject }: Signal,
  { tools: { now }, endedUpTo }: RecordTools,
): CardeaEvent[] | undefined {
  const live = sessions
    .flatMap((id) => projection.sessionsOfProvider(id))
    .flatMap((id) => {
      const at = projection.sessionStatus(id);
      return at.status === "active" ? [at.session] : [];
    });
  const isKnown = live.length > 0 || sessions.some((id) => projection.session(id) !== undefined);
  if (!isKnown && subject !== "session") return undefined;
  const events: CardeaEvent[] = [];
  for (const { sessionId, userId, issuedAt } of live)
    if (issuedAt <= endedUpTo) events.push({ type: "SessionRevoked", sessionId, userId, reason: "identity-provider" });
  const unknown = sessions.filter((id) => projection.session(id) === undefined);
  const hasRoom = projection.tombstonesWithoutUser + unknown.length <= rememberedOfSignalsMax;
  if (hasRoom) events.push(...unknown.flatMap((id) => logoutRecorded(id, { now, endedUpTo })));
  return events;
}

function peopleOfSessions(projection: Projection, sessions: readonly SessionId[]): readonly UserId[] {
  return sessions
    .flatMap((id) => projection.sessionsOfProvider(id))
    .map((id) => projection.session(id)?.userId ?? null)
    .filter((id) => id !== null);
}

function isStaleDisabling(
  projection: Projection,
  { recordId, occurredAt }: Signal,
  before: RecordTools["before"],
): boolean {
  if (before === undefined || before.state === null || occurredAt > before.stateAt) return false;
  if (before.state === "enabled") return occurredAt < before.stateAt;
  // An operator has lifted it, and this is an earlier signal, or the same one again.
  return (projection.user(recordId)?.status ?? "active") === "active";
}

const replacesClaims = ({ action, people, claims }: Signal): boolean =>
  action === "replace-claims" && people.length > 0 && claims !== undefined;

/**
 * The claims that the provider stated before the event are replaced, and its groups. Where there would be too many, the
 * sessions end, so that the provider states them again.
 */
function replaceClaimsOf(
  projection: Projection,
  userId: UserId,
  { command, claims, about }: Readonly<{ command: Signal; claims: SignalClaims; about: RecordTools }>,
): CardeaEvent[] {
  const stated = projection.sessionsOf(userId).flatMap((id) => {
    const at = projection.sessionStatus(id);
    return at.status === "active" ? [at.session.refreshedAt] : [];
  });
  const profile = openProfileOf(projection, userId, about.tools);
  const { occurredAt } = command;
  // A later sign-in, or a refresh, has stated newer claims of every session.
  const isOld = stated.length > 0 && !stated.some((time) => isStatedBefore(time, occurredAt));
  if (profile === undefined || isOld) return [];
  const replaced = replaceClaims(profile, claims.values, { at: occurredAt, heardAt: about.tools.now });
  if (replaced === undefined) return [...endSessionsUpTo(projection, userId, about.endedUpTo).events];
  if (replaced.names.length === 0) return [];
  const { groups } = claims;
  const isNewest = groups !== null && replaced.names.includes(groups.claim);
  const isLast = stated.every((time) => isStatedBefore(time, occurredAt));
  const sealer = sealerFor(userId, about.tools);
  return [
    { type: "UserUpserted", userId, profile: sealer.seal(replaced.profile) },
    ...(isNewest && isLast ? replaceGroups(projection, userId, groups.groupIds) : []),
  ];
}

/** Where sessions of a person end, so do the sign-ins that began before. */
function endSignIns(projection: Projection, command: Signal, about: RecordTools): CardeaEvent[] {
  const { action, subject, people, recordId } = command;
  const ends = action === "revoke-sessions" || action === "require-new-sign-in" || action === "replace-claims";
  if (!ends || replacesClaims(command) || subject !== "matched" || endNamed(projection, command, about) !== undefined)
    return [];
  const { tools, endedUpTo } = about;
  return rememberLogouts(projection, people.length > 0 ? people : [recordId], { now: tools.now, endedUpTo });
}

/**
 * What only the nodes can match: the sessions of everyone who matches the record, up to this position, and up to the
 * time that the record keeps.
 */
function cutRecord(projection: Projection, command: Signal, about: RecordTools): CardeaEvent[] {
  const { state, stateAt, event } = about.before ?? { state: null, stateAt: 0 as UnixMs, event: command.event };
  return [
    ...writeSubject(projection, command, { about, said: { state, stateAt, event } }),
    { type: "UserSessionsRevoked", userId: command.recordId, upTo: null, reason: "identity-provider" },
  ];
}

function writeRecord(projection: Projection, command: Signal, about: RecordTools): CardeaEvent[] {
  const { event, action, occurredAt } = command;
  const stateAt = Math.max(occurredAt, about.before?.stateAt ?? 0) as UnixMs;
  const state = action === "suspend" ? "disabled" : "enabled";
  return writeSubject(projection, command, { about, said: { state, stateAt, event } });
}

function writeSubject(
  projection: Projection,
  command: Signal,
  { about, said }: Readonly<{ about: RecordTools; said: Pick<SubjectSignals, "state" | "stateAt" | "event"> }>,
): CardeaEvent[] {
  const { tools, newKeys, before } = about;
  const wasEndedUpTo = before?.endedUpTo ?? null;
  const endedUpTo = command.action === "restore" ? wasEndedUpTo : latest(wasEndedUpTo, about.endedUpTo);
  const record: TransmitterRecord = { kind: "subject", ...said, endedUpTo };
  return writeProfile(projection, command, { tools, newKeys, record });
}

const latest = (a: UnixMs | null, b: UnixMs): UnixMs => (a !== null && a > b ? a : b);

function writeProfile(
  projection: Projection,
  { recordId, transmitter }: Signal,
  { tools, newKeys, record }: Readonly<{ tools: Tools; newKeys: NewKey[]; record: TransmitterRecord }>,
): CardeaEvent[] {
  const profile = signalProfile(transmitter, record);
  if (sameProfile(openProfileOf(projection, recordId, tools), profile)) return [];
  const sealer = sealerFor(recordId, tools);
  newKeys.push(...sealer.newKeys);
  return [{ type: "UserUpserted", userId: recordId, profile: sealer.seal(profile) }];
}

function openProfileOf(projection: Projection, userId: UserId, tools: Tools) {
  const sealed = projection.user(userId)?.profile;
  const person = tools.personKeyOf(userId);
  return sealed === undefined || sealed === null || person === undefined ? undefined : openProfile(sealed, person);
}

/** What the transmitter says of its stream. The newer of two signals counts, separately for status and verification. */
function performStream(
  projection: Projection,
  command: Signal,
  { tools, said }: Readonly<{ tools: Tools; said: SignalStreamState }>,
): Performed {
  const known = parseTransmitterRecord(openProfileOf(projection, command.recordId, tools));
  const before = known?.kind === "stream" && known.streamId === said.streamId ? known : undefined;
  const newerStatus = (said.statusAt ?? -1) >= (before?.statusAt ?? -1) ? said : (before ?? said);
  const newerProof = (said.verifiedAt ?? -1) >= (before?.verifiedAt ?? -1) ? said : (before ?? said);
  const record: TransmitterRecord = {
    kind: "stream",
    streamId: said.streamId,
    status: newerStatus.status,
    statusAt: newerStatus.statusAt,
    verifiedAt: newerProof.verifiedAt,
    verifiedState: newerProof.verifiedState,
  };
  const newKeys: NewKey[] = [];
  const events = writeProfile(projection, command, { tools, newKeys, record });
  return recordOf(command, { outcome: "recorded", newKeys, events, vaultRemoved: [] });
}

function record(
  projection: Projection,
  command: Signal,
  {
    outcome,
    newKeys,
    events,
  }: Readonly<{ outcome: SignalOutcome; newKeys: readonly NewKey[]; events: readonly CardeaEvent[] }>,
): Performed {
  const vaultRemoved = events.flatMap((event): readonly SessionId[] => {
    if (event.type === "SessionRevoked") return [event.sessionId];
    return event.type === "UserSessionsRevoked" && !isSignalRecord(event.userId)
      ? projection.sessionsOf(event.userId)
      : [];
  });
  return recordOf(command, { outcome, newKeys, events, vaultRemoved });
}

function recordOf(
  { recordId, transmitter, event, action, issuedAt, occurredAt }: Signal,
  {
    outcome,
    newKeys,
    events,
    vaultRemoved,
  }: Readonly<{
    outcome: SignalOutcome;
    newKeys: readonly NewKey[];
    events: readonly CardeaEvent[];
    vaultRemoved: readonly SessionId[];
  }>,
): Performed {
  const received: CardeaEvent = {
    type: "SignalReceived",
    userId: recordId,
    transmitter,
    event,
    action,
    outcome,
    issuedAt,
    occurredAt,
  };
  return recordChanges([...events, received], { newKeys, vaultRemoved });
}

function idleOutcomeOf({ action, subject }: Signal): SignalOutcome {
  if (subject === "unmatched") return "unmatched";
  return action === "record" ? "recorded" : "unchanged";
}

/** Whether the signal may make a record that the log does not have yet. */
function changesRecord({ action, people, subject }: Signal): boolean {
  if (subject !== "matched") return false;
  return action === "suspend" || (action !== "record" && action !== "restore" && people.length === 0);
}

function belowLevel(level: number): Performed {
  const remedy = "upgrade every broker and node, then run `cardea cluster finalize`";
  return refuseCommand(
    "conflict",
    `the cluster is at level ${level}, and signals need level ${signalsFrom}: ${remedy}`,
  );
}

function parseSignal(fields: Fields): Signal {
  const transmitter = textOf(fields, "transmitter");
  const event = textOf(fields, "event");
  const action = signalActions.find((each) => each === fields["action"]);
  const recordId = parseUserId(fields["recordId"]);
  const people = listIn(fields, "people").map(parseUserId);
  if (!isTransmitterName(transmitter)) throw new MalformedCommandError("not the name of a transmitter");
  if (event === "" || event.length > eventCharsMax) throw new MalformedCommandError("event is too long");
  if (action === undefined) throw new MalformedCommandError(`action is not one of ${signalActions.join(", ")}`);
  if (!recordId.startsWith(`signal:${transmitter}:`))
    throw new MalformedCommandError("the record is not of the transmitter");
  if (people.length > peopleMax || people.some(isSignalRecord))
    throw new MalformedCommandError("people are not people");
  const sessions = listIn(fields, "sessions")
    .map(parseProviderSession)
    .filter((id) => id !== null);
  if (sessions.length > sessionsMax) throw new MalformedCommandError("too many sessions of the provider");
  const subject = fields["subject"];
  if (subject !== "matched" && subject !== "session" && subject !== "unmatched")
    throw new MalformedCommandError("subject is unknown");
  return {
    type: "receiveSignal",
    transmitter,
    event,
    action,
    recordId,
    people,
    sessions,
    subject,
    ...(fields["claims"] === undefined ? {} : { claims: parseSignalClaims(fieldsOf(fields["claims"], "claims")) }),
    stream: fields["stream"] === null ? null : parseStreamState(fieldsOf(fields["stream"], "stream")),
    issuedAt: parseUnixMs(fields["issuedAt"]),
    occurredAt: parseUnixMs(fields["occurredAt"]),
  };
}

function parseSignalClaims(fields: Fields): SignalClaims {
  const values = parseClaims(fields["values"]);
  if (fields["groups"] === null) return { values, groups: null };
  const groups = fieldsOf(fields["groups"], "groups");
  return { values, groups: { claim: textOf(groups, "claim"), groupIds: parseGroupIds(groups["groupIds"]) ?? [] } };
}

function parseStreamState(fields: Fields): SignalStreamState {
  const shortText = (name: string): string => {
    const text = textOf(fields, name);
    if (text.length > streamTextMax) throw new MalformedCommandError(`${name} is too long`);
    return text;
  };
  const statuses = ["enabled", "paused", "disabled"] as const;
  const status = fields["status"] === null ? null : statuses.find((each) => each === fields["status"]);
  if (status === undefined) throw new MalformedCommandError("status is unknown");
  return {
    streamId: shortText("streamId"),
    status,
    statusAt: fields["statusAt"] === null ? null : parseUnixMs(fields["statusAt"]),
    verifiedAt: fields["verifiedAt"] === null ? null : parseUnixMs(fields["verifiedAt"]),
    verifiedState: fields["verifiedState"] === null ? null : shortText("verifiedState"),
  };
}
