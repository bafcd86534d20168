/**
 * HTTP/1 parser: Node's own llhttp, as a push parser for either side of the proxy.
 *
 * The parser is the one that `node:http` runs, in its strict form, and never the lenient one (docs/adr/0011). It is reached
 * through the module that `node:http` itself takes it from; what of it is used is declared here, and checked when this file is
 * loaded, so that a runtime without it is refused at once and by name.
 */
import { createRequire } from "node:module";
import type { Socket } from "node:net";
import type { RawLines } from "../message/header-lines.ts";
import { HandleFlowControl, type SocketHandle } from "./handle-flow.ts";

type OnHeaders = (lines: RawLines, url: string) => void;
/** Of a request: method and url are set; of an answer: status is. */
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
  /** @returns how many bytes were read; fewer than given behind an upgrade; or why it could not be read */
  execute(bytes: Buffer): number | ParseError;
  /** The peer has ended. @returns why what came is incomplete */
  finish(): number | ParseError | undefined;
  /** From now on it reads the bytes of a socket itself, and `kOnExecute` is told what came of each read. */
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
 * 0: a body may follow, 1: none does, 2: what follows is another protocol. `end-known`: as 0, and where it ends follows from the head,
 * so that nobody need be told.
 */
export type AfterHead = 0 | 1 | 2 | "end-known";

export type Http1Callbacks = Readonly<{
  onHead: (...head: Parameters<OnHeadersComplete>) => AfterHead;
  onBody: (bytes: Buffer) => void;
  /** Not of a message whose end is known. */
  onComplete: () => void;
  /** Trailers, in one part or several. */
  onTrailers: (lines: RawLines) => void;
  /** A head, or the trailers of a message, have more lines than allowed. The parser reports nothing after this. */
  onTooManyLines: (error: ParseError) => void;
}>;

/** How many header lines the parser hands over at once. Only the last part of a head may have fewer. */
export const linesPerPart = 32;

export type HeadLimits = Readonly<{
  /** Names, values and first line together. More are an error of code `HPE_HEADER_OVERFLOW`. */
  bytesMax: number;
  /**
   * Counted while a head is read, part by part: no more than these and one part are ever looked at, however many a peer sends. A whole
   * head may have up to a part more, which its reader has to refuse.
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
  // A long head comes in parts, of which all but the last come here; after the head, these are trailers.
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
      removeCallbacks(parser); // it may have the rest of this read before it
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
 * A parser that reads its socket by itself, as in `node:http`: no buffer, no stream and no event for what it reads. The socket still
 * says when it ends, breaks and closes.
 */
export class ParserSocketReader {
  readonly #parser: Http1Parser;
  readonly #flow: HandleFlowControl;

  /** @returns undefined: this socket is not read that way */
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

  /** What comes from now on is the socket's `data` again, unless it is held: then when the socket is resumed. */
  release(): void {
    this.#parser.unconsume();
    this.#flow.returnToStream();
  }
}

/**
 * Is told of the first byte of a message that begins from now on; an empty line before it is none. Nobody wants to know of most, and
 * the parser asks each time.
 * @param onBegin null: nobody any more
 */
export function setOnMessageBegin(parser: Http1Parser, onBegin: (() => void) | null): void {
  parser[Parser.kOnMessageBegin] = onBegin;
}

/** Whether what comes of bodies is told of. */
export function setOnBody(parser: Http1Parser, onBody: ((bytes: Buffer) => void) | null): void {
  parser[Parser.kOnBody] = onBody;
}

/** Lets go of the parser: later, because it may be within `execute`. */
export function freeParser(parser: Http1Parser): void {
  parser.remove();
  setImmediate(closeParser, parser);
}

function closeParser(parser: Http1Parser): void {
  parser.close();
}

/** The parser says methods by number: which number stands for which name is asked of it, once. */
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
