/** A leader's state that performs commands one at a time and folds their events, for mass changes. */
import assert from "node:assert/strict";
import { performCommand } from "../../../src/broker/commands/catalog.ts";
import type { MassChangeLimits, Performed, Tools } from "../../../src/broker/commands/performed.ts";
import {
  type CardeaEvent,
  type Command,
  type CommandRequest,
  decodeEvent,
  type Epoch,
  type EventId,
  encodeEvent,
  type GroupId,
  genesis,
  type HeldChange,
  linkOf,
  type Position,
  Projection,
  type ScimGroup,
  streamOf,
  type UnixMs,
  type UserId,
} from "../../../src/events/index.ts";
import { aCommandId, random, user } from "../support.ts";

export const okta = "service:scim/okta#token1";
export const oktaSource = "service:scim/okta";
export const operator = "operator:alice";
export const group = (name: string): GroupId => name as GroupId;
export const people = (count: number, from = 0): readonly UserId[] =>
  Array.from({ length: count }, (_, n) => user(`p${from + n}`));
export const limits: MassChangeLimits = {
  peopleMax: 10,
  shareMax: 1,
  peopleMin: 1,
  windowMs: 3_600_000,
  heldMs: 86_400_000,
};

export class MassChangeWorld {
  readonly projection = new Projection();
  readonly limits: MassChangeLimits;
  now = 1_700_000_000_000;
  #at = genesis;

  constructor(parts: Partial<MassChangeLimits> = {}, level = 5) {
    this.limits = { ...limits, ...parts };
    this.fold([{ type: "UpgradeFinalized", level }], "system");
  }

  /** A group of a SCIM client. */
  provision(groupId: string, members: readonly UserId[]): void {
    this.fold([
      { type: "GroupUpserted", groupId: group(groupId), name: groupId, scim: scimOf(1, groupId) },
      { type: "GroupMembersChanged", groupId: group(groupId), source: "scim", added: members, removed: [] },
    ]);
  }

  fold(events: readonly CardeaEvent[], actor = okta): void {
    for (const event of events) {
      const bytes = encodeEvent({
        epoch: 1 as Epoch,
        position: (this.#at.position + 1) as Position,
        eventId: aCommandId() as string as EventId,
        stream: streamOf(event),
        version: 1,
        recordedAt: this.now as UnixMs,
        actor,
        cause: null,
        event,
      });
      const recorded = decodeEvent(bytes, this.#at);
      this.projection.apply(recorded);
      this.#at = linkOf(recorded);
    }
  }

  perform(command: Command, actor = okta, commandId = aCommandId()): Performed {
    return performCommand(this.projection, { commandId, actor, command } satisfies CommandRequest, this.#tools());
  }

  /** Performs a command and folds its events. @returns `done`, or the code of the refusal */
  submit(command: Command, actor = okta): string {
    const performed = this.perform(command, actor);
    if (performed.type === "refused") return performed.code;
    if (performed.type === "nothing") return "done";
    this.fold(performed.changes.events, actor);
    assert.equal(this.projection.recomputedDigest(), this.projection.digest());
    return performed.changes.held === undefined ? "done" : "held";
  }

  /** A change of members by the SCIM client, for the version that the group has. */
  change(groupId: string, parts: Partial<Pick<GroupWrite, "added" | "removed" | "isWhole" | "scim">>): GroupWrite {
    const version = this.projection.group(group(groupId))?.scim?.version ?? 0;
    return {
      type: "writeProvisionedGroup",
      groupId: group(groupId),
      client: "okta",
      expected: version,
      scim: scimOf(version + 1, groupId),
      added: [],
      removed: [],
      renamedFrom: null,
      ...parts,
    };
  }

  removal(groupId: string, removed: readonly UserId[]): Command {
    return { type: "changeGroupMembers", groupId: group(groupId), source: "operator", added: [], removed };
  }

  held(): readonly HeldChange[] {
    return [...this.projection.massChanges.held()];
  }
  onlyHeld(): HeldChange {
    const [only, another] = this.held();
    assert.ok(only !== undefined && another === undefined, `${this.held().length} changes are held`);
    return only;
  }

  release(held: HeldChange, parts: Partial<Extract<Command, { type: "releaseHeldChange" }>> = {}): string {
    const { heldId, version } = held;
    const command = { type: "releaseHeldChange", heldId, version, reason: "looked at it", allowUntil: null } as const;
    return this.submit({ ...command, ...parts }, operator);
  }
  drop({ heldId, version }: HeldChange): string {
    return this.submit({ type: "dropHeldChange", heldId, version, reason: "a mistake" }, operator);
  }

  members(groupId: string): readonly UserId[] {
    return [...this.projection.membersOf(group(groupId))]
      .filter((userId) => this.projection.groupsOf(userId, this.now as UnixMs).has(group(groupId)))
      .sort();
  }

  #tools(): Tools {
    return {
      now: this.now as UnixMs,
      epoch: 1 as Epoch,
      massChange: this.limits,
      personKeyOf: () => undefined,
      versionOf: () => 0,
      configOf: () => undefined,
      hasBody: () => false,
      unreadyFor: () => [],
      admittedNodes: () => [],
      lost: {
        holds: () => true,
        mayHold: () => true,
        lacks: () => false,
        endOfEpoch: () => 0 as Position,
        restoredAfter: () => false,
      },
      random,
      wrappingKey: new Uint8Array(32),
      vaultKey: new Uint8Array(32),
    };
  }
}

type GroupWrite = Extract<Command, { type: "writeProvisionedGroup" }>;

export function scimOf(version: number, id: string): ScimGroup {
  return { client: "okta", id, externalId: null, version, createdAt: 1 as UnixMs, changedAt: version as UnixMs };
}
