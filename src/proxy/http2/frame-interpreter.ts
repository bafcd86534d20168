/**
 * Frame interpreter: applies the rules of RFC 9113 to what one peer sends, frame by frame. Pure.
 *
 * - It knows no streams. It checks what a frame alone can be checked for, assembles and decodes header blocks, and
 *   reports the rest to the connection.
 * - A frame without use costs a part of the budget (abuse-budget.ts). A header block has a bound in bytes and in
 *   frames.
 */
import type { AbuseBudget } from "./abuse-budget.ts";
import type { Http2Frame } from "./frame-reader.ts";
import {
  type ConnectionFault,
  errorCode,
  frameFlag,
  frameType,
  type Http2ErrorCode,
  initialWindowBytes,
  payloadBytesMax,
  settingId,
  windowBytesMax,
} from "./frame-types.ts";
import { HpackDecoder } from "./hpack/decoder.ts";
import type { FieldSink } from "./hpack/header-fields.ts";
import { headListBytesMax } from "./request-fields.ts";

/** CONTINUATION frames of one block. Eight of the usual size hold the largest block that is accepted. */
const continuationsMax = 16;
/** As in nghttp2; there are seven settings. */
const settingsMax = 32;

export type DataFrame = Readonly<{
  streamId: number;
  bytes: Buffer;
  from: number;
  to: number;
  /** Bytes that count for flow control: with the padding. */
  counted: number;
  endStream: boolean;
  isOwned: boolean;
}>;

type Outcome = ConnectionFault | undefined;

/** Collects a header block. */
export interface BlockFields extends FieldSink {
  /** Why the block is refused; `too-large` is acted on before its end. */
  readonly fault: string | undefined;
  /** Prepares for a block. @param isTrailers it belongs to an open stream */
  reset(isTrailers: boolean): void;
}

/** What the connection is notified of. Each may return why the connection has to end. */
export type FrameEvents<Fields> = Readonly<{
  /** The largest SETTINGS_ENABLE_PUSH of the peer: a server must not send 1 (RFC 9113 §6.5.2). */
  enablePushMax: 0 | 1;
  /** Whether the stream is open, so that headers on it are trailers. */
  isOpen(streamId: number): boolean;
  /** No such stream was opened yet. */
  isIdle(streamId: number): boolean;
  onHeaders(streamId: number, fields: Fields, endStream: boolean): Outcome;
  /** The stream is refused; nothing more of the block is reported. */
  onOversizedBlock(streamId: number): Outcome;
  onData(frame: DataFrame): Outcome;
  onReset(streamId: number, code: number): Outcome;
  /** May come several times before `onSettings`. */
  onHeaderTableSize(bytes: number): void;
  /** May come several times before `onSettings`. */
  onStreamsMax(streams: number): void;
  /** All settings of a frame were applied. @param initialWindow of streams */
  onSettings(initialWindow: number): Outcome;
  /** @param payload eight bytes, as latin1 text */
  onPing(payload: string): Outcome;
  onPingAck(): void;
  /** @param lastStreamId no later one was processed */
  onGoAway(lastStreamId: number, code: number): Outcome;
  onWindowUpdate(streamId: number, bytes: number): Outcome;
  /** An error of one stream (RFC 9113 §5.4.2). */
  onStreamError(streamId: number, code: Http2ErrorCode, reason: string): Outcome;
}>;

/** A header block that is being read. */
type Block = {
  streamId: number;
  endStream: boolean;
  /** The beginning of a field, whose rest has not arrived. */
  rest: Buffer;
  bytes: number;
  frames: number;
  /** The stream was reset; the block is read because the next ones depend on it. */
  isRefused: boolean;
};

export class FrameInterpreter<Fields extends BlockFields> {
  readonly #events: FrameEvents<Fields>;
  readonly #budget: AbuseBudget;
  readonly #decoder = new HpackDecoder();
  readonly #fields: Fields;
  #initialWindow = initialWindowBytes;
  #hasSettings = false;
  /** A header block whose end has not arrived. */
  #block: Block | undefined;

  /** @param fields used for every block */
  constructor(events: FrameEvents<Fields>, budget: AbuseBudget, fields: Fields) {
    this.#events = events;
    this.#budget = budget;
    this.#fields = fields;
  }

