/** Jitter: spreads over time what many processes would otherwise do at once. Pure; random bytes are an argument. */

type RandomBytes = (size: number) => Uint8Array;

/** A random value between 0.8 and 1.2 times `ms`. */
export function addJitter(ms: number, randomBytes: RandomBytes): number {
  return ms * (0.8 + 0.4 * fraction(randomBytes));
}

/** Full jitter: a random value between 0 and `ms`. */
export function upTo(ms: number, randomBytes: RandomBytes): number {
  return ms * fraction(randomBytes);
}

export type Backoff = Readonly<{ first: number; max: number }>;

/** The delay after this many failures in a row: full jitter under a bound that doubles with each failure. */
export function backoffMs({ first, max }: Backoff, failures: number, randomBytes: RandomBytes): number {
  return upTo(Math.min(max, first * 2 ** Math.min(30, Math.max(0, failures - 1))), randomBytes);
}

function fraction(randomBytes: RandomBytes): number {
  const [a = 0, b = 0] = randomBytes(2);
  return (a * 256 + b) / 65_535;
}
