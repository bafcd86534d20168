/**
 * Trace: the record of a simulation, as readable lines (kept only on request) and as a running hash of everything.
 *
 * The hash is always kept, so two runs of one seed can be compared without their lines.
 */
export class Trace {
  readonly keeps: boolean;
  readonly lines: string[] = [];
  readonly #linesMax: number;
  #a = 0x811c9dc5;
  #b = 0x9e3779b9;
  #dropped = 0;

  /** @param linesMax maximum number of lines to keep, newest first; 0 keeps none */
  constructor(linesMax: number) {
    this.#linesMax = linesMax;
    this.keeps = linesMax > 0;
  }

  /** The hash as 16 hexadecimal digits. */
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
    // Drops half of the lines at once: one shift per line would cost more than the simulation.
    if (this.lines.length >= this.#linesMax * 2) this.#dropped += this.lines.splice(0, this.#linesMax).length;
    this.lines.push(`${(at / 1_000).toFixed(6).padStart(11)}  ${who.padEnd(12)}  ${text}`);
  }

  /** Number of dropped lines. */
  get dropped(): number {
    return this.#dropped;
  }

  #mix(bits: number): void {
    this.#a = Math.imul(this.#a ^ bits, 0x01000193);
    this.#b = Math.imul((this.#b << 13) | (this.#b >>> 19), 5) ^ this.#a;
  }
}
