/**
 * Directory index: what the log has about the people of directories, and about the people who sign in and correlate
 * with them. It is read from the projection and the opened profiles. Nothing in it is a source of truth.
 *
 * `refresh` opens only profiles that have changed since the last one, in steps, so that other work goes on.
 */
import { hash } from "node:crypto";
import {
  isDirectoryClient,
  type Profile,
  type Projection,
  type ProvisionedRecord,
  parseProvisioned,
  type ScimResource,
  type UserId,
} from "../../events/index.ts";
import { PeopleIndex } from "../authenticate/people/people-index.ts";
import type { ProvisionedFor } from "../authenticate/scim/correlation.ts";

export type IndexedRecord = Readonly<{
  userId: UserId;
  client: string;
  /** The directory's own id of the person. */
  id: string;
  version: number;
  createdAt: string;
  /** Null: deleted or moved. Otherwise `digestOfResource`. */
  digest: string | null;
  movedTo: UserId | null;
}>;

const usersPerStep = 20_000;
const profilesPerStep = 500;

export class DirectoryIndex {
  readonly #provisionedFor: ProvisionedFor;
  readonly #people = new PeopleIndex();
  readonly #records = new Map<UserId, IndexedRecord>();
  /** By client and the directory's id: the user that has the live record, or else the one that had it last. */
  readonly #byId = new Map<string, UserId>();

  constructor(provisionedFor: ProvisionedFor) {
    this.#provisionedFor = provisionedFor;
  }

  async refresh(
    parts: Readonly<{
      projection: Projection;
      profiles: (userIds: readonly UserId[]) => Promise<ReadonlyMap<UserId, Profile>>;
      pause: () => Promise<void>;
    }>,
  ): Promise<void> {
    const changed: UserId[] = [];
    let seen = 0;
    for (const { userId, profile } of parts.projection.users()) {
      if (profile === null) this.#forget(userId);
      else if (!this.#people.hasRead(userId, profile)) changed.push(userId);
      seen += 1;
      if (seen % usersPerStep === 0) await parts.pause();
    }
    for (let from = 0; from < changed.length; from += profilesPerStep) {
      const some = changed.slice(from, from + profilesPerStep);
      const sealed = some.map((userId) => parts.projection.user(userId)?.profile ?? null);
      const opened = await parts.profiles(some);
      for (const [at, userId] of some.entries()) {
        this.#forget(userId);
        const profile = opened.get(userId);
        const own = sealed[at] ?? null;
        if (profile === undefined || own === null) continue; // its key may arrive later
        this.#people.recordRead(userId, own);
        this.#read(userId, profile);
      }
      await parts.pause();
    }
  }

  record(userId: UserId): IndexedRecord | undefined {
    return this.#records.get(userId);
  }
  recordOf(client: string, id: string): IndexedRecord | undefined {
    const userId = this.#byId.get(keyOf(client, id));
    return userId === undefined ? undefined : this.#records.get(userId);
  }
  /** The records of a client, deleted and moved ones included. */
  *recordsOf(client: string): Generator<IndexedRecord> {
    for (const record of this.#records.values()) if (record.client === client) yield record;
  }
  /** The record of a client that one of these users has, or has moved to another one. */
  recordAmong(client: string, users: readonly UserId[]): IndexedRecord | undefined {
    for (const each of users) {
      const record = this.#records.get(each);
      const live = record?.movedTo == null ? record : this.#records.get(record.movedTo);
      if (live?.client === client) return live;
    }
    return undefined;
  }
  /** Earlier users of the record of a user. */
  aliasesOf(userId: UserId): readonly UserId[] {
    return this.#people.aliasesOf(userId);
  }
  /** The people who sign in and correlate with a person of a directory. */
  peopleOf(userId: UserId): readonly UserId[] {
    return this.#people.peopleOf(userId);
  }

  #read(userId: UserId, profile: Profile): void {
    const provisioned = parseProvisioned(profile);
    if (provisioned === undefined) {
      const correlated = this.#provisionedFor(profile);
      if (correlated.length > 0) this.#people.setNamed(userId, correlated);
      return;
    }
    if (!isDirectoryClient(provisioned.client)) return;
    const record = recordFrom(userId, provisioned.client, provisioned.record);
    this.#records.set(userId, record);
    if (record.movedTo !== null) this.#people.addAlias(record.movedTo, userId);
    const key = keyOf(record.client, record.id);
    const holder = this.#records.get(this.#byId.get(key) ?? userId);
    if (record.digest !== null || holder === undefined || holder.digest === null) this.#byId.set(key, userId);
  }

  #forget(userId: UserId): void {
    this.#people.forgetRead(userId);
    this.#people.removeNamed(userId);
    const record = this.#records.get(userId);
    if (record === undefined) return;
    this.#records.delete(userId);
    if (record.movedTo !== null) this.#people.removeAlias(record.movedTo, userId);
    const key = keyOf(record.client, record.id);
    if (this.#byId.get(key) === userId) this.#byId.delete(key);
  }
}

export function digestOfResource(resource: ScimResource): string {
  return hash("sha256", JSON.stringify(resource), "base64url").slice(0, 22);
}

function recordFrom(userId: UserId, client: string, record: ProvisionedRecord): IndexedRecord {
  const { id, version, createdAt, resource, movedTo } = record;
  return { userId, client, id, version, createdAt, digest: resource && digestOfResource(resource), movedTo };
}

/** No client's name has a line feed. */
const keyOf = (client: string, id: string): string => `${client}\n${id}`;
