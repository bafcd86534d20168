/**
 * Suggest: the known word that a mistyped one most likely means.
 *
 * Pure. Compares by restricted Damerau-Levenshtein distance. Without a similar word, it suggests none.
 */
export function suggest(word: string, known: Iterable<string>): string | undefined {
  const typed = word.toLowerCase().replaceAll("-", "_").slice(0, 100);
  const limit = Math.max(1, Math.floor(typed.length / 4));
  let best: string | undefined;
  let bestDistance = limit + 1;
  for (const candidate of known) {
    const distance = distanceWithin(typed, candidate.toLowerCase(), limit);
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/**
 * What to do about an unknown key of a mapping.
 *
 * @param written the mapping as it is written: a key that it has already is not suggested
 * @param otherwise the remedy when no known key is similar
 */
export function unknownKeyRemedy(
  key: string,
  from: Readonly<{ known: readonly string[]; written: Readonly<Record<string, unknown>>; otherwise: string }>,
): string {
  const meant = suggest(key, from.known);
  if (meant === undefined) return from.otherwise;
  return Object.hasOwn(from.written, meant) ? `remove it: ${meant} is already set here` : `did you mean ${meant}?`;
}

/** The number of edits between two words, or anything above `limit` when there are more. */
function distanceWithin(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? limit + 1;
}
