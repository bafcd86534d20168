/** HPACK text: integers and strings of header blocks (RFC 7541 §5) as latin1 text. Pure. */

/** @param prefixBits bits of the first byte that belong to the integer. @param first the other bits */
export function formatInteger(value: number, prefixBits: number, first: number): string {
  const prefixMax = (1 << prefixBits) - 1;
  if (value < prefixMax) return String.fromCharCode(first | value);
  let text = String.fromCharCode(first | prefixMax);
  let rest = value - prefixMax;
  for (; rest >= 128; rest >>>= 7) text += String.fromCharCode((rest & 0x7f) | 0x80);
  return text + String.fromCharCode(rest);
}

/** A string without Huffman coding. @param text latin1 */
export function formatString(text: string): string {
  return text.length < 127 ? String.fromCharCode(text.length) + text : formatInteger(text.length, 7, 0) + text;
}
