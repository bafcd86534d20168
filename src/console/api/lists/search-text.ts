/** Search text: text as lists compare it, without case, accents and invisible characters. Pure. */

const plain = /^[ -~]*$/;

export function foldText(text: string, charsMax: number): string {
  const cut = text.slice(0, charsMax);
  if (plain.test(cut)) return cut.toLowerCase();
  return cut
    .normalize("NFKD")
    .replace(/[\p{M}\p{C}]/gu, "")
    .toLowerCase();
}
