/**
 * Signal plan: what a verified security event means here: its action, and the people it concerns. Pure.
 *
 * - The operator's table names the action of each event; an event that it does not name is recorded.
 * - A subject names people by the provider's issuer and subject, or by an e-mail that the provider has verified.
 *   Several identifiers of one subject become several commands.
 * - A complex subject is matched by its `user` and its `session`. With a critical member that nothing here can process,
 *   it is recorded, and nothing follows (SSF 1.0 §3.6).
 */
import type { SignalTransmitterConfig } from "../../../config/index.ts";
import {
  type ClaimValue,
  type Command,
  type CommandId,
  isPlainText,
  type Profile,
  providerSessionId,
  type SessionId,
  type SignalAction,
  type SignalClaims,
  type SignalStreamState,
  type SubjectKey,
  signalCommandId,
  signalRecordId,
  type UnixMs,
  type UserId,
  userIdOf,
} from "../../../events/index.ts";
import {
  formatSubject,
  identifiersOf,
  isStreamEvent,
  type SecurityEvent,
  type SignalName,
  type SimpleSubject,
  type SubjectIdentifier,
} from "../../shared-signals/index.ts";
import { claimedGroups } from "../provider/claimed-groups.ts";

export type TransmitterRules = Readonly<{
  name: string;
  match: SignalTransmitterConfig["match"];
  actions: SignalTransmitterConfig["actions"];
  /** Issuers that a subject may have, without a slash at their ends. */
  subjectIssuers: readonly string[];
  /** The claim that has groups; null: none. */
  groupsClaim: string | null;
}>;

export type PlannedCommand = Readonly<{ commandId: CommandId; command: Extract<Command, { type: "receiveSignal" }> }>;

/** The records about a profile, of all transmitters. */
export type SignalRecordsFor = (profile: Profile) => readonly UserId[];

/** Commands for one token. A token for more is refused: each of them must be enforced. */
const commandsMax = 24;
/** Members that are matched, or that only make a subject more precise. */
const processed = ["user", "session"];

/**
 * @param signInIssuers of the providers at which people sign in
 * @param groupsClaim `groups_from_claim`
 */
export function transmitterRulesOf(
  config: SignalTransmitterConfig,
  signInIssuers: readonly string[],
  groupsClaim: string | null = null,
): TransmitterRules {
  const issuers = [config.issuer, ...signInIssuers, ...config.subjectIssuers];
  const { name, match, actions } = config;
  return { name, match, actions, subjectIssuers: [...new Set(issuers.map(withoutSlash))], groupsClaim };
}

/** @returns undefined: no transmitter is configured */
export function signalRecordsFor(transmitters: readonly TransmitterRules[]): SignalRecordsFor | undefined {
  if (transmitters.length === 0) return undefined;
  return (profile) =>
    transmitters.flatMap((rules) => keysOfProfile(rules, profile).map((key) => signalRecordId(rules.name, key)));
}

function keysOfProfile({ match, subjectIssuers }: TransmitterRules, profile: Profile): readonly SubjectKey[] {
  const { issuer, subject, email, emailVerified } = profile;
  const keys: SubjectKey[] = [];
  if (match.includes("subject") && subjectIssuers.includes(withoutSlash(issuer)))
    keys.push({ by: "subject", issuer, subject });
  if (match.includes("email") && emailVerified && email !== "") keys.push({ by: "email", email });
  return keys;
}

