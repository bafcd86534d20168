/**
 * Byte list: many byte strings in one block, with the length of each. Sending or transferring one block to another
 * thread is far cheaper than copying hundreds of small ones.
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
