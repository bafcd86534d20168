/**
 * A compromised HTTP/2 service: hand-made frames, sent to a proxy that forwards the response to an HTTP/1.1 caller.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { cookieOf, routeTo, sendRaw, signedIn, startRig } from "../proxy/support.ts";
import {
  continuationOf,
  data,
  endHeaders,
  endStream,
  fields,
  frame,
  frameTypes,
  headers,
  serveFrames,
  settings,
} from "../support/http2-frames.ts";
import { waitFor } from "../support/wait-for.ts";

/** @param hostile the reaction to the first request; every later one gets a valid response */
async function startHostile(
  t: TestContext,
  hostile: (socket: Socket) => void,
): Promise<Readonly<{ port: number; first: () => Socket | undefined }>> {
  const sockets: Socket[] = [];
  let used = false;
  const server = createServer((socket) => {
    sockets.push(socket);
    serveFrames(socket, ({ type, stream }) => {
      if (type !== frameTypes.headers) return;
      if (!used) {
        used = true;
        hostile(socket);
      } else {
        socket.write(headers(stream, endHeaders, ":status", "200"));
        socket.write(data(stream, endStream, "fine"));
      }
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, first: () => sockets[0] };
}

const flood = (socket: Socket, bytes: Buffer): void => {
  let sent = 0;
  const more = (): void => {
    while (!socket.destroyed && sent < 64 * 1_048_576) {
      sent += bytes.length;
      if (!socket.write(bytes)) return void socket.once("drain", more);
    }
  };
  more();
};
const many = (bytes: Buffer, times: number): Buffer => Buffer.concat(Array.from({ length: times }, () => bytes));

const attacks: Readonly<Record<string, (socket: Socket) => void>> = {
  "a pushed response": (socket) => {
    const promised = Buffer.concat([
      Buffer.from([0, 0, 0, 2]),
      fields(":method", "GET", ":path", "/", ":scheme", "http", ":authority", "app.localhost"),
    ]);
    socket.write(frame(frameTypes.pushPromise, endHeaders, 1, promised));
    socket.write(headers(2, endHeaders, ":status", "200"));
    socket.write(data(2, endStream, "poison"));
  },
  "a response on a stream that was never opened": (socket) => {
    socket.write(headers(7, endHeaders, ":status", "200"));
    socket.write(data(7, endStream, "poison"));
  },
  "a line break in a value": (socket) => {
    socket.write(
      headers(1, endHeaders | endStream, ":status", "200", "x-a", "b\r\nset-cookie: poison=1\r\n\r\npoison"),
    );
  },
  "a NUL in a value": (socket) =>
    void socket.write(headers(1, endHeaders | endStream, ":status", "200", "x-a", "poison\0")),
  "a line break in a name": (socket) => {
    socket.write(headers(1, endHeaders | endStream, ":status", "200", "x-a: b\r\npoison", "1"));
  },
  "two statuses": (socket) =>
    void socket.write(headers(1, endHeaders | endStream, ":status", "200", ":status", "poison")),
  "an invalid status": (socket) => void socket.write(headers(1, endHeaders | endStream, ":status", "2x0")),
  "a pseudo-header of requests": (socket) =>
    void socket.write(headers(1, endHeaders | endStream, ":status", "200", ":protocol", "poison")),
  "no status": (socket) => void socket.write(headers(1, endHeaders | endStream, "x-a", "poison")),
  "HTTP/1.1 framing": (socket) => {
    socket.write(headers(1, endHeaders, ":status", "200", "transfer-encoding", "chunked"));
    socket.write(data(1, endStream, "0\r\n\r\npoison"));
  },
  "a protocol switch": (socket) => void socket.write(headers(1, endHeaders, ":status", "101", "upgrade", "poison")),
  "more bytes than the content-length": (socket) => {
    socket.write(headers(1, endHeaders, ":status", "200", "content-length", "4"));
    socket.write(data(1, endStream, "finepoison"));
  },
  "an endless head": (socket) => {
    socket.write(headers(1, 0, ":status", "200"));
    flood(socket, continuationOf(1, 0, "x-a", "b".repeat(8_000)));
  },
  "endless pings": (socket) => flood(socket, many(frame(frameTypes.ping, 0, 0, Buffer.alloc(8)), 1_000)),
  "endless settings": (socket) => flood(socket, many(settings(), 1_000)),
  "a GOAWAY that drops the request": (socket) => void socket.write(frame(frameTypes.goAway, 0, 0, Buffer.alloc(8))),
};

for (const [name, hostile] of Object.entries(attacks))
  test(`${name}: no caller receives it, and the next request gets a valid response`, async (t) => {
    const upstream = await startHostile(t, hostile);
    const to = [{ url: new URL(`h2c://127.0.0.1:${upstream.port}`), weight: null }];
    const rig = await startRig([{ ...routeTo(upstream.port, { timeoutMs: 2_000 }), to }]);
    t.after(() => rig.close());
    await rig.apply(signedIn(1), signedIn(2));
    const request = (session: number): string =>
      `GET / HTTP/1.1\r\nHost: app.localhost\r\nCookie: ${cookieOf(session)}\r\nAccept: application/json\r\nConnection: close\r\n\r\n`;
    const own = await sendRaw(rig.port, request(1), 20_000);
    assert.doesNotMatch(own, /poison/);
    assert.ok((own.match(/HTTP\/1\.1 \d{3} /g) ?? []).length <= 1, own);
    await waitFor(
      "the next request to get a valid response",
      async () => /^HTTP\/1\.1 200 [\s\S]*fine/.test(await sendRaw(rig.port, request(2), 20_000)),
      {
        withinMs: 30_000,
      },
    );
    assert.ok(upstream.first() !== undefined);
  });