  onFrame(frame: Http2Frame): Outcome {
    const { type } = frame;
    if (!this.#hasSettings && (type !== frameType.settings || (frame.flags & frameFlag.ack) !== 0))
      return protocolFault("no-settings");
    const block = this.#block;
    if (block !== undefined) {
      if (type !== frameType.continuation || frame.streamId !== block.streamId) return protocolFault("header-block");
      return this.#onContinuation(block, frame);
    }
    switch (type) {
      case frameType.data:
        return this.#onData(frame);
      case frameType.headers:
        return this.#onHeaders(frame);
      case frameType.priority:
        return this.#onPriority(frame);
      case frameType.reset:
        return this.#onReset(frame);
      case frameType.settings:
        return this.#onSettings(frame);
      case frameType.ping:
        return this.#onPing(frame);
      case frameType.goAway:
        return this.#onGoAway(frame);
      case frameType.windowUpdate:
        return this.#onWindowUpdate(frame);
      case frameType.pushPromise:
      case frameType.continuation:
        return protocolFault("frame-type");
      default:
        return this.#spend(1); // unknown frames are ignored (RFC 9113 §4.1)
    }
  }

  #spend(frames: number): Outcome {
    return this.#budget.spendOverhead(frames) ? undefined : calmFault;
  }

  // --- header blocks

