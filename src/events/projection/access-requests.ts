/**
 * Access requests: those of a projection that wait or are in force, and the newest of those that have ended. Pure.
 *
 * - An entry leaves by an event alone: its person is erased, or more have ended since than are kept.
 * - The maps keep the order of the events, which decides what leaves first, so snapshots keep it too.
 * - An approved request and the membership of the source `request` come and go together (access/access-request.ts).
 */
import {
  type AccessRequest,
  type AccessRequestEvent,
  type AccessRequested,
  type AccessRequestStatus,
  endedRequestsMax,
  isOpenRequest,
} from "../access/access-request.ts";
import type { Recorded } from "../catalog.ts";
import { copyString } from "../codec/copy-string.ts";
import type { Sealed } from "../entities/user-events.ts";
import { type CommandId, type GroupId, type UnixMs, type UserId, unreachable } from "../ids.ts";
import { EndIndex } from "./end-index.ts";

type Replace = (kind: string, before: object | undefined, after: object | undefined) => void;
type At = Pick<Recorded, "recordedAt" | "actor">;

const kind = "access-request";

export class AccessRequests {
  readonly #replace: Replace;
  readonly #open = new Map<CommandId, AccessRequest>();
  /** The one that ended first comes first. */
  readonly #ended = new Map<CommandId, AccessRequest>();
  readonly #byPerson = new Map<UserId, Set<CommandId>>();
  readonly #ends = new EndIndex<CommandId>();

  /** @param replace changes the digest */
  constructor(replace: Replace) {
    this.#replace = replace;
  }

  // --- reads

  get openCount(): number {
    return this.#open.size;
  }
  get endedCount(): number {
    return this.#ended.size;
  }
  get(requestId: CommandId): AccessRequest | undefined {
    return this.#open.get(requestId) ?? this.#ended.get(requestId);
  }
  /** Those that wait or are in force, oldest first. */
  open(): IterableIterator<AccessRequest> {
    return this.#open.values();
  }
  /** Those that were denied or have ended; the one that ended first comes first. */
  ended(): IterableIterator<AccessRequest> {
    return this.#ended.values();
  }
  /** All that are known of one person, in no particular order. */
  *of(userId: UserId): Generator<AccessRequest> {
    for (const requestId of this.#byPerson.get(userId) ?? []) {
      const request = this.get(requestId);
      if (request !== undefined) yield request;
    }
  }
  /** The approved request of a person for a group; undefined: there is none. */
  inForce(userId: UserId, groupId: GroupId): AccessRequest | undefined {
    for (const request of this.of(userId))
      if (request.status === "approved" && request.groupId === groupId) return request;
    return undefined;
  }
  /** Requests whose ends have come, for the sweep. */
  expired(now: UnixMs, limit: number): readonly CommandId[] {
    return this.#ends.ended(now, limit);
  }

  /** For snapshots: everything, in the order of the maps. */
  *rows(): Generator<AccessRequest> {
    yield* this.#open.values();
    yield* this.#ended.values();
  }
  /** For `recomputedDigest`. */
  *forms(): Generator<readonly [kind: string, form: object]> {
    for (const request of this.rows()) yield [kind, request];
  }
  /** A row of a snapshot; the digest of the snapshot has it already. */
  load(row: AccessRequest): void {
    this.#set({ ...row, reason: copyOf(row.reason), note: copyOf(row.note) });
  }

  // --- folds

  evolve(event: AccessRequestEvent, at: At): void {
    switch (event.type) {
      case "AccessRequested":
        this.#add(event, at);
        return;
      case "AccessRequestDecided": {
        const before = this.#open.get(event.requestId);
        if (before?.status !== "pending") return;
        const { decision, until, note } = event;
        const decided = { decidedBy: copyString(at.actor), decidedAt: at.recordedAt, note: copyOf(note) };
        this.#change(before, {
          ...before,
          ...decided,
          status: decision,
          until: decision === "approved" ? until : null,
        });
        return;
      }
      case "AccessRequestEnded":
        this.#end(this.#open.get(event.requestId), event.outcome, at);
        return;
      default:
        unreachable(event);
    }
  }

  /** Access that was given ends, because an operator has taken the person out of the group or removed it. */
  remove(userId: UserId, groupId: GroupId, at: At): void {
    this.#end(this.inForce(userId, groupId), "removed", at);
  }

  /** An erased person has no requests. */
  forget(userId: UserId): void {
    for (const request of [...this.of(userId)]) this.#change(request, undefined);
  }

  #add(event: AccessRequested, { recordedAt }: At): void {
    if (this.get(event.requestId) !== undefined) return;
    const { type: _, requestId, userId, routeId, groupId, reason, refusal, durationMs, expiresAt } = event;
    const request: AccessRequest = {
      requestId: copyString(requestId),
      userId: copyString(userId),
      routeId: copyString(routeId),
      groupId: copyString(groupId),
      durationMs,
      reason: copyOf(reason),
      refusal: refusal === null ? null : copyString(refusal),
      requestedAt: recordedAt,
      expiresAt,
      status: "pending",
      decidedBy: null,
      decidedAt: null,
      note: null,
      until: null,
      endedBy: null,
      endedAt: null,
    };
    this.#change(undefined, request);
  }

  #end(before: AccessRequest | undefined, status: AccessRequestStatus, { recordedAt, actor }: At): void {
    if (before === undefined || !isOpenRequest(before)) return;
    const endedBy = actor === "system" ? null : copyString(actor);
    this.#change(before, { ...before, status, endedBy, endedAt: recordedAt });
  }

  #change(before: AccessRequest | undefined, after: AccessRequest | undefined): void {
    this.#replace(kind, before, after);
    if (before !== undefined) this.#delete(before);
    if (after !== undefined) this.#set(after);
    const [oldest] = this.#ended.values();
    if (this.#ended.size <= endedRequestsMax || oldest === undefined) return;
    this.#replace(kind, oldest, undefined);
    this.#delete(oldest);
  }

  #set(request: AccessRequest): void {
    const { requestId, userId, status, expiresAt, until } = request;
    const isOpen = isOpenRequest(request);
    if (isOpen) this.#open.set(requestId, request);
    else this.#ended.set(requestId, request);
    const own = this.#byPerson.get(userId) ?? new Set<CommandId>();
    this.#byPerson.set(userId, own.add(requestId));
    if (isOpen) this.#ends.set(requestId, status === "pending" ? expiresAt : (until ?? expiresAt));
  }

  #delete({ requestId, userId }: AccessRequest): void {
    this.#open.delete(requestId);
    this.#ended.delete(requestId);
    this.#ends.set(requestId, undefined);
    const own = this.#byPerson.get(userId);
    own?.delete(requestId);
    if (own?.size === 0) this.#byPerson.delete(userId);
  }
}

/** Not a view of a whole page of the log. */
const copyOf = (sealed: Sealed | null): Sealed | null => (sealed === null ? null : Uint8Array.from(sealed));
