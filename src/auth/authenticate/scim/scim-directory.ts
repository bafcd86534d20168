/**
 * SCIM directory: this node's index of provisioned people and of the people who correlate with them, over the
 * projection. Nothing in it is a source of truth.
 *
 * - Changes of the log mark people; they are read again in small steps, so that requests are not held up. `settled`
 *   resolves once every change that has been applied is in the index.
 * - A person who signs in and lacks what the provisioned people give is passed to `onMismatch`: the person signed in
 *   while the client made the change, or before it knew the person.
 */
import {
  directoriesFrom,
  type Group,
  type GroupId,
  genesis,
  type NeededLink,
  type Profile,
  type ProvisionedRecord,
  parseProvisioned,
  parseStream,
  type UserId,
} from "../../../events/index.ts";
import type { Replica } from "../../../replication/index.ts";
import { ChangedPeople } from "../people/changed-people.ts";
import { addTo, deleteFrom, PeopleIndex } from "../people/people-index.ts";
import type { ProvisionedFor } from "./correlation.ts";
import { emailsOf, textAttribute } from "./scim-attributes.ts";

export type DirectoryEntry = Readonly<{
  userId: UserId;
  client: string;
  id: string;
  version: number;
  /** False: deleted or moved. */
  isLive: boolean;
  movedTo: UserId | null;
  userName: string;
  externalId: string | null;
  emails: readonly string[];
  createdAt: string;
}>;

const none: readonly UserId[] = [];
/** More e-mails of one person are found by a search through all people. */
const emailsMax = 8;

export class ScimDirectory {
  readonly #replica: Replica;
  readonly #provisionedFor: ProvisionedFor;
  readonly #onMismatch: (userId: UserId) => void;
  readonly #people = new PeopleIndex();
  readonly #changed: ChangedPeople;
  readonly #entries = new Map<UserId, DirectoryEntry>();
  /** By client and resource id, user name, externalId or e-mail. */
  readonly #userOf = new Map<string, UserId>();
  readonly #byEmail = new Map<string, Set<UserId>>();
  /** By client and resource id, name or externalId. */
  readonly #groupsBy = new Map<string, Set<GroupId>>();
  readonly #keysOfGroup = new Map<GroupId, readonly string[]>();
  readonly #listed = new Map<string, { users: UserId[]; isSorted: boolean }>();
  readonly #counts = new Map<string, number>();
  /** The newest link at which no change waited. */
  #basis: NeededLink = genesis;
  #stop: (() => void) | undefined;

  constructor(
    parts: Readonly<{
      replica: Replica;
      provisionedFor: ProvisionedFor;
      /** Lets other work go first. */
      pause: () => Promise<void>;
      onMismatch: (userId: UserId) => void;
      /** A person could not be read; the others are. */
      onError: (userId: UserId, error: unknown) => void;
    }>,
  ) {
    this.#replica = parts.replica;
    this.#provisionedFor = parts.provisionedFor;
    this.#onMismatch = parts.onMismatch;
    this.#changed = new ChangedPeople({ ...parts, read: (userId) => this.#read(userId) });
  }

