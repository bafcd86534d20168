/**
 * HTTP/1 parser: Node's own llhttp as a push parser for either side of the proxy.
 *
 * It is the parser of `node:http` in its strict form, never the lenient one (docs/adr/0012). It is loaded from the
 * module from which `node:http` itself takes it. What is used of it is declared here and checked when this file is
 * loaded, so that an unsuitable runtime is refused at once and by name.
 */
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import type { RawLines } from "../message/header-lines.ts";
import { HandleFlowControl, type SocketHandle } from "./handle-flow.ts";

type OnHeaders = (lines: RawLines, url: string) => void;
/** Method and url are set for a request, status for a response. */
type OnHeadersComplete = (
  major: number,
  minor: number,
  lines: RawLines | undefined,
  method: number | undefined,
  url: string | undefined,
  status: number | undefined,
  statusText: string | undefined,
  upgrade: boolean,
  keepAlive: boolean,
) => 0 | 1 | 2;

export type Http1Parser = {
  initialize(type: number, resource: object, maxHeaderBytes: number, lenient: number): void;
  /** @returns how many bytes were parsed, fewer than given after an upgrade; or why they cannot be parsed */
  execute(bytes: Buffer): number | ParseError;
  /** The peer has ended. @returns why the message is incomplete */
  finish(): number | ParseError | undefined;
  /** Reads the bytes of a socket by itself, and reports each read to `kOnExecute`. */
  consume(handle: SocketHandle): void;
  unconsume(): void;
  remove(): void;
  close(): void;
  [callback: number]: OnHeaders | OnHeadersComplete | ((bytes: Buffer) => void) | (() => void) | OnExecute | null;
};

type OnExecute = (read: number | ParseError) => void;

export type ParseError = Error & { code: string; bytesParsed: number; reason: string };

type ParserConstructor = (new () => Http1Parser) &
  Readonly<
    Record<
      | "REQUEST"
      | "RESPONSE"
      | "kOnMessageBegin"
      | "kOnHeaders"
      | "kOnHeadersComplete"
      | "kOnBody"
      | "kOnMessageComplete"
      | "kOnExecute"
      | "kLenientNone",
      number
    >
  >;

const { HTTPParser, methods } = createRequire(import.meta.url)("node:_http_common") as {
  HTTPParser: ParserConstructor | undefined;
  methods: readonly string[];
};
if (HTTPParser === undefined)
  throw new Error("this version of Node has no HTTPParser in node:_http_common: use Node 26");
const Parser: ParserConstructor = HTTPParser;

/**
 * 0: a body may follow, 1: none does, 2: what follows is another protocol. `end-known`: as 0, and the head determines
 * where it ends, so the end need not be reported.
 */
export type AfterHead = 0 | 1 | 2 | "end-known";

export type Http1Callbacks = Readonly<{
  onHead: (...head: Parameters<OnHeadersComplete>) => AfterHead;
  onBody: (bytes: Buffer) => void;
  /** Not called for a message whose end is known. */
  onComplete: () => void;
  /** Trailers, in one part or several. */
  onTrailers: (lines: RawLines) => void;
  /** A head, or the trailers of a message, have more lines than allowed. The parser reports nothing after this. */
  onTooManyLines: (error: ParseError) => void;
}>;

/** How many header lines the parser reports at once. Only the last part of a head may have fewer. */
export const linesPerPart = 32;

export type HeadLimits = Readonly<{
  /** Names, values and first line together. More are an error of code `HPE_HEADER_OVERFLOW`. */
  bytesMax: number;
  /**
   * Counted while a head is read, part by part, so no more than these and one part are ever processed. A whole head
   * may have up to one part more, which its reader has to refuse.
   */
  linesMax: number;
}>;

