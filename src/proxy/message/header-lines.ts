/** Header lines: names and values in turn, to be sent. Pure. Validates each value before it is written. */
import { CodedError } from "../../events/index.ts";
import type { HeaderValueCheck } from "./header-values.ts";

/** As HTTP/1.1 writes them, without the lines that frame the message, which its writer adds. */
export type HeaderText = Readonly<{
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

function formatLines(list: readonly string[], writable: HeaderValueCheck): HeaderText {
  let text = "";
  let length: string | undefined;
  let hasDate = false;
  let closesConnection = false;
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] ?? "";
    const value = list[i + 1] ?? "";
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === "date") hasDate = true;
        break;
      case 10:
        if (name.toLowerCase() !== "connection") break;
        if (value === "close") closesConnection = true;
        continue;
      case 14:
        if (name.toLowerCase() === "content-length") length = value;
        break;
      case 17:
        if (name.toLowerCase() === "transfer-encoding") continue;
        break;
      default:
    }
    if (!writable.isWritable(value)) throw new UnwritableHeaderError(name);
    text += `${name}: ${value}\r\n`;
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
