/**
 * Snapshot load: builds a projection from the chunks of a snapshot. Pure.
 *
 * - The caller has checked each chunk's hash against a signed manifest, so an error here means the format of another
 *   build or a bug.
 * - The projection is available only after the last chunk.
 */

import type { AccessRequest } from "../access/access-request.ts";
import type { ScimGroup } from "../entities/group-events.ts";
import type { CommandId, DeviceId, GroupId, Position, ServiceAccountId, UnixMs, UserId } from "../ids.ts";
import type { Link } from "../link.ts";
import { decode } from "../messagepack.ts";
import type { AuditSealRow } from "../projection/audit-seals.ts";
import type { MassChangeRow } from "../projection/mass-changes.ts";
import { Projection } from "../projection/projection.ts";
import type { ProjectionTables } from "../projection/projection-types.ts";
import type { TimeBox, User } from "../projection/state.ts";
import type { RevocationReason } from "../session-events.ts";
import { MalformedSnapshotError } from "../session-index/malformed-snapshot.ts";
import type { ByteStrings, SessionColumns } from "../session-index/session-index.ts";
import { chunkFormat } from "./chunks.ts";
import { allIds, arrayOf, bufferOf, numbersOf, readBytes, readIds, textsOf } from "./columns.ts";
import { userStates } from "./shard.ts";

export type SnapshotCounts = Readonly<{ sessions: number; users: number; groups: number }>;

/** Loads the chunks of one snapshot one by one, so that the caller can yield in between. */
export class ProjectionLoader {
  readonly #counts: SnapshotCounts;
  readonly #projection: Projection;
  readonly #tables: ProjectionTables;
  /** Group numbers by the group's index in the snapshot; undefined before the first chunk. */
  #groupNumbers: Uint32Array | undefined;

  constructor(at: Readonly<{ link: Link; digest: string; counts: SnapshotCounts; level: number }>) {
    this.#counts = at.counts;
    const { projection, places } = Projection.load(at);
    this.#projection = projection;
    this.#tables = places;
    places.sessions.expect(at.counts.sessions);
  }

