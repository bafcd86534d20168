/**
 * Huffman code of HPACK (RFC 7541 §5.2 and Appendix B): decodes a string, four bits at a time. Pure.
 *
 * The code is canonical: the codes of one length are consecutive, in the order of their symbols. So the table of
 * Appendix B follows from the lengths alone. The encoder writes plain text, which costs bytes and saves time.
 */

/** The length of each byte's code, in bits. */
// biome-ignore format: sixteen in a line, as in the standard
export const codeLengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
  28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
  5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
  6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
  24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
  21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
  26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
  20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/** The end of a string, which no string may contain. */
const endSymbol = 256;
const endLength = 30;

/**
 * One word for each state (a prefix of a code) and four bits: the next state from bit 16, and the flags below. At most
 * one symbol ends within four bits, because the shortest code has five.
 */
const symbolFlag = 0x100;
/** A string may end here: the bits since the last symbol are ones, and fewer than eight. */
const endsFlag = 0x200;
const invalidFlag = 0x400;

const transitions = buildTransitions();

type Node = { readonly children: [Node | undefined, Node | undefined]; symbol: number; state: number; ends: boolean };

function newNode(): Node {
  return { children: [undefined, undefined], symbol: -1, state: -1, ends: false };
}

function buildTransitions(): Uint32Array {
  const root = newNode();
  let code = 0;
  let length = 0;
  const symbols = [...codeLengths.keys(), endSymbol];
  const lengthOf = (symbol: number): number => codeLengths[symbol] ?? endLength;
  for (const symbol of symbols.sort((a, b) => lengthOf(a) - lengthOf(b) || a - b)) {
    code *= 2 ** (lengthOf(symbol) - length);
    length = lengthOf(symbol);
    addCode(root, { code, length, symbol });
    code += 1;
  }
  const states = numberStates(root);
  const words = new Uint32Array(states.length * 16);
  for (const from of states)
    for (let bits = 0; bits < 16; bits++) words[from.state * 16 + bits] = transitionOf(root, from, bits);
  return words;
}

function addCode(root: Node, { code, length, symbol }: Readonly<Record<"code" | "length" | "symbol", number>>): void {
  let node = root;
  for (let at = length - 1; at >= 0; at--) {
    const bit = Math.floor(code / 2 ** at) % 2 === 0 ? 0 : 1;
    node = node.children[bit] ??= newNode();
  }
  node.symbol = symbol;
}

/** Numbers the inner nodes, the root first, and marks those reached by up to seven ones. */
function numberStates(root: Node): Node[] {
  const states: Node[] = [];
  const pending = [root];
  for (let node = pending.shift(); node !== undefined; node = pending.shift()) {
    if (node.symbol >= 0) continue;
    node.state = states.length;
    states.push(node);
    for (const child of node.children) if (child !== undefined) pending.push(child);
  }
  let padding: Node | undefined = root;
  for (let ones = 0; ones < 8 && padding !== undefined; ones++) {
    padding.ends = true;
    [, padding] = padding.children;
  }
  return states;
}

function transitionOf(root: Node, from: Node, bits: number): number {
  let node = from;
  let word = 0;
  for (let at = 3; at >= 0; at--) {
    const next: Node | undefined = node.children[(bits >> at) % 2 === 0 ? 0 : 1];
    if (next === undefined || next.symbol === endSymbol) return invalidFlag;
    if (next.symbol >= 0) word |= symbolFlag | next.symbol;
    node = next.symbol >= 0 ? root : next;
  }
  return word | (node.ends ? endsFlag : 0) | (node.state << 16);
}

/** The shortest code has five bits. */
export function decodedBytesMax(encodedBytes: number): number {
  return Math.floor((encodedBytes * 8) / 5);
}

/**
 * @param into has room for `decodedBytesMax`
 * @returns bytes written; -1: the string is invalid
 */
export function decodeHuffman(bytes: Uint8Array, from: number, to: number, into: Uint8Array): number {
  let state = 0;
  let ends = true;
  let length = 0;
  for (let at = from; at < to; at++) {
    const byte = bytes[at] ?? 0;
    const high = transitions[(state << 4) | (byte >> 4)] ?? invalidFlag;
    if ((high & invalidFlag) !== 0) return -1;
    if ((high & symbolFlag) !== 0) into[length++] = high & 0xff;
    const low = transitions[((high >>> 16) << 4) | (byte & 0xf)] ?? invalidFlag;
    if ((low & invalidFlag) !== 0) return -1;
    if ((low & symbolFlag) !== 0) into[length++] = low & 0xff;
    state = low >>> 16;
    ends = (low & endsFlag) !== 0;
  }
  return ends ? length : -1;
}
