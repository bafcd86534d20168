/** HPACK writer: encodes the same fields in any of the ways that RFC 7541 allows, chosen at random. */
import { entryOverheadBytes, staticEntries, tableBytesMax } from "../../../../src/proxy/http2/hpack/tables.ts";
import { integer } from "../../../support/http2-frames.ts";
import { huffmanEncode } from "../../../support/huffman-encode.ts";
import type { SeededRandom } from "../../../support/seeded-random.ts";

export type Line = readonly [name: string, value: string];

export class HpackWriter {
  readonly #random: SeededRandom;
  /** Newest first. */
  #entries: Line[] = [];
  #bytesMax = tableBytesMax;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  block(lines: readonly Line[]): Buffer {
    const sizes = this.#random.int(12) === 0 ? this.#resize() : [];
    return Buffer.concat([...sizes, ...lines.map((line) => this.#field(line))]);
  }

  /** One or two changes of the table's size, as after a smaller setting and a larger one (RFC 7541 §4.2). */
  #resize(): Buffer[] {
    const sizes = [this.#random.pick([0, 50, 300, tableBytesMax])];
    if (this.#random.int(2) === 0) sizes.push(this.#random.pick([100, 1_000, tableBytesMax]));
    return sizes.map((bytes) => {
      this.#bytesMax = bytes;
      this.#evict(0);
      return integer(bytes, 5, 0x20);
    });
  }

  #evict(more: number): void {
    const size = (): number => this.#entries.reduce((sum, line) => sum + bytesOf(line), 0);
    while (this.#entries.length > 0 && size() + more > this.#bytesMax) this.#entries.pop();
  }

  #field([name, value]: Line): Buffer {
    const known = [...staticEntries.map((each): Line => [each.name, each.value]), ...this.#entries];
    const same = known.findIndex(([a, b]) => a === name && b === value);
    if (same >= 0 && this.#random.int(3) > 0) return integer(same + 1, 7, 0x80);
    const named = known.findIndex(([a]) => a === name);
    const index = named >= 0 && this.#random.int(3) > 0 ? named + 1 : 0;
    const [bits, first] = this.#random.pick([
      [4, 0x00],
      [4, 0x10],
      [6, 0x40],
      [6, 0x40],
    ]);
    const parts = [integer(index, bits, first), ...(index === 0 ? [this.#text(name)] : []), this.#text(value)];
    if (bits === 6) {
      this.#evict(bytesOf([name, value]));
      if (bytesOf([name, value]) <= this.#bytesMax) this.#entries.unshift([name, value]);
    }
    return Buffer.concat(parts);
  }

  #text(text: string): Buffer {
    const plain = Buffer.from(text, "latin1");
    if (this.#random.int(2) === 0) return Buffer.concat([integer(plain.length, 7, 0), plain]);
    const coded = huffmanEncode(plain);
    return Buffer.concat([integer(coded.length, 7, 0x80), coded]);
  }
}

function bytesOf([name, value]: Line): number {
  return name.length + value.length + entryOverheadBytes;
}
