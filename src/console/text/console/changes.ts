/**
 * Words of the timeline of changes: a sentence for each kind of change, as a function of its values.
 *
 * Pure. Each is a whole sentence, so that a translation can reorder it. The API answers the key and the values beside
 * the sentence in English.
 */

/** `…Count`: how many. Names are those that an operator may see. "" means that the event does not say it. */
export type ChangeValues = Readonly<{
  /** Who did it. */
  actor: string;
  /** The person that it is about, where it is one. */
  person: string;
  peopleCount: number;
  /** Events of this kind in the same command. */
  count: number;
  group: string;
  addedCount: number;
  removedCount: number;
  /** The identity provider. */
  provider: string;
  node: string;
  reason: string;
  /** RFC 3339. */
  until: string;
  /** Another name that the event has: a directory, a transmitter, a receiver, a kind of event. */
  name: string;
  /** A level, an epoch, or another number. */
  number: number;
}>;

const whose = ({ person, peopleCount }: ChangeValues): string =>
  person === "" ? (peopleCount === 1 ? "a person" : `${peopleCount} people`) : person;
const sessionsOf = (v: ChangeValues): string =>
  v.count === 1 ? `a session of ${whose(v)}` : `${v.count} sessions of ${whose(v)}`;
const because = ({ reason }: ChangeValues): string => (reason === "" ? "" : `: ${reason}`);
const ending = ({ until }: ChangeValues): string => (until === "" ? "" : ` until ${until}`);
const viaProvider = ({ provider }: ChangeValues): string => (provider === "" ? "" : ` with ${provider}`);

