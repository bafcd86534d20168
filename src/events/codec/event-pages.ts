/**
 * Event pages: buffers that hold encoded events side by side, and nothing else.
 *
 * A pooled buffer of the runtime also holds requests and replies. An event of 500 bytes that is kept would keep all of
 * its 64 kB.
 */

const pageBytes = 65_536;
/** A longer event has a buffer of its own. */
const sharedBytesMax = 4_096;

class EventPages {
  #page = Buffer.allocUnsafeSlow(pageBytes);
  #used = 0;

  /** @returns room for one event, whose content is undefined */
  take(length: number): Buffer {
    if (length > sharedBytesMax) return Buffer.allocUnsafeSlow(length);
    if (length > pageBytes - this.#used) {
      this.#page = Buffer.allocUnsafeSlow(pageBytes);
      this.#used = 0;
    }
    this.#used += length;
    return this.#page.subarray(this.#used - length, this.#used);
  }

  /** @returns the same bytes in one of these buffers */
  copy(bytes: Uint8Array): Buffer {
    const own = this.take(bytes.length);
    own.set(bytes);
    return own;
  }
}

export const eventPages = new EventPages();
