/**
 * Header fields of HTTP/2: which names and values a request may have (RFC 9113 §8.2 and §8.3). Pure.
 *
 * A field is checked once, when it is decoded or enters the dynamic table of its connection.
 */

/** What a name means for a request. */
export const fieldKind = {
  regular: 0,
  method: 1,
  path: 2,
  scheme: 3,
  authority: 4,
  cookie: 5,
  host: 6,
  contentLength: 7,
  te: 8,
  /** Concerns one connection of HTTP/1.1 only (RFC 9113 §8.2.2). */
  connectionSpecific: 9,
  /** A response's pseudo-header, or an unknown one. */
  otherPseudo: 10,
  /** No token, or with capitals. */
  invalid: 11,
  /** Of an extended CONNECT (RFC 8441). */
  protocol: 12,
} as const;
export type FieldKind = (typeof fieldKind)[keyof typeof fieldKind];

const kinds: ReadonlyMap<string, FieldKind> = new Map<string, FieldKind>([
  [":method", fieldKind.method],
  [":path", fieldKind.path],
  [":scheme", fieldKind.scheme],
  [":authority", fieldKind.authority],
  [":protocol", fieldKind.protocol],
  ["cookie", fieldKind.cookie],
  ["host", fieldKind.host],
  ["content-length", fieldKind.contentLength],
  ["te", fieldKind.te],
  ["connection", fieldKind.connectionSpecific],
  ["keep-alive", fieldKind.connectionSpecific],
  ["proxy-connection", fieldKind.connectionSpecific],
  ["transfer-encoding", fieldKind.connectionSpecific],
  ["upgrade", fieldKind.connectionSpecific],
]);

/** RFC 9110 §5.6.2, in lower case. */
const token = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;

export function fieldKindOf(name: string): FieldKind {
  const known = kinds.get(name);
  if (known !== undefined) return known;
  if (name.startsWith(":")) return fieldKind.otherPseudo;
  return token.test(name) ? fieldKind.regular : fieldKind.invalid;
}

/** NUL, CR, LF (RFC 9113 §8.2.1) and the other control characters, as in HTTP/1.1. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const control = /[\u0000-\u0008\u000a-\u001f\u007f]/;

export function isFieldValue(value: string): boolean {
  return !control.test(value);
}

/** Receives the fields of a header block in order. */
export interface FieldSink {
  onField(name: string, value: string, kind: FieldKind, isValueValid: boolean): void;
}
