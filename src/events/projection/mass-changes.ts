/**
 * Mass changes: the held changes of a projection, and who lost a group by which source in the last day. Pure.
 *
 * - An entry leaves by an event alone: the next loss of the same source, the end of a held change, a newer permission.
 * - The maps keep the order of the events, which decides what leaves first, so snapshots keep it too.
 */
import type { Recorded } from "../catalog.ts";
import { copyString } from "../codec/copy-string.ts";
import { type CommandId, type UnixMs, type UserId, unreachable } from "../ids.ts";
import {
  type HeldChange,
  type HeldChangeEnded,
  type HeldChangeNarrowed,
  lossesMax,
  lossMsMax,
  type MassChangeHeld,
  type MassChangesAllowed,
  sourcesMax,
} from "../mass-change.ts";

/** One row of a snapshot. */
export type MassChangeRow =
  | readonly ["held", HeldChange]
  | readonly ["loss", string, UserId, UnixMs]
  | readonly ["allowed", string, UnixMs];

type Replace = (kind: string, before: object | undefined, after: object | undefined) => void;
type At = Pick<Recorded, "position" | "recordedAt" | "actor">;

const allowedMax = 256;
/** No subject contains a line feed. */
const keyOf = ({ source, subject }: Pick<HeldChange, "source" | "subject">): string => `${source}\n${subject}`;

export class MassChanges {
  readonly #replace: Replace;
  /** By source and person: the time of the newest loss, oldest first. */
  readonly #losses = new Map<string, Map<UserId, UnixMs>>();
  readonly #held = new Map<CommandId, HeldChange>();
  readonly #bySubject = new Map<string, CommandId>();
  readonly #allowed = new Map<string, UnixMs>();
  #people = 0;

  /** @param replace changes the digest */
  constructor(replace: Replace) {
    this.#replace = replace;
  }

  // --- reads