  #onHeaders(frame: Http2Frame): Outcome {
    const { flags, streamId, bytes } = frame;
    if (streamId % 2 === 0) return protocolFault("stream-id");
    let [from, to] = [frame.from, frame.to];
    if ((flags & frameFlag.padded) !== 0) to -= bytes[from++] ?? 0;
    if ((flags & frameFlag.priority) !== 0) from += 5;
    if (from > to || to > frame.to) return from > frame.to ? frameSizeFault : protocolFault("padding");
    const endStream = (flags & frameFlag.endStream) !== 0;
    this.#fields.reset(this.#events.isOpen(streamId));
    this.#decoder.beginBlock();
    const end = this.#decoder.decode(bytes, from, to, this.#fields);
    if ((flags & frameFlag.endHeaders) !== 0)
      return end === to ? this.#events.onHeaders(streamId, this.#fields, endStream) : compressionFault;
    if (end < 0) return compressionFault;
    const rest = Buffer.from(bytes.subarray(end, to));
    this.#block = { streamId, endStream, rest, bytes: to - from, frames: 0, isRefused: false };
    return this.#checkBlock(this.#block);
  }

  #onContinuation(block: Block, { flags, bytes, from, to }: Http2Frame): Outcome {
    block.frames += 1;
    block.bytes += to - from;
    if (block.frames > continuationsMax || block.bytes > headListBytesMax) return calmFault;
    const part = Buffer.concat([block.rest, bytes.subarray(from, to)]);
    const end = this.#decoder.decode(part, 0, part.length, this.#fields);
    if (end < 0) return compressionFault;
    block.rest = part.subarray(end);
    if ((flags & frameFlag.endHeaders) === 0) return this.#checkBlock(block);
    this.#block = undefined;
    if (block.rest.length > 0) return compressionFault;
    return block.isRefused ? undefined : this.#events.onHeaders(block.streamId, this.#fields, block.endStream);
  }

  /** Refuses a block that is too large before its end. */
  #checkBlock(block: Block): Outcome {
    if (block.isRefused || this.#fields.fault !== "too-large") return undefined;
    block.isRefused = true;
    return this.#events.onOversizedBlock(block.streamId);
  }

  /** A header block has begun and not ended. */
  get isInBlock(): boolean {
    return this.#block !== undefined;
  }

  // --- other frames

  #onData(frame: Http2Frame): Outcome {
    const { flags, streamId, bytes } = frame;
    if (streamId === 0) return protocolFault("stream-id");
    let [from, to] = [frame.from, frame.to];
    if ((flags & frameFlag.padded) !== 0) {
      if (from === to) return frameSizeFault;
      to -= bytes[from++] ?? 0;
      if (from > to) return protocolFault("padding");
    }
    const endStream = (flags & frameFlag.endStream) !== 0;
    if (to > from) this.#budget.onUsefulFrame();
    else if (!endStream && !this.#budget.spendOverhead(1)) return calmFault;
    const counted = frame.to - frame.from;
    return this.#events.onData({ streamId, bytes, from, to, counted, endStream, isOwned: frame.isOwned });
  }

  /** Priorities are ignored (RFC 9113 §5.3.2). */
  #onPriority({ streamId, from, to }: Http2Frame): Outcome {
    if (streamId === 0) return protocolFault("stream-id");
    if (to - from === 5) return this.#spend(1);
    if (!this.#events.isOpen(streamId)) return this.#onClosedStream(streamId, frameSizeFault);
    return this.#events.onStreamError(streamId, errorCode.frameSize, "frame-size");
  }

  #onReset({ streamId, bytes, from, to }: Http2Frame): Outcome {
    if (streamId === 0) return protocolFault("stream-id");
    return to - from === 4 ? this.#events.onReset(streamId, bytes.readUInt32BE(from)) : frameSizeFault;
  }

  #onSettings({ flags, streamId, bytes, from, to }: Http2Frame): Outcome {
    if (streamId !== 0) return protocolFault("stream-id");
    const length = to - from;
    if ((flags & frameFlag.ack) !== 0) return length === 0 ? this.#spend(1) : frameSizeFault;
    if (length % 6 !== 0) return frameSizeFault;
    if (length > settingsMax * 6) return calmFault;
    this.#hasSettings = true;
    for (let at = from; at < to; at += 6) {
      const fault = this.#applySetting(bytes.readUInt16BE(at), bytes.readUInt32BE(at + 2));
      if (fault !== undefined) return fault;
    }
    return this.#spend(1) ?? this.#events.onSettings(this.#initialWindow);
  }

  #applySetting(id: number, value: number): Outcome {
    switch (id) {
      case settingId.headerTableSize:
        this.#events.onHeaderTableSize(value);
        return undefined;
      case settingId.maxConcurrentStreams:
        this.#events.onStreamsMax(value);
        return undefined;
      case settingId.enablePush:
        return value > this.#events.enablePushMax ? protocolFault("settings") : undefined;
      case settingId.initialWindowSize:
        if (value > windowBytesMax) return { code: errorCode.flowControl, reason: "settings" };
        this.#initialWindow = value;
        return undefined;
      case settingId.maxFrameSize:
        return value < payloadBytesMax || value > 0xff_ffff ? protocolFault("settings") : undefined;
      default:
        return undefined; // unknown settings are ignored, and the limit of header lists is advice
    }
  }

  /** A stream that this side has reset may still get mistakes (RFC 9113 §5.1): they are not those of other streams. */
  #onClosedStream(streamId: number, fault: ConnectionFault): Outcome {
    return this.#events.isIdle(streamId) ? fault : this.#spend(1);
  }

  #onPing({ flags, streamId, bytes, from, to }: Http2Frame): Outcome {
    if (streamId !== 0) return protocolFault("stream-id");
    if (to - from !== 8) return frameSizeFault;
    if ((flags & frameFlag.ack) === 0) return this.#spend(1) ?? this.#events.onPing(bytes.toString("latin1", from, to));
    this.#events.onPingAck();
    return this.#spend(1);
  }

  #onGoAway({ streamId, bytes, from, to }: Http2Frame): Outcome {
    if (streamId !== 0) return protocolFault("stream-id");
    if (to - from < 8) return frameSizeFault;
    const lastStreamId = bytes.readUInt32BE(from) & windowBytesMax;
    return this.#spend(1) ?? this.#events.onGoAway(lastStreamId, bytes.readUInt32BE(from + 4));
  }

  #onWindowUpdate({ streamId, bytes, from, to }: Http2Frame): Outcome {
    if (to - from !== 4) return frameSizeFault;
    const increment = bytes.readUInt32BE(from) & windowBytesMax;
    if (increment > 0) return this.#spend(1) ?? this.#events.onWindowUpdate(streamId, increment);
    if (streamId === 0) return protocolFault("window");
    if (this.#events.isOpen(streamId)) return this.#events.onStreamError(streamId, errorCode.protocol, "window");
    return this.#onClosedStream(streamId, protocolFault("window"));
  }
}

export function protocolFault(reason: string): ConnectionFault {
  return { code: errorCode.protocol, reason };
}

const frameSizeFault: ConnectionFault = { code: errorCode.frameSize, reason: "frame-size" };
const compressionFault: ConnectionFault = { code: errorCode.compression, reason: "header-block" };
/** The caller asks for more than is useful. */
export const calmFault: ConnectionFault = { code: errorCode.calm, reason: "calm" };