  /** @throws MalformedSnapshotError; the loader is then unusable */
  loadChunk(chunk: Uint8Array): void {
    const [format, kind, content] = arrayOf(decodeChunk(chunk), 3);
    if (format !== chunkFormat) throw new MalformedSnapshotError(`its chunks have format ${String(format)}`);
    if (kind === "groups") {
      const groupIds = loadGroups(content, this.#tables);
      this.#groupNumbers = Uint32Array.from(groupIds, (id) => this.#tables.memberships.numberOf(id));
    } else if (kind === "shards" && this.#groupNumbers !== undefined) {
      for (const shard of arrayOf(content)) loadShard(decodeChunk(bufferOf(shard)), this.#tables, this.#groupNumbers);
    } else if (kind === "mass-changes") {
      for (const row of arrayOf(content)) this.#tables.massChanges.load(arrayOf(row) as unknown as MassChangeRow);
    } else if (kind === "audit-seals") {
      for (const row of arrayOf(content)) this.#tables.auditSeals.load(arrayOf(row) as unknown as AuditSealRow);
    } else if (kind === "access-requests") {
      for (const row of arrayOf(content)) this.#tables.accessRequests.load(row as AccessRequest);
    } else throw new MalformedSnapshotError("its chunks are not in order");
  }

  /** @throws MalformedSnapshotError if chunks are missing */
  finish(): Projection {
    const { sessions, users, groups } = this.#projection.counts;
    if (sessions !== this.#counts.sessions || users !== this.#counts.users || groups !== this.#counts.groups)
      throw new MalformedSnapshotError("the numbers of sessions, users or groups differ from the stated ones");
    return this.#projection;
  }
}

/** @throws MalformedSnapshotError */
export function loadProjection(
  at: ConstructorParameters<typeof ProjectionLoader>[0],
  chunks: Iterable<Uint8Array>,
): Projection {
  const loader = new ProjectionLoader(at);
  for (const chunk of chunks) loader.loadChunk(chunk);
  return loader.finish();
}

function decodeChunk(bytes: Uint8Array): unknown {
  try {
    return decode(bytes);
  } catch (cause) {
    throw new MalformedSnapshotError("a chunk cannot be read", { cause });
  }
}

function loadGroups(content: unknown, { groups }: ProjectionTables): readonly GroupId[] {
  const columns = arrayOf(content);
  if (columns.length !== 2 && columns.length !== 3) throw new MalformedSnapshotError("its groups have other columns");
  const [ids = [], names = []] = columns.slice(0, 2).map(textsOf);
  const owned = columns.length === 3 ? arrayOf(columns[2], ids.length) : [];
  for (const [at, id] of ids.entries()) {
    const groupId = id as GroupId;
    const scim = owned[at] ?? null;
    groups.set(groupId, { groupId, name: names[at] ?? id, ...(scim === null ? {} : { scim: readScimGroup(scim) }) });
  }
  return ids as readonly GroupId[];
}

function readScimGroup(row: unknown): ScimGroup {
  const [client, id, externalId, version, createdAt, changedAt] = arrayOf(row, 6);
  return {
    client: String(client),
    id: String(id),
    externalId: externalId === null ? null : String(externalId),
    version: Number(version),
    createdAt: createdAt as UnixMs,
    changedAt: changedAt as UnixMs,
  };
}

function loadShard(shard: unknown, places: ProjectionTables, groupNumbers: Uint32Array): void {
  const [, people, users, memberships, sessions, words, blobs, devices, accounts] = arrayOf(shard, 9);
  const [count, ids] = arrayOf(people, 2);
  const userIds = allIds(readIds(ids, Number(count))) as UserId[];
  const dictionary = { userIds, words: textsOf(words), blobs: readBytes(blobs) };
  loadUsers(users, places, dictionary);
  loadMemberships(memberships, places, userIds, groupNumbers);
  loadSessions(sessions, places, dictionary);
  for (const device of arrayOf(devices)) {
    const [deviceId, userId, typeId, enrolledAt, approvedBy, removed] = arrayOf(device, 6);
    places.devices.set(deviceId as DeviceId, {
      deviceId: deviceId as DeviceId,
      userId: userId as UserId,
      typeId: String(typeId),
      enrolledAt: enrolledAt as UnixMs,
      approvedBy: approvedBy as UserId | null,
      removed: removed === true,
    });
  }
  for (const account of arrayOf(accounts)) {
    const [serviceAccountId, userId, expiresAt, description, revoked] = arrayOf(account, 5);
    places.serviceAccounts.set(serviceAccountId as ServiceAccountId, {
      serviceAccountId: serviceAccountId as ServiceAccountId,
      userId: userId as UserId,
      expiresAt: expiresAt as UnixMs | null,
      description: String(description),
      revoked: revoked === true,
    });
  }
}

type Dictionary = Readonly<{
  userIds: readonly UserId[];
  words: readonly string[];
  blobs: ByteStrings;
}>;

function loadUsers(
  content: unknown,
  { users, suspensions }: ProjectionTables,
  { userIds, words, blobs }: Dictionary,
): void {
  const columns = arrayOf(content);
  if (columns.length !== 4 && columns.length !== 5) throw new MalformedSnapshotError("its users have other columns");
  const [statuses, profiles, belows, reasons, ends = []] = columns;
  const boxes = new Map<unknown, TimeBox>();
  for (const row of arrayOf(ends)) {
    const [rank, until, why] = arrayOf(row, 3);
    boxes.set(rank, { until: until as UnixMs, reason: String(why) });
  }
  const count = userIds.length;
  const status = numbersOf(statuses, "u8", count);
  const profile = numbersOf(profiles, "u32", count);
  const below = numbersOf(belows, "f64", count);
  const reason = numbersOf(reasons, "u32", count);
  for (let row = 0; row < count; row++) {
    const state = userStates[(status[row] ?? 0) - 1];
    if (state === undefined) continue;
    const userId = userIds[row] as UserId;
    const user: User = {
      userId,
      status: state,
      profile: profile[row] === 0 ? null : copyOf(blobs, (profile[row] ?? 0) - 1),
      sessionsRevokedBelow: below[row] as Position,
      sessionsRevokedFor: reason[row] === 0 ? null : (entry(words, (reason[row] ?? 0) - 1) as RevocationReason),
      ...suspensionOf(boxes.get(row)),
    };
    users.set(userId, user);
    suspensions.set(userId, user.suspension?.until);
  }
}

function suspensionOf(box: TimeBox | undefined): Pick<User, "suspension"> {
  return box === undefined ? {} : { suspension: box };
}

function loadMemberships(
  content: unknown,
  { memberships }: ProjectionTables,
  userIds: readonly UserId[],
  groupNumbers: Uint32Array,
): void {
  const columns = arrayOf(content);
  if (columns.length < 3 || columns.length > 5) throw new MalformedSnapshotError("its memberships have other columns");
  const [counts, groups, bits, grants = [], requested = []] = columns;
  const count = numbersOf(counts, "u32", userIds.length);
  const group = numbersOf(groups, "u32").map((rank) => groupNumbers[rank] ?? missing());
  const bit = numbersOf(bits, "u8", group.length);
  let from = 0;
  for (let row = 0; row < userIds.length; row++) {
    const to = from + (count[row] ?? 0);
    if (to > from) memberships.load(userIds[row] as UserId, group.subarray(from, to), bit.subarray(from, to));
    from = to;
  }
  if (from !== group.length) throw new MalformedSnapshotError("the number of memberships differs from the stated one");
  for (const row of arrayOf(grants)) {
    const [rank, groupRank, until, reason] = arrayOf(row, 4);
    const userId = entry(userIds, Number(rank));
    const grant = { until: until as UnixMs, reason: String(reason) };
    memberships.loadClaim(userId, groupNumbers[Number(groupRank)] ?? missing(), { grant });
  }
  for (const row of arrayOf(requested)) {
    const [rank, groupRank, until, requestId] = arrayOf(row, 4);
    const claim = { requested: { requestId: String(requestId) as CommandId, until: until as UnixMs } };
    memberships.loadClaim(entry(userIds, Number(rank)), groupNumbers[Number(groupRank)] ?? missing(), claim);
  }
}

function loadSessions(columns: unknown, { sessions }: ProjectionTables, { userIds, words, blobs }: Dictionary): void {
  const all = arrayOf(columns);
  if (all.length < 10 || all.length > 12) throw new MalformedSnapshotError("its sessions have other columns");
  const [counted, ids, persons, flags, wordNumbers, issued, expires, refreshed, placesIn, profiles] = all;
  const count = Number(counted);
  sessions.load({
    count,
    ids: readIds(ids, count),
    person: numbersOf(persons, "u32", count),
    people: userIds,
    flags: numbersOf(flags, "u8", count),
    word: numbersOf(wordNumbers, "u32", count),
    words,
    issuedAt: numbersOf(issued, "f64", count),
    expiresAt: numbersOf(expires, "f64", count),
    refreshedAt: numbersOf(refreshed, "f64", count),
    position: numbersOf(placesIn, "f64", count),
    profile: numbersOf(profiles, "u32", count),
    profiles: blobs,
    providerSessions: readProviderSessions(all[10], count),
    seen: readUses(all[11], count),
  });
}

function readProviderSessions(column: unknown, count: number): SessionColumns["providerSessions"] {
  const [having, ids] =
    column === undefined ? [new Uint8Array(), [new Uint8Array(), new Uint8Array(), []]] : arrayOf(column, 2);
  const rows = numbersOf(having, "u32");
  checkOrder(rows, count);
  return { rows, ids: readIds(ids, rows.length) };
}

function readUses(column: unknown, count: number): SessionColumns["seen"] {
  const nothing = new Uint8Array();
  const [having, seenAt, pauseMs] = column === undefined ? [nothing, nothing, nothing] : arrayOf(column, 3);
  const rows = numbersOf(having, "u32");
  checkOrder(rows, count);
  return {
    rows,
    seenAt: numbersOf(seenAt, "f64", rows.length),
    pauseMs: numbersOf(pauseMs, "f64", rows.length),
  };
}

function checkOrder(rows: Uint32Array, count: number): void {
  if (!rows.every((row, at) => row < count && (at === 0 || row > (rows[at - 1] ?? 0))))
    throw new MalformedSnapshotError("the rows of a column for some sessions are not in order");
}

/** A copy, because a view would keep the whole chunk in memory. */
function copyOf(blobs: ByteStrings, at: number): Uint8Array {
  return at < blobs.count ? Uint8Array.from(blobs.get(at)) : missing();
}

function entry<T>(list: readonly T[], at: number): T {
  return list[at] ?? missing();
}

function missing(): never {
  throw new MalformedSnapshotError("a row refers to a missing entry");
}
