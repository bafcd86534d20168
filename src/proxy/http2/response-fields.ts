/**
 * Response fields: collects a decoded header block of an upstream into the head of a response, or into trailers.
 *
 * - Pure. RFC 9113 §8.2 and §8.3 say which blocks are malformed. Such a block is read on, because the decoder has to.
 * - Bounded in bytes and lines; beyond them a block is only counted.
 */
import type { RawLines } from "../message/header-lines.ts";
import type { BlockFields } from "./frame-interpreter.ts";
import { type FieldKind, fieldKind } from "./hpack/header-fields.ts";
import { entryOverheadBytes } from "./hpack/tables.ts";

/** The same limits as over HTTP/1.1. */
const linesMax = 2_000;
export const responseBytesMax = 65_536;

const finalStatus = /^[1-9][0-9]{2}$/;
const digits = /^[0-9]{1,15}$/;
const padding = /^[\t ]+|[\t ]+$/g;

export class ResponseFields implements BlockFields {
  fault: "too-large" | "header-name" | "header-value" | "connection-header" | "status" | "content-length" | undefined;
  /** 0: the block has none, so it is of trailers. */
  status = 0;
  /** Undefined: none was named. */
  contentLength: number | undefined;
  #lines: RawLines = [];
  #bytes = 0;
  #count = 0;

  reset(): void {
    this.fault = undefined;
    this.status = 0;
    this.contentLength = undefined;
    this.#lines = [];
    this.#bytes = 0;
    this.#count = 0;
  }

  onField(name: string, value: string, kind: FieldKind, isValueValid: boolean): void {
    this.#bytes += name.length + value.length + entryOverheadBytes;
    this.#count += 1;
    if (this.fault !== undefined) return;
    if (this.#bytes > responseBytesMax || this.#count > linesMax) this.fault = "too-large";
    else if (!isValueValid) this.fault = "header-value";
    else if (kind === fieldKind.regular) this.#add(name, value);
    else this.#onSpecial(name, value, kind);
  }

  #onSpecial(name: string, value: string, kind: FieldKind): void {
    switch (kind) {
      case fieldKind.otherPseudo:
        if (name !== ":status" || this.status !== 0 || this.#lines.length > 0 || !finalStatus.test(value))
          this.fault = "status";
        else this.status = Number(value);
        return;
      case fieldKind.method:
      case fieldKind.path:
      case fieldKind.scheme:
      case fieldKind.authority:
      case fieldKind.protocol:
        this.fault = "status";
        return;
      case fieldKind.invalid:
        this.fault = "header-name";
        return;
      case fieldKind.connectionSpecific:
      case fieldKind.te: // which requests alone may have (RFC 9113 §8.2.2)
        this.fault = "connection-header";
        return;
      case fieldKind.contentLength:
        if (this.contentLength !== undefined || !digits.test(value)) this.fault = "content-length";
        this.contentLength = Number(value);
        break;
      default:
    }
    this.#add(name, value);
  }

  #add(name: string, value: string): void {
    const first = value.charCodeAt(0);
    const last = value.charCodeAt(value.length - 1);
    const isPadded = first === 0x20 || first === 0x09 || last === 0x20 || last === 0x09;
    this.#lines.push(name, isPadded ? value.replaceAll(padding, "") : value);
  }

  /** Called at the end of a block. @returns names and values in turn */
  takeLines(): RawLines {
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }
}
