/**
 * Region step context: the moment, the broker's own copy, and the outgoing effects of one step of the region core.
 * Pure.
 */
import type { MonotonicMs } from "../../events/index.ts";
import type { Moment } from "../../replication/lease/index.ts";
import type { HomeQuestion, OwnCopy, RegionEffect, RegionInput } from "./region-messages.ts";

const never = Number.POSITIVE_INFINITY;

export class RegionStepContext {
  #at: Moment = { monotonic: 0 as MonotonicMs, wall: 0 as Moment["wall"] };
  #own: OwnCopy | null = null;
  #effects: RegionEffect[] = [];
  #questions = 0;
  /** The newest wake-up time requested from the shell. */
  #wakeAt = never;
  #dueAt = never;

  get at(): Moment {
    return this.#at;
  }
  get now(): MonotonicMs {
    return this.#at.monotonic;
  }
  /** The broker's own copy when the input of this step arrived. */
  get own(): OwnCopy {
    if (this.#own === null) throw new Error("a regional broker has no copy before its first input");
    return this.#own;
  }

  begin({ type, at, own }: RegionInput): void {
    this.#at = at;
    this.#own = own;
    if (type !== "woke") return;
    this.#wakeAt = never;
    this.#dueAt = never;
  }

  emit(effect: RegionEffect): void {
    this.#effects.push(effect);
  }

  /** @returns the id of the answer */
  askHome(question: HomeQuestion): number {
    this.#questions += 1;
    this.emit({ type: "askHome", id: this.#questions, question });
    return this.#questions;
  }

  /** Requests a wake-up at this time or earlier. */
  wakeBy(at: number): void {
    this.#dueAt = Math.min(this.#dueAt, at);
  }

  /** The effects of this step. */
  end(): readonly RegionEffect[] {
    if (this.#dueAt < this.#wakeAt) {
      this.#wakeAt = this.#dueAt;
      this.emit({ type: "wake", at: this.#wakeAt });
    }
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
