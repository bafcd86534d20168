/**
 * Record cursor: the position of a record in one numbered sequence of records, from which a reader resumes. Pure.
 *
 * - In a cluster the sequence is the audit stream in JetStream, told apart by its creation time, and the number is that
 *   of a message. Every process that reads the stream knows the same cursors.
 * - In one process the sequence is a boot, and the number is that of a record.
 */
export type RecordCursor = Readonly<{
  sequence: string;
  number: number;
  /** The line of the message, from 0; 0 where a number has one record. */
  index: number;
}>;

/** The index after all lines of a message. */
export const wholeMessage = 1_000_000;
const sequenceCharsMax = 200;

export function formatCursor({ sequence, number, index }: RecordCursor): string {
  return `${encodeURIComponent(sequence)}.${number}.${index}`;
}

/** @returns undefined if the text is not a cursor */
export function parseCursor(text: string): RecordCursor | undefined {
  const [, sequence = "", number, index] = /^([\w.!~*'()%-]{1,600})\.(\d{1,15})\.(\d{1,7})$/.exec(text) ?? [];
  if (number === undefined || index === undefined) return undefined;
  try {
    const decoded = decodeURIComponent(sequence);
    if (decoded.length > sequenceCharsMax) return undefined;
    return { sequence: decoded, number: Number(number), index: Number(index) };
  } catch {
    return undefined;
  }
}

/** Whether `a` comes after `b`, of the same sequence. */
export function isAfter(a: Omit<RecordCursor, "sequence">, b: Omit<RecordCursor, "sequence">): boolean {
  return a.number > b.number || (a.number === b.number && a.index > b.index);
}
