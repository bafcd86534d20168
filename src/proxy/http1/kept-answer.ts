/**
 * Kept answer: the head of an upstream's answer as bytes, with what the parser made of it.
 *
 * Many an upstream answers as it did before, byte for byte. The same bytes at the same place, between two answers, can only be read in
 * the same way, so they are compared with and not read again. Of anything that differs in one byte, or does not stand in the read buffer
 * from its first byte to its last, nothing is known.
 */

import { readBuffer } from "./read-buffer.ts";
import type { ResponseHead } from "./response-head.ts";

export class KeptAnswer {
  readonly head: ResponseHead;
  readonly #bytes: Buffer;
  readonly #length: number;

  /** @param length of the answer, which stands whole in the read buffer */
  constructor(head: ResponseHead, length: number) {
    this.head = head;
    this.#bytes = readBuffer.copyOf(length - (head.bodyBytes ?? 0));
    this.#length = length;
  }

  /** Whether what was read is this head, a body of the length that it tells, and nothing else. */
  isAll(length: number): boolean {
    return length === this.#length && readBuffer.beginsWith(this.#bytes);
  }
}