  start(): void {
    this.#markAll();
    this.#stop = this.#replica.onChange(({ touched, rebuilt }) => {
      if (rebuilt) this.#markAll();
      else for (const stream of touched) this.#mark(stream);
      void this.settled();
    });
    void this.settled();
  }

  close(): void {
    this.#stop?.();
    this.#stop = undefined;
    this.#changed.clear();
  }

  /** Everything up to here is in the index. */
  get basis(): NeededLink {
    if (this.#changed.isEmpty) this.#basis = this.#replica.appliedLink;
    return this.#basis;
  }

  /** Every applied change is in the index. */
  settled(): Promise<void> {
    return this.#changed.settled();
  }

  entry(userId: UserId): DirectoryEntry | undefined {
    return this.#entries.get(userId);
  }
  /** A live record. */
  find(client: string, by: "id" | "userName" | "externalId", value: string): DirectoryEntry | undefined {
    const userId = this.#userOf.get(keyOf(client, by, value));
    return userId === undefined ? undefined : this.#entries.get(userId);
  }
  withEmail(client: string, email: string): readonly UserId[] {
    return [...(this.#byEmail.get(keyOf(client, "email", email.toLowerCase())) ?? [])];
  }
  /** The users of a client's live records, oldest first. */
  usersOf(client: string): readonly UserId[] {
    const listed = this.#listed.get(client);
    if (listed === undefined) return [];
    if (!listed.isSorted) {
      const order = (userId: UserId): string => {
        const entry = this.#entries.get(userId);
        return `${entry?.createdAt} ${entry?.id}`;
      };
      listed.users = [...new Set(listed.users)].filter((userId) => {
        const entry = this.#entries.get(userId);
        return entry?.isLive === true && entry.client === client;
      });
      const keys = new Map(listed.users.map((userId) => [userId, order(userId)]));
      listed.users.sort((a, b) => ((keys.get(a) ?? "") < (keys.get(b) ?? "") ? -1 : 1));
      listed.isSorted = true;
    }
    return listed.users;
  }
  /** How many records a client has, deleted and moved ones included. */
  recordsOf(client: string): number {
    return this.#counts.get(client) ?? 0;
  }
  /** How many groups all clients have. */
  get groups(): number {
    return this.#keysOfGroup.size;
  }
  groupOf(client: string, id: string): GroupId | undefined {
    return this.groupsWith(client, "group id", id)[0];
  }
  /** Names ignore case, so several groups may have one. */
  groupsWith(client: string, by: "group id" | "group name" | "group externalId", value: string): readonly GroupId[] {
    return [...(this.#groupsBy.get(keyOf(client, by, value)) ?? [])];
  }

  record(userId: UserId): ProvisionedRecord | undefined {
    return parseProvisioned(this.#profileOf(userId))?.record;
  }

  /** Earlier users of the record of a user. */
  aliasesOf(userId: UserId): readonly UserId[] {
    return this.#people.aliasesOf(userId);
  }
  /** The people who sign in and correlate with a provisioned person. */
  peopleOf(userId: UserId): readonly UserId[] {
    return this.#people.peopleOf(userId);
  }
  /** The provisioned people that a person correlates with, those that have moved included. */
  correlatedWith(person: UserId): readonly UserId[] {
    return this.#people.namedBy(person) ?? none;
  }

  /**
   * False: the person has the groups that the provisioned people give, and no session that they deny; or this node
   * cannot read the person, and leaves them alone.
   */
  isMismatch(person: UserId): boolean {
    const { projection } = this.#replica;
    if (this.#people.namedBy(person) === undefined || projection.user(person)?.status === "erased") return false;
    for (const source of this.#sources()) {
      const wanted = new Set<GroupId>();
      for (const userId of this.correlatedWith(person))
        for (const groupId of this.#groupsFrom(source, userId)) wanted.add(groupId);
      const held = this.#groupsFrom(source, person);
      if (held.length !== wanted.size || held.some((groupId) => !wanted.has(groupId))) return true;
    }
    const isBarred = this.correlatedWith(person).some((userId) => projection.user(userId)?.status === "suspended");
    return isBarred && projection.sessionsOf(person).some((id) => projection.sessionStatus(id).status === "active");
  }

  #sources(): readonly ("scim" | "directory")[] {
    return this.#replica.projection.level < directoriesFrom ? ["scim"] : ["scim", "directory"];
  }

  #groupsFrom(source: "scim" | "directory", userId: UserId): readonly GroupId[] {
    const held: GroupId[] = [];
    for (const [groupId, { sources }] of this.#replica.projection.memberships(userId))
      if (sources.includes(source)) held.push(groupId);
    return held;
  }

  #markAll(): void {
    const { projection } = this.#replica;
    this.#people.forgetReads();
    for (const userId of this.#entries.keys()) this.#changed.mark(userId);
    for (const { userId } of projection.users()) this.#changed.mark(userId);
    for (const groupId of this.#keysOfGroup.keys()) this.#readGroup(groupId);
    for (const { groupId } of projection.groups()) this.#readGroup(groupId);
  }

  #mark(stream: Parameters<typeof parseStream>[0]): void {
    const parsed = parseStream(stream);
    if (parsed.kind === "user") this.#changed.mark(parsed.id);
    else if (parsed.kind === "group") this.#readGroup(parsed.id);
    else if (parsed.kind === "session") {
      const session = this.#replica.projection.session(parsed.id);
      if (session?.userId !== undefined && session.userId !== null) this.#changed.mark(session.userId);
    }
  }

  #profileOf(userId: UserId): Profile | undefined {
    const sealed = this.#replica.projection.user(userId)?.profile;
    return sealed === undefined || sealed === null ? undefined : this.#replica.open(sealed, userId);
  }

  #read(userId: UserId): void {
    const sealed = this.#replica.projection.user(userId)?.profile;
    if (!this.#people.hasRead(userId, sealed)) this.#readProfile(userId);
    for (const person of this.peopleOf(userId)) this.#report(person);
    this.#report(userId);
  }

  #readProfile(userId: UserId): void {
    const profile = this.#profileOf(userId);
    const provisioned = parseProvisioned(profile);
    this.#put(userId, provisioned && entryOf(userId, provisioned.client, provisioned.record));
    if (provisioned === undefined) this.#correlate(userId, profile);
    else this.#people.removeNamed(userId);
    const sealed = this.#replica.projection.user(userId)?.profile;
    // The key may arrive later than the profile.
    if (profile === undefined || sealed === null || sealed === undefined) this.#people.forgetRead(userId);
    else this.#people.recordRead(userId, sealed);
  }

  #correlate(person: UserId, profile: Profile | undefined): void {
    if (profile === undefined) {
      // Without the person's key this node does not know what the person correlates with, which is not "nothing".
      this.#people.removeNamed(person);
      return;
    }
    const all = new Set(this.#provisionedFor(profile));
    for (const userId of all) {
      const movedTo = this.#entries.get(userId)?.movedTo ?? null;
      if (movedTo !== null) all.add(movedTo);
    }
    this.#people.setNamed(person, [...all]);
  }

  #report(person: UserId): void {
    if (this.isMismatch(person)) this.#onMismatch(person);
  }

  #put(userId: UserId, entry: DirectoryEntry | undefined): void {
    const before = this.#entries.get(userId);
    if (before !== undefined) {
      this.#forget(before);
      this.#counts.set(before.client, this.recordsOf(before.client) - 1);
    }
    if (entry !== undefined) this.#counts.set(entry.client, this.recordsOf(entry.client) + 1);
    if ((before?.movedTo ?? null) !== (entry?.movedTo ?? null))
      for (const person of this.#people.peopleNaming(userId)) {
        this.#people.forgetRead(person);
        this.#changed.mark(person);
      }
    if (entry === undefined) {
      this.#entries.delete(userId);
      return;
    }
    this.#entries.set(userId, entry);
    const { client, movedTo } = entry;
    if (movedTo !== null) this.#people.addAlias(movedTo, userId);
    if (!entry.isLive) return;
    this.#userOf.set(keyOf(client, "id", entry.id), userId);
    this.#userOf.set(keyOf(client, "userName", entry.userName), userId);
    if (entry.externalId !== null) this.#userOf.set(keyOf(client, "externalId", entry.externalId), userId);
    for (const email of entry.emails) addTo(this.#byEmail, keyOf(client, "email", email), userId);
    const listed = this.#listed.get(client) ?? { users: [], isSorted: true };
    this.#listed.set(client, listed);
    if (before?.isLive === true && before.id === entry.id) return;
    const last = listed.users.at(-1);
    const newest = last === undefined ? "" : (this.#entries.get(last)?.createdAt ?? "");
    if (newest >= entry.createdAt) listed.isSorted = false;
    listed.users.push(userId);
  }

  #forget(entry: DirectoryEntry): void {
    const { client, userId, movedTo } = entry;
    if (movedTo !== null) this.#people.removeAlias(movedTo, userId);
    if (!entry.isLive) return;
    for (const [by, value] of [
      ["id", entry.id],
      ["userName", entry.userName],
      ["externalId", entry.externalId],
    ] as const) {
      const key = keyOf(client, by, value ?? "");
      if (this.#userOf.get(key) === userId) this.#userOf.delete(key);
    }
    for (const email of entry.emails) deleteFrom(this.#byEmail, keyOf(client, "email", email), userId);
    const listed = this.#listed.get(client);
    if (listed !== undefined) listed.isSorted = false;
  }

  #readGroup(groupId: GroupId): void {
    const group = this.#replica.projection.group(groupId);
    const keys = group === undefined ? [] : keysOfGroup(group);
    const before = this.#keysOfGroup.get(groupId) ?? [];
    if (before.length === keys.length && before.every((key, at) => key === keys[at])) return;
    for (const key of before) deleteFrom(this.#groupsBy, key, groupId);
    for (const key of keys) addTo(this.#groupsBy, key, groupId);
    if (keys.length === 0) this.#keysOfGroup.delete(groupId);
    else this.#keysOfGroup.set(groupId, keys);
  }
}

function entryOf(userId: UserId, client: string, record: ProvisionedRecord): DirectoryEntry {
  const { resource } = record;
  return {
    userId,
    client,
    id: record.id,
    version: record.version,
    isLive: resource !== null,
    movedTo: record.movedTo,
    userName: (resource === null ? undefined : textAttribute(resource, "userName"))?.toLowerCase() ?? "",
    externalId: (resource === null ? undefined : textAttribute(resource, "externalId")) ?? null,
    emails:
      resource === null ? [] : [...new Set(emailsOf(resource).map((email) => email.toLowerCase()))].slice(0, emailsMax),
    createdAt: record.createdAt,
  };
}

function keysOfGroup({ name, scim }: Group): readonly string[] {
  if (scim === undefined) return [];
  const { client, id, externalId } = scim;
  const external = externalId === null ? [] : [keyOf(client, "group externalId", externalId)];
  return [keyOf(client, "group id", id), keyOf(client, "group name", name), ...external];
}

/** No client's name has a line feed. */
function keyOf(client: string, by: string, value: string): string {
  return `${client}\n${by}\n${by === "userName" || by === "group name" ? value.toLowerCase() : value}`;
}