/** @returns undefined: the subject has more identifiers than one token may have here */
export function planSignal(
  event: SecurityEvent,
  rules: TransmitterRules,
  criticalMembers: readonly string[],
): readonly PlannedCommand[] | undefined {
  const { name } = event;
  const about = {
    type: "receiveSignal",
    transmitter: rules.name,
    event: name ?? event.uri,
    issuedAt: event.issuedAt as UnixMs,
    occurredAt: event.occurredAt as UnixMs,
    stream: null,
    sessions: sessionsOf(event.subject, rules),
  } as const;
  const targets = name !== null && isStreamEvent(name) ? [] : targetsOf(event.subject, rules, criticalMembers);
  const stream = streamStateOf(event);
  if (stream !== null) {
    const recordId = signalRecordId(rules.name, { by: "stream" });
    const command = { ...about, action: "record", recordId, people: [], subject: "matched", stream } as const;
    return [{ commandId: signalCommandId(rules.name, event, 0), command }];
  }
  const action = actionOf(event, rules);
  if (targets.length === 0) {
    const text = JSON.stringify(formatSubject(event.subject));
    const recordId = signalRecordId(rules.name, { by: "other", text });
    const isSession = about.sessions.length > 0 && !isUnable(event.subject, criticalMembers);
    const subject = isSession ? "session" : "unmatched";
    const command = { ...about, action, recordId, people: [], subject } as const;
    return [{ commandId: signalCommandId(rules.name, event, 0), command }];
  }
  if (targets.length > commandsMax) return undefined;
  const claims = action === "replace-claims" && name === "token-claims-change" ? claimsIn(event, rules) : undefined;
  return targets.map(({ key, people }, part) => ({
    commandId: signalCommandId(rules.name, event, part),
    command: {
      ...about,
      action,
      recordId: signalRecordId(rules.name, key),
      people,
      subject: "matched",
      ...(claims && { claims }),
    },
  }));
}

/** The value of an event that the table may distinguish: `credential-change/create`. */
const valueMembers: Readonly<Partial<Record<SignalName, string>>> = {
  "session-revoked": "initiating_entity",
  "credential-change": "change_type",
  "assurance-level-change": "change_direction",
  "device-compliance-change": "current_status",
  "risk-level-change": "current_level",
  "account-disabled": "reason",
};

function actionOf({ name, payload }: SecurityEvent, { actions }: TransmitterRules): SignalAction {
  if (name === null) return "record";
  const member = Object.hasOwn(valueMembers, name) ? valueMembers[name as SignalName] : undefined;
  const value = member === undefined ? undefined : payload[member];
  const exact = typeof value === "string" ? `${name}/${value}` : name;
  if (Object.hasOwn(actions, exact)) return actions[exact] ?? "record";
  return Object.hasOwn(actions, name) ? (actions[name] ?? "record") : "record";
}

const claimNamesMax = 32;
const claimValuesMax = 1_000;
const claimCharsMax = 8 * 1_024;
/** Who the person is, and the token itself: only a new sign-in states these. */
const identityClaims: ReadonlySet<string> = new Set(
  "iss sub sid aud azp exp iat nbf jti nonce auth_time email email_verified name preferred_username".split(" "),
);

/** Undefined: the event names no claims, too many, or some that may not be replaced. */
function claimsIn({ payload }: SecurityEvent, { groupsClaim }: TransmitterRules): SignalClaims | undefined {
  const { claims } = payload;
  if (typeof claims !== "object" || claims === null || Array.isArray(claims)) return undefined;
  const entries = Object.entries(claims);
  if (entries.length === 0 || entries.length > claimNamesMax) return undefined;
  if (JSON.stringify(claims).length > claimCharsMax) return undefined;
  const values: Record<string, readonly ClaimValue[]> = {};
  for (const [name, value] of entries) {
    const list = value === null ? [] : Array.isArray(value) ? value : [value];
    // What is nested would replace only the parts that it names.
    const isPlain = isPlainText(name) && !name.includes(".") && !name.includes(":") && !identityClaims.has(name);
    if (!isPlain || list.length > claimValuesMax || !list.every(isClaimValue)) return undefined;
    values[name] = list;
  }
  const groupIds =
    groupsClaim === null
      ? null
      : claimedGroups({ profile: { ...noProfile, claims: values }, claim: groupsClaim, age: "new" });
  return { values, groups: groupsClaim === null || groupIds === null ? null : { claim: groupsClaim, groupIds } };
}