export const changeSentences = {
  "signed-in": (v: ChangeValues) => `${whose(v)} signed in${viaProvider(v)}`,
  refreshed: (v: ChangeValues) => `The identity provider confirmed ${sessionsOf(v)}`,
  "sessions-revoked": (v: ChangeValues) => `${v.actor} revoked ${sessionsOf(v)}`,
  "signed-out": (v: ChangeValues) => `${whose(v)} signed out`,
  "refresh-refused": (v: ChangeValues) => `The identity provider no longer confirms ${whose(v)}, so a session ended`,
  "provider-ended": (v: ChangeValues) => `The identity provider ended ${sessionsOf(v)}`,
  "session-limit": (v: ChangeValues) => `The oldest session of ${whose(v)} ended, because of the limit per person`,
  "session-idle": (v: ChangeValues) => `A session of ${whose(v)} ended, because it wasn't used`,
  "revoked-again": (v: ChangeValues) =>
    `A revocation that a failover had lost was recorded again; it ended ${sessionsOf(v)}`,
  "all-revoked": (v: ChangeValues) => `${v.actor} revoked all sessions of ${whose(v)}`,
  "all-ended": (v: ChangeValues) => `All sessions of ${whose(v)} ended${because(v)}`,
  "logout-recorded": () => "The identity provider ended a session of its own",
  expired: (v: ChangeValues) => `${v.count} sessions expired`,
  seen: (v: ChangeValues) => `${v.count} sessions were in use`,
  "profile-changed": (v: ChangeValues) => `The profile of ${whose(v)} was updated`,
  suspended: (v: ChangeValues) => `${v.actor} suspended ${whose(v)}${ending(v)}${because(v)}`,
  "suspension-ended": (v: ChangeValues) => `The suspension of ${whose(v)} reached its end`,
  restored: (v: ChangeValues) => `${v.actor} restored ${whose(v)}`,
  "refresh-requested": (v: ChangeValues) => `${v.actor} asked the identity provider about ${whose(v)}`,
  erased: (v: ChangeValues) => `${v.actor} erased a person`,
  signal: (v: ChangeValues) => `${v.actor} sent the signal ${v.name} about ${whose(v)}${because(v)}`,
  "group-named": (v: ChangeValues) => `${v.actor} named the group ${v.group}`,
  "members-added": (v: ChangeValues) => `${v.actor} added ${whose(v)} to ${v.group}${ending(v)}${because(v)}`,
  "members-removed": (v: ChangeValues) => `${v.actor} removed ${whose(v)} from ${v.group}${because(v)}`,
  "members-changed": (v: ChangeValues) =>
    `${v.actor} changed the members of ${v.group}: ${v.addedCount} added, ${v.removedCount} removed${because(v)}`,
  "memberships-ended": (v: ChangeValues) => `The membership of ${whose(v)} in ${v.group} reached its end`,
  "groups-listed": (v: ChangeValues) => `${v.actor} replaced the groups of ${whose(v)}: ${v.number} groups now`,
  "group-removed": (v: ChangeValues) => `${v.actor} deleted the group ${v.group}`,
  held: (v: ChangeValues) => `A mass change by ${v.actor} was held: ${v.number} people would lose access`,
  "held-narrowed": (v: ChangeValues) => `A held change no longer concerns ${v.number} people`,
  "held-released": (v: ChangeValues) => `${v.actor} released a held change${because(v)}`,
  "held-dropped": (v: ChangeValues) => `${v.actor} refused a held change${because(v)}`,
  "held-over": (v: ChangeValues) => `A held change has ended: ${v.name}`,
  "mass-changes-allowed": (v: ChangeValues) => `${v.actor} allowed mass changes by ${v.name}${ending(v)}${because(v)}`,
  "access-requested": (v: ChangeValues) => `${whose(v)} asked for access to the route ${v.name}`,
  "access-approved": (v: ChangeValues) => `${v.actor} approved the access request of ${whose(v)}${ending(v)}`,
  "access-denied": (v: ChangeValues) => `${v.actor} denied the access request of ${whose(v)}`,
  "request-withdrawn": (v: ChangeValues) => `${whose(v)} withdrew an access request`,
  "request-lapsed": (v: ChangeValues) => `An access request of ${whose(v)} had no decision in time`,
  "access-expired": (v: ChangeValues) => `The requested access of ${whose(v)} reached its end`,
  "access-ended": (v: ChangeValues) => `${v.actor} ended the requested access of ${whose(v)}`,
  "access-replaced": (v: ChangeValues) => `A newer approval replaced the requested access of ${whose(v)}`,
  "sync-started": (v: ChangeValues) => `A sync of the directory ${v.name} began`,
  "sync-completed": (v: ChangeValues) => `A sync of the directory ${v.name} is complete`,
  "sync-incomplete": (v: ChangeValues) => `A sync of the directory ${v.name} ended early`,
  "device-enrolled": (v: ChangeValues) => `${whose(v)} registered a device`,
  "device-approved": (v: ChangeValues) => `${v.actor} approved a device of ${whose(v)}`,
  "device-removed": (v: ChangeValues) => `${v.actor} removed a device of ${whose(v)}`,
  "token-created": (v: ChangeValues) => `${v.actor} created a service account or token`,
  "token-revoked": (v: ChangeValues) => `${v.actor} revoked a service account or token`,
  configuration: (v: ChangeValues) =>
    v.count === 1 ? `${v.node} switched to configuration ${v.name}` : `${v.count} nodes switched configuration`,
  epoch: (v: ChangeValues) => `Epoch ${v.number} opened by ${v.name}`,
  reasserted: () => "A revocation that a failover had lost was recorded again",
  finalized: (v: ChangeValues) => `${v.actor} raised the cluster to level ${v.number}`,
  "nodes-retired": (v: ChangeValues) => `${v.actor} retired ${v.name}`,
  "signal-stream": (v: ChangeValues) => `The signal stream to ${v.name} is ${v.reason}`,
  snapshot: (v: ChangeValues) => `A snapshot was taken at position ${v.number}`,
  sealed: (v: ChangeValues) => `${v.node} sealed its audit records up to ${v.number}`,
  unknown: (v: ChangeValues) => `An event of the type ${v.name}, which this server does not know`,
} as const;

export type SentenceKey = keyof typeof changeSentences;

export const isSentenceKey = (key: string): key is SentenceKey => Object.hasOwn(changeSentences, key);

/** Whose acts are not a person's. */
export const actorNames = {
  system: "Cardea",
  directory: (name: string) => `The directory ${name}`,
  scim: (name: string) => `The SCIM client ${name}`,
  signals: (name: string) => `The transmitter ${name}`,
  erased: (id: string) => `Erased person ${id}`,
  person: (id: string) => `Person ${id}`,
} as const;

/** What a change can be undone by, and what that does. */
export const undoTexts = {
  restore: (v: { person: string }) =>
    `Restore ${v.person}. They can sign in again; the sessions that the suspension ended stay ended.`,
  remove: (v: { person: string; group: string }) =>
    `Remove ${v.person} from ${v.group}. Until an operator adds them again they stay out, whatever other sources say.`,
  add: (v: { person: string; group: string }) =>
    `Add ${v.person} to ${v.group} again. They are a member then, whatever other sources say.`,
} as const;

/** Why a change has no undo. */
export const finalTexts = {
  "revocation-final": "A revocation is final. The person can sign in again.",
  "erasure-final": "Erasing is final. The personal data is gone.",
  "group-gone": "A deleted group does not come back with its members.",
  "level-final": "A level is never lowered.",
  superseded: "Something else has changed this since.",
} as const;
export type FinalKey = keyof typeof finalTexts;
