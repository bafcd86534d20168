/**
 * Mass changes: operators who take groups from many people at once, and others who release or drop what is held, by
 * what a node shows them.
 */
import { type Command, type HeldChange, parseCommandId } from "../../../src/events/index.ts";
import type { PlannedAction } from "../workload-plan.ts";
import type { OutsideParts } from "./outside-parts.ts";

const releaseChance = 0.55;
/** How often two operators decide about one change at the same time. */
const bothChance = 0.4;

export class MassChanges {
  readonly #parts: OutsideParts;

  constructor(parts: OutsideParts) {
    this.#parts = parts;
  }

  /** Removes some members of a group, sometimes only one. */
  remove({ other, much }: PlannedAction): void {
    const { actors, people, random, client, submit, askReceipt } = this.#parts;
    const groupId = people.group(other);
    const copy = random.pick(actors.nodes).copy();
    const members = [...(copy?.projection.membersOf(groupId) ?? [])].sort();
    const removed = members.filter(() => random.chance(0.2 + much));
    if (removed.length === 0) return;
    const command: Command = { type: "changeGroupMembers", groupId, source: "operator", added: [], removed };
    const commandId = parseCommandId(random.uuid());
    const by = client(random.next());
    submit({ commandId, actor: "operator:sim", command }, by, (result) => {
      if (result.type === "done") askReceipt(by, { type: "link", link: result.link });
    });
  }

  decide({ other, much }: PlannedAction): void {
    const { actors, random } = this.#parts;
    const node = actors.nodes[Math.floor(other * actors.nodes.length)];
    const waiting = [...(node?.copy()?.projection.massChanges.held() ?? [])].filter(({ status }) => status === "held");
    const held = waiting[Math.floor(much * waiting.length)];
    if (held === undefined) return;
    const isReleased = random.chance(releaseChance);
    this.#submit(held, isReleased);
    if (random.chance(bothChance)) this.#submit(held, !isReleased);
  }

  #submit({ heldId, version }: HeldChange, isReleased: boolean): void {
    const { random, client, submit, askReceipt } = this.#parts;
    const commandId = parseCommandId(random.uuid());
    const by = client(random.next());
    const about = { heldId, version, reason: "sim" };
    const command: Command = isReleased
      ? { type: "releaseHeldChange", ...about, allowUntil: null }
      : { type: "dropHeldChange", ...about };
    submit({ commandId, actor: "operator:sim", command }, by, (result) => {
      if (isReleased && result.type === "done") askReceipt(by, { type: "link", link: result.link });
    });
  }
}