const noProfile = { issuer: "", subject: "", email: "", emailVerified: false, name: "" };

function isClaimValue(value: unknown): value is ClaimValue {
  return typeof value === "string" ? isPlainText(value) : typeof value === "number" || typeof value === "boolean";
}

type Target = Readonly<{ key: SubjectKey; people: readonly UserId[] }>;

function targetsOf(
  subject: SubjectIdentifier,
  rules: TransmitterRules,
  criticalMembers: readonly string[],
): readonly Target[] {
  if (subject.format !== "complex") return identifiersOf(subject).flatMap((each) => targetsOfOne(each, rules));
  const { members } = subject;
  const user = Object.hasOwn(members, "user") ? members["user"] : undefined;
  if (isUnable(subject, criticalMembers) || user === undefined) return [];
  return identifiersOf(user).flatMap((each) => targetsOfOne(each, rules));
}

/** Whether the subject has a critical member that nothing here can process. */
function isUnable(subject: SubjectIdentifier, criticalMembers: readonly string[]): boolean {
  if (subject.format !== "complex") return false;
  return Object.keys(subject.members).some((name) => criticalMembers.includes(name) && !processed.includes(name));
}

/** The provider's sessions that a complex subject names: by the `sid` alone, or with the issuer. */
function sessionsOf(subject: SubjectIdentifier, { match, subjectIssuers }: TransmitterRules): readonly SessionId[] {
  const session =
    subject.format === "complex" && Object.hasOwn(subject.members, "session") ? subject.members["session"] : undefined;
  if (session === undefined || !match.includes("subject")) return [];
  const both = (issuer: string, sid: string): readonly SessionId[] =>
    [withoutSlash(issuer), `${withoutSlash(issuer)}/`].map((each) => providerSessionId(each, sid));
  if (session.format === "opaque") return subjectIssuers.flatMap((issuer) => both(issuer, session.id));
  const isOurs = session.format === "iss_sub" && subjectIssuers.includes(withoutSlash(session.iss));
  return isOurs ? both(session.iss, session.sub) : [];
}

function targetsOfOne(subject: SimpleSubject, { match, subjectIssuers }: TransmitterRules): readonly Target[] {
  if (subject.format === "email" && match.includes("email"))
    return [{ key: { by: "email", email: subject.email }, people: [] }];
  if (!match.includes("subject")) return [];
  if (subject.format === "iss_sub")
    return subjectIssuers.includes(withoutSlash(subject.iss)) ? [subjectTarget(subject.iss, subject.sub)] : [];
  if (subject.format === "opaque") return subjectIssuers.map((issuer) => subjectTarget(issuer, subject.id));
  return [];
}

/** Providers write their issuer with a slash at its end or without one. */
function subjectTarget(issuer: string, subject: string): Target {
  const plain = withoutSlash(issuer);
  const people = [userIdOf(plain, subject), userIdOf(`${plain}/`, subject)];
  return { key: { by: "subject", issuer: plain, subject }, people };
}

function streamStateOf({ name, subject, payload, issuedAt }: SecurityEvent): SignalStreamState | null {
  if (name !== "verification" && name !== "stream-updated") return null;
  const streamId = subject.format === "opaque" ? subject.id.slice(0, 1_000) : "";
  const at = issuedAt as UnixMs;
  if (name === "verification") {
    const { state } = payload;
    const verifiedState = typeof state === "string" ? state.slice(0, 1_000) : null;
    return { streamId, status: null, statusAt: null, verifiedAt: at, verifiedState };
  }
  const { status } = payload;
  const known = (["enabled", "paused", "disabled"] as const).find((each) => each === status) ?? null;
  return { streamId, status: known, statusAt: at, verifiedAt: null, verifiedState: null };
}

export function withoutSlash(url: string): string {
  return url.endsWith("/") ? url.slice(0, -1) : url;
}
