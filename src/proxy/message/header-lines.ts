/**
 * Header lines: names and values in turn, to be sent. Many a list is sent again and again, so its text is kept with it.
 *
 * Pure. Every value is judged before it is written; what was judged is not judged again.
 */
import { CodedError } from "../../events/index.ts";
import type { KeptHead } from "../http1/kept-head.ts";
import type { WritableValues } from "./header-values.ts";

/** As HTTP/1.1 writes them, without what frames the message: that is added there. */
export type HeaderText = Readonly<{
  text: string;
  /** Of `Content-Length`; undefined: there is none. */
  length: string | undefined;
  /** There is a `Date`. */
  dated: boolean;
  /** `Connection: close` was among them. */
  closes: boolean;
}>;

/** A longer one is written anew each time: the lines may last as long as their connection, and there are thousands of those. */
const keptCharsMax = 8_192;

export class HeaderLines {
  readonly list: readonly string[];
  #text: HeaderText | undefined;
  #isFlat = false;
  /** The request that was sent with them last; kept by http1/upstream-connection.ts. */
  head: KeptHead | undefined;
  /** HTTP/2: the head carries END_STREAM. gRPC's Trailers-Only responses depend on it. */
  endsStream = false;

  constructor(list: readonly string[]) {
    this.list = list;
  }

  /** @throws UnwritableError for what would end its line */
  text(writable: WritableValues): HeaderText {
    const known = this.#text;
    if (known === undefined) {
      const made = textOf(this.list, writable);
      if (made.text.length <= keptCharsMax) this.#text = made;
      return made;
    }
    if (this.#isFlat) return known;
    // It comes again: from now on it is one piece, and not put together anew each time that it is written.
    this.#isFlat = true;
    this.#text = { ...known, text: Buffer.from(known.text, "latin1").toString("latin1") };
    return this.#text;
  }

  /** @param name lowercase */
  without(name: string): HeaderLines {
    const { list } = this;
    return new HeaderLines(list.filter((_, i) => list[i - (i % 2)]?.toLowerCase() !== name));
  }
}

function textOf(list: readonly string[], writable: WritableValues): HeaderText {
  let text = "";
  let length: string | undefined;
  let dated = false;
  let closes = false;
  for (let i = 0; i < list.length; i += 2) {
    const name = list[i] ?? "";
    const value = list[i + 1] ?? "";
    switch (name.length) {
      case 4:
        if (name.toLowerCase() === "date") dated = true;
        break;
      case 10:
        if (name.toLowerCase() !== "connection") break;
        if (value === "close") closes = true;
        continue;
      case 14:
        if (name.toLowerCase() === "content-length") length = value;
        break;
      case 17:
        if (name.toLowerCase() === "transfer-encoding") continue;
        break;
      default:
    }
    if (!writable.has(value)) throw new UnwritableError(name);
    text += `${name}: ${value}\r\n`;
  }
  return { text, length, dated, closes };
}

/** A mistake of ours: whatever a header is made of should have been made writable before. */
export class UnwritableError extends CodedError<"ERR_PROXY_UNWRITABLE_HEADER"> {
  override readonly code = "ERR_PROXY_UNWRITABLE_HEADER";
  constructor(name: string) {
    super(`the header ${name} has a character that cannot be sent`);
  }
}
