/**
 * Lost changes: what a node had applied of a history that the log has lost, by name, for an operator to judge.
 *
 * Final denials stay in force and come back into the log by themselves (tightenings.ts). Whatever else was changed, a
 * membership or a person who was let in again, is once more as the surviving log says, and that log cannot say what it
 * was for a while. Pure; bounded: the newest changes are remembered.
 */
import type { Link, Stream } from "../../../events/index.ts";
import { type EpochMark, sharesLink } from "../../lease/chain-history.ts";

type Change = Readonly<{ link: Link; touched: readonly (readonly Stream[])[] }>;

/**
 * `events`: how many; `streams`: whom and what they were about, sessions last, the first of them; `more`: not all were
 * remembered, or fit.
 */
export type LostChange = Readonly<{ events: number; streams: readonly Stream[]; more: boolean }>;

const eventsMax = 4_096;
const namedMax = 100;

export class LostChanges {
  #recent: Change[] = [];
  #events = 0;
  #forgot = false;
  /** Of the chain that the remembered ones stand on. */
  #epochs: readonly EpochMark[] = [];

  /** The visible projection has moved to a link; what its events touched, an entry for each. */
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
   * Another history has taken the place of the one before.
   * @param epochs of it
   * @returns null: nothing that is remembered was lost
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