  get heldCount(): number {
    return this.#held.size;
  }
  /** Ids in all held changes. */
  get heldPeople(): number {
    return this.#people;
  }
  held(): IterableIterator<HeldChange> {
    return this.#held.values();
  }
  heldChange(heldId: CommandId): HeldChange | undefined {
    return this.#held.get(heldId);
  }
  /** The held or dropped change of a source about a subject, expired or not. */
  heldAbout(source: string, subject: string): HeldChange | undefined {
    const heldId = this.#bySubject.get(keyOf({ source, subject }));
    return heldId === undefined ? undefined : this.#held.get(heldId);
  }
  /** Until when an operator has allowed mass changes of a source; 0: never. */
  allowedUntil(source: string): number {
    return this.#allowed.get(source) ?? 0;
  }
  allowed(): IterableIterator<[source: string, until: UnixMs]> {
    return this.#allowed.entries();
  }
  /** The people who have lost a group by a source since a time. */
  *lossesOf(source: string, since: number): Generator<UserId> {
    for (const [userId, at] of this.#losses.get(source) ?? []) if (at > since) yield userId;
  }
  sources(): IterableIterator<string> {
    return this.#losses.keys();
  }
  expired(now: UnixMs): readonly CommandId[] {
    return [...this.#held.values()].filter(({ expiresAt }) => expiresAt <= now).map(({ heldId }) => heldId);
  }

  /** For snapshots: everything, in the order of the maps. */
  *rows(): Generator<MassChangeRow> {
    for (const entity of this.#held.values()) yield ["held", entity];
    for (const [source, people] of this.#losses) for (const [userId, at] of people) yield ["loss", source, userId, at];
    for (const [source, until] of this.#allowed) yield ["allowed", source, until];
  }
  /** For `recomputedDigest`. */
  *forms(): Generator<readonly [kind: string, form: object]> {
    for (const entity of this.#held.values()) yield ["held", entity];
    for (const [source, people] of this.#losses)
      for (const [userId, at] of people) yield ["loss", { source, userId, at }];
    for (const [source, until] of this.#allowed) yield ["allowed", { source, until }];
  }
  /** A row of a snapshot; the digest of the snapshot has it already. */
  load(row: MassChangeRow): void {
    if (row[0] === "held") this.#set(row[1]);
    else if (row[0] === "allowed") this.#allowed.set(row[1], row[2]);
    else this.#peopleOf(row[1]).set(row[2], row[3]);
  }

  // --- folds

  recordLosses(source: string, people: readonly UserId[], { recordedAt }: At): void {
    if (people.length === 0) return;
    const known = this.#losses.get(source) ?? new Map<UserId, UnixMs>();
    this.#losses.delete(source); // the source that was silent for longest comes first
    this.#losses.set(source, known);
    for (const userId of people) {
      this.#removeLoss(source, known, userId);
      this.#replace("loss", undefined, { source, userId, at: recordedAt });
      known.set(copyString(userId), recordedAt);
    }
    for (const [userId, at] of known) {
      if (at > recordedAt - lossMsMax && known.size <= lossesMax) break;
      this.#removeLoss(source, known, userId);
    }
    const [oldest] = this.#losses.keys();
    if (this.#losses.size > sourcesMax && oldest !== undefined) this.#forgetLosses(oldest);
  }

  evolve(event: MassChangeHeld | HeldChangeNarrowed | HeldChangeEnded | MassChangesAllowed, at: At): void {
    switch (event.type) {
      case "MassChangeHeld":
        this.#hold(event, at);
        return;
      case "HeldChangeNarrowed":
        this.#narrow(event, at);
        return;
      case "HeldChangeEnded":
        this.#end(event);
        return;
      case "MassChangesAllowed":
        this.#allow(event, at);
        return;
      default:
        unreachable(event);
    }
  }

  #hold(event: MassChangeHeld, { position, recordedAt, actor }: At): void {
    const { type: _, base, ...fields } = event;
    const before = this.#held.get(event.heldId);
    const added = new Set(base === "empty" ? [] : before?.added);
    const removed = new Set(base === "empty" ? [] : before?.removed);
    for (const userId of event.added) {
      removed.delete(userId);
      added.add(copyString(userId));
    }
    for (const userId of event.removed) {
      added.delete(userId);
      removed.add(copyString(userId));
    }
    this.#put(event.heldId, {
      ...fields,
      template: Uint8Array.from(fields.template),
      added: [...added],
      removed: [...removed],
      version: (before?.version ?? 0) + 1,
      actor,
      heldAt: before?.heldAt ?? recordedAt,
      position,
      status: "held",
    });
  }

  #narrow({ heldId, withdrawn }: HeldChangeNarrowed, { position }: At): void {
    const before = this.#held.get(heldId);
    if (before === undefined) return;
    const gone = new Set(withdrawn);
    const left = (people: readonly UserId[]): readonly UserId[] => people.filter((userId) => !gone.has(userId));
    const { version, added, removed } = before;
    this.#put(heldId, { ...before, version: version + 1, position, added: left(added), removed: left(removed) });
  }

  #end({ heldId, outcome }: HeldChangeEnded): void {
    const before = this.#held.get(heldId);
    if (before === undefined) return;
    // The version grows: an operator who has not seen the drop does not release the change.
    const { version } = before;
    this.#put(heldId, outcome === "dropped" ? { ...before, version: version + 1, status: "dropped" } : undefined);
    // An operator has looked at what the source does, so its count starts again.
    if (outcome === "released") this.#forgetLosses(before.source);
  }

  #allow({ source, until }: MassChangesAllowed, { recordedAt }: At): void {
    for (const [each, ends] of this.#allowed)
      if (each === source || ends <= recordedAt || this.#allowed.size >= allowedMax) {
        this.#replace("allowed", { source: each, until: ends }, undefined);
        this.#allowed.delete(each);
      }
    if (until <= recordedAt) return;
    this.#replace("allowed", undefined, { source, until });
    this.#allowed.set(source, until);
  }

  #put(heldId: CommandId, entity: HeldChange | undefined): void {
    const before = this.#held.get(heldId);
    this.#replace("held", before, entity);
    if (before !== undefined) {
      this.#people -= before.added.length + before.removed.length;
      this.#held.delete(heldId);
      this.#bySubject.delete(keyOf(before));
    }
    if (entity !== undefined) this.#set(entity);
  }

  #set(entity: HeldChange): void {
    this.#held.set(entity.heldId, entity);
    this.#bySubject.set(keyOf(entity), entity.heldId);
    this.#people += entity.added.length + entity.removed.length;
  }

  #peopleOf(source: string): Map<UserId, UnixMs> {
    const known = this.#losses.get(source) ?? new Map<UserId, UnixMs>();
    this.#losses.set(source, known);
    return known;
  }

  #removeLoss(source: string, known: Map<UserId, UnixMs>, userId: UserId): void {
    const at = known.get(userId);
    if (at === undefined) return;
    this.#replace("loss", { source, userId, at }, undefined);
    known.delete(userId);
  }

  #forgetLosses(source: string): void {
    const known = this.#losses.get(source);
    if (known === undefined) return;
    for (const userId of [...known.keys()]) this.#removeLoss(source, known, userId);
    this.#losses.delete(source);
  }
}
