/**
 * Writable values: whether a header's value can be sent as it is.
 *
 * Pure. A long value is mostly one that was sent before (an assertion, a cookie of the service behind us), so those are remembered, within
 * bounds, rather than gone through again.
 */
const unwritable = /[^\t\u0020-\u007e\u0080-\u00ff]/;

const shortMax = 100;
const longMax = 4_096;
/** Of all remembered values together; each character takes one byte. */
const rememberedBytesMax = 262_144;

export class HeaderValueCheck {
  readonly #known = new Set<string>();
  #bytes = 0;

  /** @returns false for what would end its line, or is no character of a header */
  isWritable(value: string): boolean {
    if (value.length <= shortMax || value.length > longMax) return !unwritable.test(value);
    if (this.#known.has(value)) return true;
    if (unwritable.test(value)) return false;
    this.#bytes += value.length;
    if (this.#bytes > rememberedBytesMax) {
      this.#known.clear();
      this.#bytes = value.length;
    }
    this.#known.add(value);
    return true;
  }
}
