/**
 * Provisioning: a SCIM client creates, renames, deactivates and deletes people and changes groups, through two
 * authenticate nodes.
 *
 * A node decides by its own copy of the log, which may lag, as src/auth/authenticate/scim does: it looks whether a user
 * name is free, and names the version that it replaces. Where the log has moved on, it reads on and decides again.
 */
import {
  type Command,
  type Link,
  type ProvisionedRecord,
  parseCommandId,
  parseProvisioned,
  provisionedProfile,
  type ScimGroup,
  type UserId,
} from "../../../src/events/index.ts";
import type { NodeCopy } from "../actors.ts";
import type { SimProcess } from "../process.ts";
import type { PlannedAction } from "../workload-plan.ts";
import { isMismatch } from "./correlator.ts";
import { authenticateNode, type OutsideParts, wallOf } from "./outside-parts.ts";
import { provisionedOf, scimClient, scimUserOf } from "./provisioned-people.ts";

const actor = `service:scim/${scimClient}`;
/** Fewer names than people: a name is often taken. */
const namesMax = 4;
const attemptsMax = 5;
const againMs = [100, 700] as const;
const applyMs = 150;
const applyTriesMax = 60;
const groupsOfClient = ["board", "payroll"] as const;

type Node = ReturnType<typeof authenticateNode>;
type Made = Readonly<{ command: Command; done: (link: Link) => void }>;

export class Provisioning {
  readonly #parts: OutsideParts;

  constructor(parts: OutsideParts) {
    this.#parts = parts;
  }

