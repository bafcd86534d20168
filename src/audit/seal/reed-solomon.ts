/**
 * Reed-Solomon code: finds which of many 16-bit symbols differ, from `syndromeCount` sums of each side. Pure.
 *
 * - A symbol `h` at position `i` adds `h · α^(i·j)` to the sum `j`, in GF(2^16). The sums of two sequences differ by
 *   the sums of their differences, and up to `errorsMax` differences follow from them, wherever they are.
 * - A position whose symbol is not known (an erasure) costs one sum, an unknown difference costs two.
 * - `spareCount` sums are not used up by differences: they show that there are too many of them to be named.
 */

export const syndromeCount = 64;
const spareCount = 4;
/** So many differences are found if no symbol is missing. */
export const errorsMax = (syndromeCount - spareCount) / 2;
/** So many symbols may be missing; each two of them take the place of one difference. */
export const erasuresMax = syndromeCount - spareCount;
/** Positions are below this. */
export const positionsMax = 32_768;

/** x^16 + x^12 + x^3 + x + 1 is primitive. */
const polynomial = 0x1_100b;
/** The order of the multiplicative group. */
const order = 0xffff;
const exp = new Uint16Array(order);
const log = new Uint16Array(order + 1);
for (let power = 0, value = 1; power < order; power++) {
  exp[power] = value;
  log[value] = power;
  value = value & 0x8000 ? (value << 1) ^ polynomial : value << 1;
}

const powerOf = (exponent: number): number => exp[exponent % order] ?? 0;
const logOf = (value: number): number => log[value] ?? 0;

function multiply(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : powerOf(logOf(a) + logOf(b));
}
/** @param b not 0 */
function divide(a: number, b: number): number {
  return a === 0 ? 0 : powerOf(logOf(a) + order - logOf(b));
}

/** Adds equal symbols at `count` positions that follow each other. @param sums `syndromeCount` from `offset` on */
export function addSymbols(
  sums: Uint16Array,
  of: Readonly<{ offset: number; symbol: number; at: number; count: number }>,
): void {
  const { offset, symbol, at, count } = of;
  if (symbol === 0) return;
  let power = logOf(symbol);
  if (count === 1) {
    for (let j = offset; j < offset + syndromeCount; j++) {
      sums[j] = (sums[j] ?? 0) ^ (exp[power] ?? 0);
      power += at;
      if (power >= order) power -= order;
    }
    return;
  }
  if (count % 2 === 1) sums[offset] = (sums[offset] ?? 0) ^ symbol;
  for (let j = 1; j < syndromeCount; j++) {
    // A geometric series.
    const series = divide(powerOf(count * j) ^ 1, powerOf(j) ^ 1);
    sums[offset + j] = (sums[offset + j] ?? 0) ^ multiply(powerOf(power + at * j), series);
  }
}

/** Adds the sums of symbols that begin at the position `by`. */
export function addShifted(sums: Uint16Array, more: Uint16Array, of: Readonly<{ offset: number; by: number }>): void {
  for (let j = 0; j < syndromeCount; j++) {
    const at = of.offset + j;
    sums[at] = (sums[at] ?? 0) ^ multiply(more[at] ?? 0, powerOf(of.by * j));
  }
}

/**
 * @param sums those of the differences
 * @param of.erasures positions without a symbol, each once
 * @returns the positions of the differences, ascending; undefined: there are too many
 */
export function locateErrors(
  sums: Uint16Array,
  of: Readonly<{ positions: number; erasures: readonly number[] }>,
): readonly number[] | undefined {
  if (of.erasures.length > erasuresMax) return undefined;
  const rest = withoutErasures(sums, of.erasures);
  if (rest.every((sum) => sum === 0)) return [];
  const locator = locatorOf(rest);
  const count = locator.length - 1;
  if (2 * count > rest.length - spareCount) return undefined;
  const found = rootsOf(locator, of.positions);
  return found.length === count && !found.some((at) => of.erasures.includes(at)) ? found : undefined;
}

/** Forney's syndromes: sums to which the erased positions add nothing. */
function withoutErasures(sums: Uint16Array, erasures: readonly number[]): Uint16Array {
  let gamma = [1];
  for (const at of erasures) {
    const shifted = [0, ...gamma].map((value) => multiply(value, powerOf(at)));
    gamma = shifted.map((value, index) => value ^ (gamma[index] ?? 0));
  }
  return Uint16Array.from({ length: syndromeCount - erasures.length }, (_, index) =>
    gamma.reduce((sum, value, j) => sum ^ multiply(value, sums[erasures.length + index - j] ?? 0), 0),
  );
}

/** Berlekamp-Massey: the shortest recurrence. @returns its coefficients, from 1 on; one more than its length */
function locatorOf(sums: Uint16Array): readonly number[] {
  let [locator, before] = [[1], [1]];
  let [length, gap, last] = [0, 1, 1];
  for (let n = 0; n < sums.length; n++) {
    let discrepancy = 0;
    for (let i = 0; i <= length; i++) discrepancy ^= multiply(locator[i] ?? 0, sums[n - i] ?? 0);
    if (discrepancy === 0) {
      gap++;
      continue;
    }
    const factor = divide(discrepancy, last);
    const present = locator;
    locator = Array.from({ length: Math.max(present.length, before.length + gap) }, (_, i) => {
      return (present[i] ?? 0) ^ multiply(factor, before[i - gap] ?? 0);
    });
    if (2 * length > n) {
      gap++;
      continue;
    }
    [length, before, last, gap] = [n + 1 - length, present, discrepancy, 1];
  }
  return Array.from({ length: length + 1 }, (_, i) => locator[i] ?? 0);
}

/** The positions whose inverse is a root (Chien's search). */
function rootsOf(locator: readonly number[], positions: number): readonly number[] {
  const found: number[] = [];
  for (let at = 0; at < positions && found.length < locator.length; at++) {
    let value = 0;
    for (const [i, coefficient] of locator.entries()) value ^= multiply(coefficient, powerOf(i * (order - at)));
    if (value === 0) found.push(at);
  }
  return found;
}
