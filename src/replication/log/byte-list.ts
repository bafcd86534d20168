/**
 * Byte list: many byte strings as one, with their lengths beside it. One block crosses a thread or a wire far more
 * cheaply than hundreds of small ones, and a block of its own can be transferred instead of copied.
 */
export type ByteList = Readonly<{ block: Uint8Array<ArrayBuffer>; lengths: readonly number[] }>;

export function joinBytes(list: readonly Uint8Array[]): ByteList {
  const lengths = list.map((bytes) => bytes.length);
  const block = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  let at = 0;
  for (const bytes of list) {
    block.set(bytes, at);
    at += bytes.length;
  }
  return { block, lengths };
}

/** The parts are views of the block. */
export function splitBytes({ block, lengths }: ByteList): Buffer[] {
  const whole = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  let at = 0;
  return lengths.map((length) => {
    at += length;
    return whole.subarray(at - length, at);
  });
}
