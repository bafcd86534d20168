/** Header lines: names and values in turn, to be sent. Pure. Validates each value before it is written. */
import { CodedError } from "../../events/index.ts";
import { HeaderNameCache } from "./header-name-cache.ts";
import type { HeaderValueCheck } from "./header-values.ts";

/** As HTTP/1.1 writes them, without the lines that frame the message, which its writer adds. */
export type HeaderText = Readonly<{
  /** Each line after a line end: it follows the first line of the message. */
  text: string;
  /** The value of `Content-Length`; undefined: no such line. */
  length: string | undefined;
  /** A `Date` is among the lines. */
  hasDate: boolean;
  /** `Connection: close` was among them. */
  closesConnection: boolean;
}>;

/** Names and values in turn, as they arrived. */
export type RawLines = string[];

export class HeaderLines {
  readonly list: readonly string[];
  /** HTTP/2: the head carries END_STREAM. gRPC's Trailers-Only responses depend on it. */
  readonly endsStream: boolean;

  constructor(list: readonly string[], { endsStream }: Readonly<{ endsStream: boolean }> = bodyMayFollow) {
    this.list = list;
    this.endsStream = endsStream;
  }

  /** @throws UnwritableHeaderError for a value that would end its line */
  text(values: HeaderValueCheck): HeaderText {
    return formatLines(this.list, values);
  }

  /** @param name lowercase */
  without(name: string): HeaderLines {
    const { list } = this;
    return new HeaderLines(list.filter((_, i) => list[i - (i % 2)]?.toLowerCase() !== name));
  }
}

const bodyMayFollow = { endsStream: false };

/** What a line is for its writer, and the text before its value. */
type LineStart = Readonly<{ kind: "plain" | "date" | "connection" | "length" | "dropped"; text: string }>;
const kinds: ReadonlyMap<string, LineStart["kind"]> = new Map([
  ["date", "date"],
  ["connection", "connection"],
  ["content-length", "length"],
  ["transfer-encoding", "dropped"],
]);
const lineStarts = new HeaderNameCache<LineStart>();

function lineStartOf(name: string): LineStart {
  const known = lineStarts.get(name);
  if (known !== undefined) return known;
  // A text of its own: a joined one would be copied piece by piece with each head.
  const text = Buffer.from(`\r\n${name}: `, "latin1").toString("latin1");
  const made = { kind: kinds.get(name.toLowerCase()) ?? "plain", text };
  lineStarts.add(name, made);
  return made;
}

function formatLines(list: readonly string[], writable: HeaderValueCheck): HeaderText {
  let text = "";
  let length: string | undefined;
  let hasDate = false;
  let closesConnection = false;
  for (let i = 0; i < list.length; i += 2) {
    const { kind, text: start } = lineStartOf(list[i] ?? "");
    const value = list[i + 1] ?? "";
    if (kind === "connection" || kind === "dropped") {
      if (kind === "connection" && value === "close") closesConnection = true;
      continue;
    }
    if (kind === "date") hasDate = true;
    else if (kind === "length") length = value;
    if (!writable.isWritable(value)) throw new UnwritableHeaderError(list[i] ?? "");
    text += start;
    text += value;
  }
  return { text, length, hasDate, closesConnection };
}

/** A bug of the proxy: every value should have been made writable before. */
export class UnwritableHeaderError extends CodedError<"ERR_PROXY_UNWRITABLE_HEADER"> {
  override readonly code = "ERR_PROXY_UNWRITABLE_HEADER";
  constructor(name: string) {
    super(`the header ${name} has a character that cannot be sent`);
  }
}
