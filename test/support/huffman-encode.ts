/** Huffman encoding of HPACK (RFC 7541 §5.2), with the table of Appendix B built as its text describes it. */
import { codeLengths } from "../../src/proxy/http2/hpack/huffman.ts";

const codes = buildCodes();

function buildCodes(): ReadonlyMap<number, string> {
  const built = new Map<number, string>();
  let [code, length] = [0n, 0];
  const lengthOf = (symbol: number): number => codeLengths[symbol] ?? 30;
  const symbols = [...codeLengths.keys(), 256];
  for (const symbol of symbols.sort((a, b) => lengthOf(a) - lengthOf(b) || a - b)) {
    code <<= BigInt(lengthOf(symbol) - length);
    length = lengthOf(symbol);
    built.set(symbol, code.toString(2).padStart(length, "0"));
    code += 1n;
  }
  return built;
}

export function huffmanEncode(bytes: Buffer): Buffer {
  let bits = [...bytes].map((byte) => codes.get(byte)).join("");
  bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, "1");
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}
