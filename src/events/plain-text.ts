/**
 * Plain text: what ids and texts from outside are made of. Pure.
 *
 * A lone surrogate is no character: stores and wires replace it, so that two texts become one. Control characters forge lines in logs
 * and headers.
 */

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const controlCharacters = /[\u0000-\u001f\u007f]/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const otherThanLineBreaks = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;

/** Well-formed, in one line, without control characters. */
export function isPlainText(text: string): boolean {
  return text.isWellFormed() && !controlCharacters.test(text);
}

/** The same, and it may have tabs and line breaks: values of claims such as a postal address do. */
export function isPlainLines(text: string): boolean {
  return text.isWellFormed() && !otherThanLineBreaks.test(text);
}
