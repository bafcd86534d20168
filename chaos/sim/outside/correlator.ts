/**
 * Correlator: two authenticate nodes give people who sign in what their provisioned people give them, where a change at
 * the same time has left that out, as scim-directory.ts does.
 */
import { type GroupId, parseCommandId, type UserId } from "../../../src/events/index.ts";
import type { NodeCopy } from "../actors.ts";
import { authenticateNode, type OutsideParts } from "./outside-parts.ts";
import { provisionedOf } from "./provisioned-people.ts";

const everyMs = 1_200;
const fromMs = 6_000;
export const correlateActor = "service:scim";

export class Correlator {
  readonly #parts: OutsideParts;
  readonly #pending = new Set<UserId>();

  constructor(parts: OutsideParts) {
    this.#parts = parts;
  }

  start(): void {
    const { provisioning, directory } = this.#parts.options.outside;
    if (!provisioning && !directory) return;
    for (const by of [0, 0.5]) this.#lookPeriodically(by, fromMs + by * everyMs);
  }

  #lookPeriodically(by: number, atMs: number): void {
    this.#parts.actors.world.at(atMs, () => {
      this.#look(by);
      this.#lookPeriodically(by, atMs + everyMs);
    });
  }

  #look(by: number): void {
    const { people, options, random, submit } = this.#parts;
    const node = authenticateNode(this.#parts, by);
    const copy = node.copy();
    if (copy === undefined) return;
    for (const userId of people.users) {
      const provisioned = provisionedOf(userId, options.outside);
      if (this.#pending.has(userId) || !isMismatch(copy, userId, provisioned)) continue;
      this.#pending.add(userId);
      const commandId = parseCommandId(random.uuid());
      const command = { type: "correlateUser", userId, provisioned } as const;
      submit({ commandId, actor: correlateActor, command }, node.sender, () => this.#pending.delete(userId));
    }
  }
}

/** A person has sessions, or groups, that the provisioned people do not give. */
export function isMismatch({ projection }: NodeCopy, person: UserId, provisioned: readonly UserId[]): boolean {
  if (projection.user(person) === undefined || projection.user(person)?.status === "erased") return false;
  for (const source of ["scim", "directory"] as const) {
    const groupsOf = (userId: UserId): readonly GroupId[] =>
      [...projection.memberships(userId)].filter(([, { sources }]) => sources.includes(source)).map(([id]) => id);
    const [wanted, held] = [new Set(provisioned.flatMap(groupsOf)), groupsOf(person)];
    if (held.length !== wanted.size || held.some((id) => !wanted.has(id))) return true;
  }
  if (!provisioned.some((userId) => projection.user(userId)?.status === "suspended")) return false;
  return projection.sessionsOf(person).some((id) => projection.sessionStatus(id).status === "active");
}
