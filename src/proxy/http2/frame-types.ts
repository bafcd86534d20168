/** HTTP/2 frames: the numbers of RFC 9113 §6, §7 and §11. Pure. */

export const frameType = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  reset: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goAway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const;

export const frameFlag = { endStream: 0x1, ack: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const errorCode = {
  none: 0x0,
  protocol: 0x1,
  internal: 0x2,
  flowControl: 0x3,
  streamClosed: 0x5,
  frameSize: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compression: 0x9,
  calm: 0xb,
  http11Required: 0xd,
} as const;
export type Http2ErrorCode = (typeof errorCode)[keyof typeof errorCode];

export const settingId = {
  headerTableSize: 0x1,
  enablePush: 0x2,
  maxConcurrentStreams: 0x3,
  initialWindowSize: 0x4,
  maxFrameSize: 0x5,
  maxHeaderListSize: 0x6,
  enableConnectProtocol: 0x8,
  noPriorities: 0x9,
} as const;

export const frameHeadBytes = 9;
/** Largest payload in either direction; RFC 9113 §4.2 lets a peer announce more, and nothing is gained by it. */
export const payloadBytesMax = 16_384;
/** The largest window, and the initial one (RFC 9113 §6.9). */
export const windowBytesMax = 0x7fff_ffff;
export const initialWindowBytes = 65_535;

/** A reason to end the whole connection (RFC 9113 §5.4.1). */
export type ConnectionFault = Readonly<{ code: Http2ErrorCode; reason: string }>;

const { fromCharCode } = String;

/** The nine bytes before a payload, as latin1 text. */
export function formatFrameHead(length: number, type: number, flags: number, streamId: number): string {
  return fromCharCode(
    length >>> 16,
    (length >>> 8) & 0xff,
    length & 0xff,
    type,
    flags,
    streamId >>> 24,
    (streamId >>> 16) & 0xff,
    (streamId >>> 8) & 0xff,
    streamId & 0xff,
  );
}

function formatUint32(value: number): string {
  return fromCharCode(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

export function formatReset(streamId: number, code: Http2ErrorCode): string {
  return formatFrameHead(4, frameType.reset, 0, streamId) + formatUint32(code);
}

export function formatWindowUpdate(streamId: number, bytes: number): string {
  return formatFrameHead(4, frameType.windowUpdate, 0, streamId) + formatUint32(bytes);
}

export function formatGoAway(lastStreamId: number, code: Http2ErrorCode): string {
  return formatFrameHead(8, frameType.goAway, 0, 0) + formatUint32(lastStreamId) + formatUint32(code);
}

/** @param payload eight bytes, as latin1 text */
export function formatPing(payload: string, flags: number): string {
  return formatFrameHead(8, frameType.ping, flags, 0) + payload;
}

/** @param pairs identifiers and values */
export function formatSettings(pairs: readonly (readonly [id: number, value: number])[]): string {
  let text = formatFrameHead(pairs.length * 6, frameType.settings, 0, 0);
  for (const [id, value] of pairs) text += fromCharCode(id >>> 8, id & 0xff) + formatUint32(value);
  return text;
}

export const settingsAck = formatFrameHead(0, frameType.settings, frameFlag.ack, 0);
