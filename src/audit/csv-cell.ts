/**
 * CSV cell: a value as a field of RFC 4180. Pure.
 *
 * - Every text is quoted. A text that a spreadsheet would evaluate as a formula gets an apostrophe in front, so it is
 *   not exactly the value; JSON is.
 * - Control and format characters other than line ends and tabs are replaced.
 */

/** @param value records of other versions may hold any */
export function formatCsvCell(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  const text = (typeof value === "string" ? value : JSON.stringify(value)).replace(unsafe, "\u{fffd}").toWellFormed();
  return `"${(isFormula.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

/** What spreadsheets evaluate: also behind white space, and in full width. */
const isFormula = /^[\s\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20|%]|^[\t\r\n]/;
const unsafe = /(?![\t\r\n])[\p{Cc}\p{Cf}]/gu;
