/**
 * Name claims: which user names the provisioned people of this epoch have been given, and at which position. Pure.
 *
 * - A node looks for a name in its own index, which lags. Two nodes could give one name to two people at the same time.
 *   So the sender states the position that its index includes, and the leader refuses it if another person has been
 *   given the name since. The sender then reads on, and decides again.
 * - The position is of this history: the command refuses the link of another one before it asks here.
 * - A new leader knows no earlier claims: it refuses what was decided before its epoch. So does a full table.
 */
import type { CommandRequest, Position, UserId } from "../../../events/index.ts";
import { nameStreamOf } from "./write-provisioned-user.ts";

type Claim = Readonly<{ position: Position; userId: UserId }>;

export class NameClaims {
  readonly #max: number;
  /** By name, oldest first. */
  readonly #claims = new Map<string, Claim>();
  /** Claims up to here are not remembered. */
  #floor: Position;

  /** @param floor the head when the epoch began */
  constructor(floor: Position, max = 20_000) {
    this.#floor = floor;
    this.#max = max;
  }

  /** A command is in the log, its last event at this position. */
  record({ command }: CommandRequest, position: Position): void {
    if (command.type !== "writeProvisionedUser" && command.type !== "endProvisionedUser") return;
    const name = nameStreamOf(command.client, command.profile);
    if (name === null) return;
    this.#claims.delete(name);
    this.#claims.set(name, { position, userId: command.userId });
    for (const [oldest, claim] of this.#claims) {
      if (this.#claims.size <= this.#max) return;
      this.#claims.delete(oldest);
      this.#floor = claim.position;
    }
  }

  /** Whether another person may have been given the name after a position. */
  isClaimed(name: string, { userId, basis }: Readonly<{ userId: UserId; basis: Position }>): boolean {
    if (basis < this.#floor) return true;
    const claim = this.#claims.get(name);
    return claim !== undefined && claim.position > basis && claim.userId !== userId;
  }
}
