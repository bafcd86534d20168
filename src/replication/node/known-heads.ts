/**
 * Known heads: since when this node has known that the log reaches past what it has applied. Pure.
 *
 * - A mark says from when on the log was known to reach a position. Marks at or below what is applied are dropped.
 * - Bound: `marksMax` marks. Marks that are close in time are one, from the time of the earlier one, so the answer may
 *   be too long by the distance of two marks and is never too short.
 */
type Mark = Readonly<{ position: number; at: number }>;

const marksMax = 64;
const togetherMsMin = 250;

export class KnownHeads {
  #marks: Mark[] = [];
  #head = 0;
  /** Doubled whenever there are too many marks, so that all are about as far apart. */
  #togetherMs = togetherMsMin;

  /** The highest position that the log is known to have; 0 after a reset. */
  get head(): number {
    return this.#head;
  }

  note(position: number, { applied, now }: Readonly<{ applied: number; now: number }>): void {
    if (position <= this.#head) return;
    this.#head = position;
    this.#drop(applied);
    const last = this.#marks.at(-1);
    if (last !== undefined && now - last.at < this.#togetherMs)
      this.#marks[this.#marks.length - 1] = { position, at: last.at };
    else this.#marks.push({ position, at: now });
    if (this.#marks.length > marksMax) this.#halve();
  }

  /** The history was left, so nothing is known of the log. */
  reset(): void {
    this.#marks = [];
    this.#head = 0;
    this.#togetherMs = togetherMsMin;
  }

  /** Since when the log is known to reach past `applied`; null: it is not known to. */
  since(applied: number): number | null {
    return this.#marks.find(({ position }) => position > applied)?.at ?? null;
  }

  #drop(applied: number): void {
    const first = this.#marks.findIndex(({ position }) => position > applied);
    this.#marks = first === -1 ? [] : this.#marks.slice(first);
    if (first === -1) this.#togetherMs = togetherMsMin;
  }

  /** Each two marks become one: the earlier time and the later position. */
  #halve(): void {
    const halved: Mark[] = [];
    for (let i = 0; i < this.#marks.length; i += 2) {
      const [earlier, later] = [this.#marks[i], this.#marks[i + 1]];
      if (earlier !== undefined) halved.push({ position: (later ?? earlier).position, at: earlier.at });
    }
    this.#marks = halved;
    this.#togetherMs *= 2;
  }
}