  /** Creates a person, changes the name, or activates the person again. */
  write({ who, other, much }: PlannedAction): void {
    const person = this.#parts.people.user(who);
    const userName = `Name-${Math.floor(much * namesMax)}`;
    this.#attempt(authenticateNode(this.#parts, other), (copy) => {
      const record = recordOf(copy, person);
      if (isTaken(copy, person, userName)) return undefined;
      const resource = { userName, externalId: person, active: true };
      const command = this.#change(copy, person, { record, resource });
      return { command: { type: "writeProvisionedUser", ...command }, done: () => {} };
    });
  }

  /** @param how whether the record is kept */
  end({ who, other }: PlannedAction, how: "deactivated" | "deleted"): void {
    const { people } = this.#parts;
    const person = people.user(who);
    const node = authenticateNode(this.#parts, other);
    this.#attempt(node, (copy) => {
      const record = recordOf(copy, person);
      if (record === undefined || record.resource === null) return undefined;
      const resource = how === "deleted" ? null : { ...record.resource, active: false };
      const command = this.#change(copy, person, { record, resource });
      return {
        command: { type: "endProvisionedUser", ...command },
        done: (link) => this.#afterEnd(node, person, link),
      };
    });
  }

  /** Adds people to a group of the client, or removes some. */
  group({ who, other, much }: PlannedAction): void {
    const { people, random, options } = this.#parts;
    const second = options.outside.directory ? 0 : 1; // the directory has that group
    const groupId = people.groups.find((id) => id === groupsOfClient[who < 0.5 ? 0 : second]);
    if (groupId === undefined) return;
    const some = people.users.filter(() => random.chance(0.3));
    const adds = much < 0.6;
    const id = random.uuid();
    this.#attempt(authenticateNode(this.#parts, other), (copy) => {
      const { projection } = copy;
      const provisioned = some.filter((person) => recordOf(copy, person) !== undefined);
      const all = provisioned.flatMap((person) => [scimUserOf(person), ...peopleOf(copy, person)]);
      if (all.length === 0) return undefined;
      const known = projection.group(groupId)?.scim;
      if (known !== undefined && known.client !== scimClient) return undefined;
      const now = wallOf(this.#parts.actors);
      const scim: ScimGroup = {
        ...{ client: scimClient, id: known?.id ?? id, externalId: null, version: (known?.version ?? 0) + 1 },
        ...{ createdAt: known?.createdAt ?? now, changedAt: now },
      };
      const lists = { added: adds ? all : [], removed: adds ? [] : all };
      const command = { groupId, scim, client: scimClient, expected: known?.version ?? 0, ...lists, renamedFrom: null };
      const { appliedLink: basisLink } = copy;
      return {
        command: { type: "writeProvisionedGroup", ...command, basisLink },
        done: (link) => this.#receipt(other, link),
      };
    });
  }

  #change(
    copy: NodeCopy,
    person: UserId,
    { record, resource }: Readonly<{ record: ProvisionedRecord | undefined; resource: ProvisionedRecord["resource"] }>,
  ): Omit<Extract<Command, { type: "writeProvisionedUser" }>, "type"> {
    const now = new Date(wallOf(this.#parts.actors)).toISOString();
    const next: ProvisionedRecord = {
      ...{ version: (record?.version ?? 0) + 1, id: record?.id ?? this.#parts.random.uuid() },
      ...{ createdAt: record?.createdAt ?? now, changedAt: now, resource, movedTo: null },
    };
    return {
      ...{ userId: scimUserOf(person), client: scimClient, expected: record?.version ?? 0 },
      profile: provisionedProfile(scimClient, next, { email: "", name: person }),
      ...{ people: peopleOf(copy, person), aliases: [], movedFrom: null },
      basis: copy.appliedLink.position,
      basisLink: copy.appliedLink,
    };
  }

  /** @param decide undefined: the answer is a refusal, or nothing is to change */
  #attempt(node: Node, decide: (copy: NodeCopy) => Made | undefined, tries = 1): void {
    const { actors, random, submit } = this.#parts;
    const copy = node.copy();
    const made = copy && decide(copy);
    if (made === undefined) return;
    const commandId = parseCommandId(random.uuid());
    submit({ commandId, actor, command: made.command }, node.sender, (result) => {
      if (result.type === "done") made.done(result.link);
      const isRace = result.type === "refused" && (result.code === "conflict" || result.code === "not-found");
      if (isRace && tries < attemptsMax)
        actors.world.after(random.within(...againMs), () => this.#attempt(node, decide, tries + 1));
    });
  }

  /**
   * The answer to a client that ended a person's access waits until the node has applied it, and until the sessions of
   * people who signed in meanwhile have ended, too.
   */
  #afterEnd(node: Node, person: UserId, ended: Link, tries = 1): void {
    const { actors, people, random, submit } = this.#parts;
    people.end((session) => session.userId === person);
    const copy = node.copy();
    if (copy === undefined || copy.projection.applied.position < ended.position) {
      if (tries < applyTriesMax) actors.world.after(applyMs, () => this.#afterEnd(node, person, ended, tries + 1));
      return;
    }
    const provisioned = provisionedOf(person, this.#parts.options.outside);
    if (!isMismatch(copy, person, provisioned)) {
      this.#answer(node.sender, { person, ended, link: ended });
      return;
    }
    const commandId = parseCommandId(random.uuid());
    const command = { type: "correlateUser", userId: person, provisioned } as const;
    submit({ commandId, actor, command }, node.sender, (result) => {
      if (result.type === "done") this.#answer(node.sender, { person, ended, link: result.link });
    });
  }

  #answer(sender: SimProcess, of: Readonly<{ person: UserId; ended: Link; link: Link }>): void {
    const { actors, askReceipt } = this.#parts;
    const { world } = actors;
    world.report({ type: "deactivation-answered", at: world.now, process: sender.name, ...of });
    askReceipt(sender, { type: "link", link: of.link });
  }

  #receipt(by: number, link: Link): void {
    this.#parts.askReceipt(this.#parts.client(by), { type: "link", link });
  }
}

function recordOf({ profileOf }: NodeCopy, person: UserId): ProvisionedRecord | undefined {
  return parseProvisioned(profileOf(scimUserOf(person)))?.record;
}

/** The people who sign in and correlate, as far as the node knows. */
function peopleOf({ projection }: NodeCopy, person: UserId): readonly UserId[] {
  return projection.user(person)?.profile === undefined ? [] : [person];
}

function isTaken(copy: NodeCopy, person: UserId, userName: string): boolean {
  for (const { userId } of copy.projection.users()) {
    const provisioned = userId === scimUserOf(person) ? undefined : parseProvisioned(copy.profileOf(userId));
    if (provisioned?.client !== scimClient) continue;
    if (String(provisioned.record.resource?.["userName"]).toLowerCase() === userName.toLowerCase()) return true;
  }
  return false;
}
