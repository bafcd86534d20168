/**
 * Trace: what happened in a simulation, as lines for people (kept only when asked for) and as a running hash of
 * everything (always), so that two runs of one seed can be compared without keeping either.
 */
export class Trace {
  readonly keeps: boolean;
  readonly lines: string[] = [];
  readonly #linesMax: number;
  #a = 0x811c9dc5;
  #b = 0x9e3779b9;
  #dropped = 0;

  /** @param linesMax the oldest lines go when there are more; 0 keeps none */
  constructor(linesMax: number) {
    this.#linesMax = linesMax;
    this.keeps = linesMax > 0;
  }

  /** Sixteen hexadecimal digits. */
  get hash(): string {
    return [this.#a, this.#b].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
  }

  mixNumber(value: number): void {
    const whole = Math.trunc(value);
    const rest = (value - whole) * 2 ** 32;
    this.#mix(whole | 0);
    this.#mix(rest | 0);
  }

  mixText(text: string): void {
    for (let i = 0; i < text.length; i += 1) this.#mix(text.charCodeAt(i));
  }

  line(at: number, who: string, text: string): void {
    if (!this.keeps) return;
    // Half of the lines go at once: to shift one each time would cost more than the simulation.
    if (this.lines.length >= this.#linesMax * 2) this.#dropped += this.lines.splice(0, this.#linesMax).length;
    this.lines.push(`${(at / 1_000).toFixed(6).padStart(11)}  ${who.padEnd(12)}  ${text}`);
  }

  /** How many lines were kept no longer. */
  get dropped(): number {
    return this.#dropped;
  }

  #mix(bits: number): void {
    this.#a = Math.imul(this.#a ^ bits, 0x01000193);
    this.#b = Math.imul((this.#b << 13) | (this.#b >>> 19), 5) ^ this.#a;
  }
}
