/**
 * Strict HTTP/1 reader: an independent reading of the bytes on a socket, without a library.
 *
 * - It shares nothing with the parser under test.
 * - It reads RFC 9112 and RFC 9110 as narrowly as possible: anything that a recipient may repair is an error here.
 * - Tests apply it to the bytes that the proxy received and to those that it forwarded.
 */
export type StrictMessage = Readonly<{
  /** The method of a request. */
  method: string;
  target: string;
  /** The status of a response; 0 for a request. */
  status: number;
  version: string;
  /** Names as received, and values without surrounding whitespace. */
  lines: readonly (readonly [name: string, value: string])[];
  body: string;
  /** Whether the whole body has arrived. */
  complete: boolean;
}>;

export type StrictReading = Readonly<{
  messages: readonly StrictMessage[];
  /** The problem with the bytes after the last message; null: there are none. */
  problem: string | null;
}>;

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const requestLine = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP\/(1\.[01])$/;
const statusLine = /^HTTP\/(1\.[01]) ([0-9]{3}) [\t\x20-\x7e\x80-\xff]*$/;
const fieldValue = /^[\t\x20-\x7e\x80-\xff]*$/;

/** @param bytes latin1 */
export function readRequests(bytes: string): StrictReading {
  return readMessages(bytes, () => false);
}

/** @param isHead whether the nth final response answers a HEAD request, and so has no body */
export function readAnswers(bytes: string, isHead: (n: number) => boolean = () => false): StrictReading {
  return readMessages(bytes, isHead);
}

function readMessages(bytes: string, isHead: (n: number) => boolean): StrictReading {
  const messages: StrictMessage[] = [];
  let at = 0;
  let finals = 0;
  while (at < bytes.length) {
    const head = readHead(bytes, at);
    if (typeof head === "string") return { messages, problem: head };
    const interim = head.status >= 100 && head.status < 200;
    const bodiless = interim || head.status === 204 || head.status === 304 || (head.status > 0 && isHead(finals));
    const body = bodiless ? { body: "", end: head.end, complete: true } : readBody(bytes, head);
    if (typeof body === "string") return { messages, problem: body };
    if (!interim) finals++;
    messages.push({ ...head, body: body.body, complete: body.complete });
    if (!body.complete) return { messages, problem: "incomplete body" };
    at = body.end;
  }
  return { messages, problem: null };
}

type Head = Omit<StrictMessage, "body" | "complete"> & Readonly<{ end: number }>;

function readHead(bytes: string, at: number): Head | string {
  const end = bytes.indexOf("\r\n\r\n", at);
  if (end < 0) return "incomplete head";
  const [first = "", ...rest] = bytes.slice(at, end).split("\r\n");
  const [, method = "", target = "", requestVersion = ""] = requestLine.exec(first) ?? [];
  const [, answerVersion = "", status = "0"] = statusLine.exec(first) ?? [];
  if (method === "" && status === "0") return `first line ${JSON.stringify(first.slice(0, 80))}`;
  const lines: [string, string][] = [];
  for (const line of rest) {
    const colon = line.indexOf(":");
    const [name, value] = [line.slice(0, Math.max(0, colon)), line.slice(colon + 1)];
    if (!token.test(name) || !fieldValue.test(value)) return `header line ${JSON.stringify(line.slice(0, 80))}`;
    lines.push([name, value.replace(/^[\t ]+|[\t ]+$/g, "")]);
  }
  return { method, target, status: Number(status), version: requestVersion || answerVersion, lines, end: end + 4 };
}

export function valuesIn(lines: StrictMessage["lines"], name: string): string[] {
  return lines.filter(([each]) => each.toLowerCase() === name).map(([, value]) => value);
}

type Body = Readonly<{ body: string; end: number; complete: boolean }>;

function readBody(bytes: string, { lines, end, status, version }: Head): Body | string {
  const lengths = valuesIn(lines, "content-length");
  const codings = valuesIn(lines, "transfer-encoding");
  if (codings.length > 0) {
    if (lengths.length > 0) return "both framings";
    if (codings.length > 1 || codings[0]?.toLowerCase() !== "chunked") return "transfer coding";
    if (version === "1.0") return "transfer coding in HTTP/1.0";
    return readChunks(bytes, end);
  }
  const [length] = lengths;
  if (length === undefined) {
    const restIsBody = status > 0;
    return { body: restIsBody ? bytes.slice(end) : "", end: restIsBody ? bytes.length : end, complete: true };
  }
  if (lengths.length > 1 || !/^(?:0|[1-9][0-9]{0,14})$/.test(length)) return "length";
  const last = end + Number(length);
  return { body: bytes.slice(end, last), end: last, complete: last <= bytes.length };
}

const chunkLine =
  /^([0-9A-Fa-f]{1,13})(?:;[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:=(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|"[^"\\\r\n]*"))?)*$/;

function readChunks(bytes: string, from: number): Body | string {
  let body = "";
  let at = from;
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return { body, end: at, complete: false };
    const size = chunkLine.exec(bytes.slice(at, lineEnd))?.[1];
    if (size === undefined) return `chunk ${JSON.stringify(bytes.slice(at, Math.min(lineEnd, at + 40)))}`;
    at = lineEnd + 2;
    const length = Number.parseInt(size, 16);
    if (length === 0) break;
    body += bytes.slice(at, at + length);
    at += length;
    if (at + 2 > bytes.length) return { body, end: at, complete: false };
    if (bytes.slice(at, at + 2) !== "\r\n") return "chunk without its end";
    at += 2;
  }
  for (;;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return { body, end: at, complete: false };
    const line = bytes.slice(at, lineEnd);
    at = lineEnd + 2;
    if (line === "") return { body, end: at, complete: true };
    const colon = line.indexOf(":");
    if (!token.test(line.slice(0, Math.max(0, colon))) || !fieldValue.test(line.slice(colon + 1)))
      return `trailer ${JSON.stringify(line.slice(0, 80))}`;
  }
}
