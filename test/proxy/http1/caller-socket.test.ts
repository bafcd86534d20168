/** Shared read buffer of accepted connections: a read on one connection during a read on another. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { DownstreamSocketReader } from "../../../src/proxy/http1/caller-socket.ts";
import { waitFor } from "../../support/wait-for.ts";

type Handle = { onread(bytes: undefined): void; readonly bytesRead: number };

/** An accepted socket, and its peer. */
async function accept(t: { after(cleanUp: () => void): void }): Promise<readonly [Socket, Socket]> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const accepted = once(server, "connection");
  const client = connect({ port: typeof address === "object" ? (address?.port ?? 0) : 0, host: "127.0.0.1" });
  client.on("error", () => {});
  const [socket] = (await accepted) as [Socket];
  t.after(() => {
    client.destroy();
    socket.destroy();
    server.close();
  });
  return [socket, client];
}

test("a reader sees the bytes of its own socket, and the stream gets copies once the reader has released it", async (t) => {
  const [socket, client] = await accept(t);
  const read: string[] = [];
  const reading = DownstreamSocketReader.begin(socket, (bytes) => void read.push(bytes.toString()), assert.fail);
  client.write("one");
  await waitFor("the first bytes", () => read.length > 0, { everyMs: 1 });
  assert.deepEqual(read, ["one"]);
  reading?.release();
  const forwarded: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => forwarded.push(bytes));
  for (const text of ["two", "three"]) {
    client.write(text);
    await waitFor(text, () => Buffer.concat(forwarded).toString().endsWith(text), { everyMs: 1 });
  }
  assert.equal(Buffer.concat(forwarded).toString(), "twothree", "the second read did not overwrite forwarded bytes");
});

test("a second reader of a socket gets its bytes, and the stream its end, as if there had been no first one", async (t) => {
  const [socket, client] = await accept(t);
  const read: string[] = [];
  DownstreamSocketReader.begin(socket, (bytes) => void read.push(`first ${bytes}`), assert.fail)?.release();
  DownstreamSocketReader.begin(socket, (bytes) => void read.push(`second ${bytes}`), assert.fail);
  const ended = once(socket, "end");
  socket.on("data", () => assert.fail("the stream got bytes"));
  client.end("one");
  await ended;
  assert.deepEqual(read, ["second one"]);
});

for (const [how, leave] of [
  ["ends", (client: Socket) => void client.end("two")],
  ["resets", (client: Socket) => void client.resetAndDestroy()],
] as const)
  test(`a reader that discards says when its peer ${how}, and the stream gets neither bytes nor an error`, async (t) => {
    const [socket, client] = await accept(t);
    const read: string[] = [];
    const reading = DownstreamSocketReader.begin(socket, (bytes) => void read.push(bytes.toString()), assert.fail);
    for (const event of ["data", "end", "error"]) socket.on(event, () => assert.fail(event));
    client.write("one");
    await waitFor("the first bytes", () => read.length > 0, { everyMs: 1 });
    const ended = new Promise<void>((resolve) => reading?.discard(resolve));
    leave(client);
    await ended;
    assert.deepEqual(read, ["one"]);
  });

test("a read during the read of another connection destroys both before more of their bytes are used", async (t) => {
  const [[outer, client], [inner]] = [await accept(t), await accept(t)];
  const overwritten: string[] = [];
  const handle = (inner as unknown as { _handle: Handle })._handle;
  DownstreamSocketReader.begin(
    inner,
    () => assert.fail("its bytes were used"),
    () => void overwritten.push("inner"),
  );
  Object.defineProperty(handle, "bytesRead", { value: 5 }); // as if it had read five bytes
  const done = new Promise<void>((resolve) => {
    const onBytes = (): void => {
      handle.onread(undefined);
      resolve();
    };
    DownstreamSocketReader.begin(outer, onBytes, () => void overwritten.push("outer"));
  });
  client.write("bytes");
  await done;
  assert.deepEqual(overwritten, ["outer", "inner"]);
  assert.ok(outer.destroyed && inner.destroyed);
});
