/**
 * Refresh requests: operators' requests to ask the identity provider about a person now. Pure.
 *
 * - They are part of no decision, digest or snapshot. A lost one only waits for the regular refresh.
 * - Bounded: the oldest request is dropped.
 */

import type { UserRefreshRequested } from "../entities/user-events.ts";
import type { Position, UnixMs, UserId } from "../ids.ts";

export type RefreshRequest = Readonly<{ userId: UserId; requestedAt: UnixMs; position: Position }>;

const requestsMax = 1_000;

export class RefreshRequests {
  readonly #byUser = new Map<UserId, RefreshRequest>();

  add({ userId, requestedAt }: UserRefreshRequested, position: Position): void {
    this.#byUser.delete(userId); // so that the map is in the order of the requests
    this.#byUser.set(userId, { userId, requestedAt, position });
    const [oldest] = this.#byUser.keys();
    if (oldest !== undefined && this.#byUser.size > requestsMax) this.#byUser.delete(oldest);
  }

  /** Those above a position. */
  after(position: number): readonly RefreshRequest[] {
    return [...this.#byUser.values()].filter((request) => request.position > position);
  }
}
