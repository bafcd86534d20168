/**
 * Random pool: draws random bytes by the kilobyte. Each event takes several small draws, and a draw costs a system call.
 * What was handed out once is never handed out again; each piece is a copy, so that a kept key does not keep the pool.
 */
const poolBytes = 8_192;

export function poolRandom(random: (bytes: number) => Uint8Array): (bytes: number) => Uint8Array {
  let pool = new Uint8Array(0);
  let used = 0;
  return (bytes) => {
    if (bytes > poolBytes / 8) return random(bytes);
    if (used + bytes > pool.length) {
      pool = Uint8Array.from(random(poolBytes));
      used = 0;
    }
    const piece = pool.slice(used, used + bytes);
    pool.fill(0, used, used + bytes);
    used += bytes;
    return piece;
  };
}
