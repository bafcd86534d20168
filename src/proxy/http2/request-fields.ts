/**
 * Request fields: collects a decoded header block into the head of a request, in the form of HTTP/1, or into trailers.
 *
 * - Pure. The authority is the `Host`. A request with both must have the same value in both. Cookies that were sent
 *   as several lines are joined.
 * - An extended CONNECT (RFC 8441) becomes what HTTP/1.1 has in its place: a GET with `Upgrade`. So the same rules
 *   decide both. No other block can contain `Upgrade`.
 * - RFC 9113 §8.2 and §8.3 say which blocks are malformed. Such a block is read on, because the decoder has to.
 * - Bounded in bytes and lines; beyond them a block is only counted.
 */
import { headerLinesMax, isPadded, type RequestHead } from "../message/canonical-request.ts";
import { type FieldKind, type FieldSink, fieldKind } from "./hpack/header-fields.ts";
import { entryOverheadBytes } from "./hpack/tables.ts";

/** Bytes of a block, counted as RFC 9113 §6.5.2 does. */
export const headListBytesMax = 131_072;
/** A few more than `canonicaliseRequest` accepts, so that it sees what it refuses. */
const linesMax = headerLinesMax + 100;

/** Why a block is refused; the stream is reset, or answered with 431. */
export type FieldsFault =
  | "too-large"
  | "header-name"
  | "header-value"
  | "connection-header"
  | "pseudo-header"
  | "content-length";

/** The head of a request. `protocol` is that of an extended CONNECT, in lower case; absent: it is none. */
export type Http2Head = RequestHead & Readonly<{ protocol?: string }>;

/** RFC 3986 §3.1. */
const schemePattern = /^[a-z][a-z0-9+.-]*$/i;
const digits = /^[0-9]{1,15}$/;

export class RequestFields implements FieldSink {
  fault: FieldsFault | undefined;
  /** Undefined: none was named. */
  contentLength: number | undefined;
  acceptsTrailers = false;
  #isTrailers = false;
  #method: string | undefined;
  #path: string | undefined;
  #scheme: string | undefined;
  #authority: string | undefined;
  #protocol: string | undefined;
  #cookies: string | undefined;
  #raw: string[] = [];
  #bytes = 0;
  #lines = 0;
  /** No pseudo-header may follow. */
  #hasRegular = false;

  /** Prepares for a block. @param isTrailers they have no pseudo-headers */
  reset(isTrailers: boolean): void {
    this.fault = undefined;
    this.contentLength = undefined;
    this.acceptsTrailers = false;
    this.#isTrailers = isTrailers;
    this.#method = undefined;
    this.#path = undefined;
    this.#scheme = undefined;
    this.#authority = undefined;
    this.#protocol = undefined;
    this.#cookies = undefined;
    this.#raw = isTrailers ? [] : ["host", ""];
    this.#bytes = 0;
    this.#lines = 0;
    this.#hasRegular = isTrailers;
  }

  onField(name: string, value: string, kind: FieldKind, isValueValid: boolean): void {
    this.#bytes += name.length + value.length + entryOverheadBytes;
    this.#lines += 1;
    if (this.fault !== undefined) return;
    if (this.#bytes > headListBytesMax || this.#lines > linesMax) this.fault = "too-large";
    else if (!isValueValid) this.fault = "header-value";
    else if (kind === fieldKind.regular) {
      this.#hasRegular = true;
      this.#raw.push(name, value);
    } else this.#onSpecial(name, value, kind);
  }

  #onSpecial(name: string, value: string, kind: FieldKind): void {
    switch (kind) {
      case fieldKind.method:
      case fieldKind.path:
      case fieldKind.scheme:
      case fieldKind.authority:
      case fieldKind.protocol:
        this.#onPseudo(kind, value);
        return;
      case fieldKind.otherPseudo:
        this.fault = "pseudo-header";
        return;
      case fieldKind.invalid:
        this.fault = "header-name";
        return;
      case fieldKind.connectionSpecific:
        this.fault = "connection-header";
        return;
      default:
        this.#hasRegular = true;
        this.#onNamed(name, value, kind);
    }
  }

  #onPseudo(kind: FieldKind, value: string): void {
    const known = this.#pseudo(kind);
    if (this.#hasRegular || known !== undefined || (kind === fieldKind.scheme && !schemePattern.test(value))) {
      this.fault = "pseudo-header";
      return;
    }
    if (kind === fieldKind.method) this.#method = value;
    else if (kind === fieldKind.path) this.#path = value;
    else if (kind === fieldKind.scheme) this.#scheme = value;
    else if (kind === fieldKind.protocol) this.#protocol = value;
    else {
      this.#authority = value;
      this.#raw[1] = value;
    }
  }

  #pseudo(kind: FieldKind): string | undefined {
    if (kind === fieldKind.method) return this.#method;
    if (kind === fieldKind.path) return this.#path;
    if (kind === fieldKind.protocol) return this.#protocol;
    return kind === fieldKind.scheme ? this.#scheme : this.#authority;
  }

  /** Regular fields with a meaning for the head. */
  #onNamed(name: string, value: string, kind: FieldKind): void {
    if (this.#isTrailers) {
      this.#raw.push(name, value);
      return;
    }
    if (kind === fieldKind.cookie && !isPadded(value)) {
      this.#cookies = this.#cookies === undefined ? value : `${this.#cookies}; ${value}`;
      return;
    }
    if (kind === fieldKind.host && value === this.#authority) return;
    if (kind === fieldKind.te) {
      if (value.toLowerCase() !== "trailers") this.fault = "connection-header";
      this.acceptsTrailers = true;
    }
    if (kind === fieldKind.contentLength) {
      if (this.contentLength !== undefined || !digits.test(value)) this.fault = "content-length";
      this.contentLength = Number(value);
    }
    this.#raw.push(name, value);
  }

  /** Called at the end of a block. @returns the head, unless the block has a fault */
  takeHead(): Http2Head | undefined {
    this.#checkPseudo();
    if (this.fault !== undefined) return undefined;
    const rawHeaders = this.#takeRaw();
    if (this.#authority === undefined) rawHeaders.splice(0, 2);
    if (this.#cookies !== undefined) rawHeaders.push("cookie", this.#cookies);
    const protocol = this.#protocol;
    if (protocol !== undefined) {
      rawHeaders.push("upgrade", protocol);
      return { method: "GET", url: this.#path ?? "", httpVersion: "2", rawHeaders, protocol: protocol.toLowerCase() };
    }
    const method = this.#method ?? "";
    const url = method === "CONNECT" ? (this.#authority ?? "") : (this.#path ?? "");
    return { method, url, httpVersion: "2", rawHeaders };
  }

  /** RFC 9113 §8.3.1 and §8.5, RFC 8441 §4. */
  #checkPseudo(): void {
    const hasTarget = this.#path !== undefined && this.#path !== "" && this.#scheme !== undefined;
    const hasNeither = this.#path === undefined && this.#scheme === undefined && this.#authority !== undefined;
    const isPlainConnect = this.#method === "CONNECT" && this.#protocol === undefined;
    const isComplete = isPlainConnect ? hasNeither : this.#method !== undefined && hasTarget;
    if (!isComplete || (this.#protocol !== undefined && this.#method !== "CONNECT")) this.fault ??= "pseudo-header";
  }

  /** Called at the end of a block. @returns names and values in turn, unless the block has a fault */
  takeTrailers(): readonly string[] | undefined {
    return this.fault === undefined ? this.#takeRaw() : undefined;
  }

  #takeRaw(): string[] {
    const raw = this.#raw;
    this.#raw = [];
    return raw;
  }
}
