/**
 * GOAWAY of a draining node, byte for byte: an HTTP/2 caller must know which of its requests were not processed.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { waitFor } from "../support/wait-for.ts";
import { cookieOf, routeTo, signedIn, startRig, startUpstream } from "./support.ts";

type Frame = Readonly<{ type: number; flags: number; stream: number; payload: Buffer }>;
const type = { headers: 0x1, settings: 0x4, goaway: 0x7 };
const endStream = 0x1;
const endHeaders = 0x4;

/** Encodes a frame header (RFC 9113 §4.1). */
function frame(of: Omit<Frame, "payload">, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = of.type;
  head[4] = of.flags;
  head.writeUInt32BE(of.stream, 5);
  return Buffer.concat([head, payload]);
}

function frames(bytes: Buffer): Frame[] {
  const result: Frame[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    const stream = bytes.readUInt32BE(at + 5);
    result.push({ type: bytes[at + 3] ?? 0, flags: bytes[at + 4] ?? 0, stream, payload: bytes.subarray(at + 9, end) });
    at = end;
  }
  return result;
}

/** A field whose name is in the static table (RFC 7541 §6.2.1 and appendix A). */
const field = (index: number, value: string): Buffer =>
  Buffer.concat([Buffer.from([0x40 | index, value.length]), Buffer.from(value)]);
/** GET / over http. */
const request = Buffer.concat([Buffer.from([0x82, 0x84, 0x86]), field(1, "app.localhost"), field(32, cookieOf(1))]);

test("requests that arrive during the drain delay are answered, and a GOAWAY names the last of their streams", async () => {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port)], { config: { drainDelayMs: 3_000 } });
  await rig.apply(signedIn(1));
  const socket = connect(rig.port, "127.0.0.1");
  let received = Buffer.alloc(0);
  socket.on("data", (bytes: Buffer) => {
    received = Buffer.concat([received, bytes]);
  });
  const sendRequest = (stream: number): void =>
    void socket.write(frame({ type: type.headers, flags: endHeaders | endStream, stream }, request));
  const responseEnd = (stream: number): Promise<boolean> =>
    waitFor(`stream ${stream} to end`, () =>
      frames(received).some((one) => one.stream === stream && (one.flags & endStream) !== 0),
    );
  const lastStreams = (): number[] =>
    frames(received)
      .filter((one) => one.type === type.goaway)
      .map(({ payload }) => payload.readUInt32BE(0));

  socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  socket.write(frame({ type: type.settings, flags: 0, stream: 0 }));
  sendRequest(1);
  await responseEnd(1);
  const closed = rig.close();
  sendRequest(3);
  await responseEnd(3);
  await closed;
  await waitFor("a GOAWAY", () => lastStreams().length > 0);
  assert.deepEqual(new Set(lastStreams()), new Set([3]));
  socket.destroy();
  await upstream.close();
});