export function createParser(
  type: "request" | "response",
  { bytesMax, linesMax }: HeadLimits,
  { onHead, onBody, onComplete, onTrailers, onTooManyLines }: Http1Callbacks,
): Http1Parser {
  const parser = new Parser();
  parser.initialize(type === "request" ? Parser.REQUEST : Parser.RESPONSE, {}, bytesMax, Parser.kLenientNone);
  // A long head arrives in parts; all but the last are reported here. After the head these are trailers.
  let earlierLines: RawLines = [];
  let lineCount = 0;
  let firstLine = "";
  let inHead = true;
  const complete = (): void => {
    inHead = true;
    onComplete();
  };
  let reportsEnd = true;
  const continueAfter = (after: AfterHead): 0 | 1 | 2 => {
    const isKnown = after === "end-known";
    if (isKnown) inHead = true; // no trailers can follow
    if (isKnown === reportsEnd) {
      reportsEnd = !isKnown;
      parser[Parser.kOnMessageComplete] = reportsEnd ? complete : null;
    }
    return isKnown ? 0 : after;
  };
  parser[Parser.kOnHeaders] = (lines: RawLines, url: string) => {
    lineCount += lines.length / 2;
    if (lineCount > linesMax) {
      earlierLines = [];
      removeCallbacks(parser); // the rest of this read may still follow
      onTooManyLines(Object.assign(new Error("too many header lines"), tooManyLines));
    } else if (inHead) {
      earlierLines.push(...lines);
      firstLine += url;
    } else onTrailers(lines);
  };
  parser[Parser.kOnHeadersComplete] = (major, minor, lines, method, url, status, text, upgrade, keepAlive) => {
    inHead = false;
    lineCount = 0;
    if (earlierLines.length === 0 && lines !== undefined)
      return continueAfter(onHead(major, minor, lines, method, url, status, text, upgrade, keepAlive));
    const all = lines === undefined ? earlierLines : earlierLines.concat(lines);
    const target = url === undefined || firstLine !== "" ? firstLine : url;
    earlierLines = [];
    firstLine = "";
    return continueAfter(onHead(major, minor, all, method, target, status, text, upgrade, keepAlive));
  };
  parser[Parser.kOnBody] = onBody;
  parser[Parser.kOnMessageComplete] = complete;
  return parser;
}

const tooManyLines = { code: "too-many-headers", bytesParsed: 0, reason: "too many header lines" };

function removeCallbacks(parser: Http1Parser): void {
  for (const callback of [Parser.kOnHeaders, Parser.kOnHeadersComplete, Parser.kOnBody, Parser.kOnMessageComplete])
    parser[callback] = null;
}

/**
 * A parser that reads its socket by itself, as in `node:http`: without a buffer, a stream or events for what it
 * reads. The socket still reports its end, errors and close.
 */
export class ParserSocketReader {
  readonly #parser: Http1Parser;
  readonly #flow: HandleFlowControl;

  /** @returns undefined: this socket cannot be read this way */
  static begin(parser: Http1Parser, socket: Socket, onRead: OnExecute): ParserSocketReader | undefined {
    const handle = (socket as unknown as { _handle: SocketHandle | null })._handle;
    return handle?.isStreamBase === true ? new ParserSocketReader(parser, socket, { handle, onRead }) : undefined;
  }

  private constructor(
    parser: Http1Parser,
    socket: Socket,
    { handle, onRead }: Readonly<{ handle: SocketHandle; onRead: OnExecute }>,
  ) {
    this.#parser = parser;
    this.#flow = new HandleFlowControl(socket, handle);
    parser[Parser.kOnExecute] = onRead;
    parser.consume(handle);
    this.#flow.start();
  }

  pause(): void {
    this.#flow.pause();
  }

  resume(): void {
    this.#flow.resume();
  }

  /** Later bytes are the socket's `data` events again; if it is paused, once the socket is resumed. */
  release(): void {
    this.#parser.unconsume();
    this.#flow.returnToStream();
  }
}

/**
 * Sets the callback for the first byte of the next message; an empty line before it does not count. Rarely set,
 * because the parser calls it each time.
 * @param onBegin null: none
 */
export function setOnMessageBegin(parser: Http1Parser, onBegin: (() => void) | null): void {
  parser[Parser.kOnMessageBegin] = onBegin;
}

/** Sets the callback for parts of bodies; null: none. */
export function setOnBody(parser: Http1Parser, onBody: ((bytes: Buffer) => void) | null): void {
  parser[Parser.kOnBody] = onBody;
}

/** Frees the parser: later, because it may be within `execute`. */
export function freeParser(parser: Http1Parser): void {
  parser.remove();
  setImmediate(closeParser, parser);
}

function closeParser(parser: Http1Parser): void {
  parser.close();
}

/** The parser reports methods by number. A request for each method shows its number, once. */
const methodNames: string[] = [];
for (const method of methods) {
  const parser = createParser(
    "request",
    { bytesMax: 1_024, linesMax: 1 },
    {
      onHead(_major, _minor, _lines, number) {
        if (number !== undefined) methodNames[number] = method;
        return 0;
      },
      onBody() {},
      onComplete() {},
      onTrailers() {},
      onTooManyLines() {},
    },
  );
  parser.execute(Buffer.from(`${method} ${method === "CONNECT" ? "a:1" : "/"} HTTP/1.1\r\nHost: a\r\n\r\n`));
  freeParser(parser);
}
if (methodNames[1] !== "GET")
  throw new Error("this version of Node numbers HTTP methods in a way we cannot read: use Node 26");

export function methodOf(number: number | undefined): string {
  return methodNames[number ?? -1] ?? "";
}
