/**
 * Plain text: checks of ids and texts from outside. Pure.
 *
 * Stores and wires replace lone surrogates, so that two different texts could become equal. Control characters can
 * forge lines in logs and headers.
 */

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const controlCharacters = /[\u0000-\u001f\u007f]/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const otherThanLineBreaks = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/** Whether a text is well-formed, on one line, and without control characters. */
export function isPlainText(text: string): boolean {
  return text.isWellFormed() && !controlCharacters.test(text);
}

/** As `isPlainText`, but with tabs and line breaks, which claims such as a postal address have. */
export function isPlainLines(text: string): boolean {
  return text.isWellFormed() && !otherThanLineBreaks.test(text);
}
