/**
 * Lost changes: the changes this node had applied from a history that the log has lost, by name, for an operator to
 * review.
 *
 * Final denials stay in force and return to the log by themselves (tightenings.ts). Every other change, such as a
 * membership or a person who was restored, reverts to the surviving log. That log has no record of the time in between.
 * Pure; bounded: only the newest changes are remembered.
 */
import type { Link, Stream } from "../../../events/index.ts";
import { type EpochMark, sharesLink } from "../../lease/chain-history.ts";

type Change = Readonly<{ link: Link; touched: readonly (readonly Stream[])[] }>;

/**
 * `events`: the number of lost events. `streams`: the first of their streams, sessions last. `more`: some streams were
 * not remembered or did not fit.
 */
export type LostChange = Readonly<{ events: number; streams: readonly Stream[]; more: boolean }>;

const eventsMax = 4_096;
const namedMax = 100;

export class LostChanges {
  #recent: Change[] = [];
  #events = 0;
  #forgot = false;
  /** The epochs of the chain that the remembered changes are on. */
  #epochs: readonly EpochMark[] = [];

  /** The visible projection has moved to a link; `change` lists the streams that each event touched. */
  record(change: Change, epochs: readonly EpochMark[]): void {
    this.#epochs = epochs;
    this.#recent.push(change);
    this.#events += change.touched.length;
    while (this.#events > eventsMax && this.#recent.length > 1) {
      this.#events -= this.#recent.shift()?.touched.length ?? 0;
      this.#forgot = true;
    }
  }

  /**
   * Another history has replaced the one before.
   * @param epochs the epochs of the new history
   * @returns null: no remembered change was lost
   */
  takeLost(epochs: readonly EpochMark[]): LostChange | null {
    const lost = this.#recent.filter(({ link }) => !sharesLink(epochs, link, this.#epochs));
    const all = lost.length === this.#recent.length;
    const streams = new Set(lost.flatMap(({ touched }) => touched.flat()));
    const isSession = (stream: Stream): number => Number(stream.startsWith("session:"));
    const named = [...streams].sort((a, b) => isSession(a) - isSession(b));
    const events = lost.reduce((sum, { touched }) => sum + touched.length, 0);
    const more = streams.size > namedMax || (all && this.#forgot);
    this.#recent = [];
    this.#events = 0;
    this.#forgot = false;
    return events === 0 ? null : { events, streams: named.slice(0, namedMax), more };
  }
}
