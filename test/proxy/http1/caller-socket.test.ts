/** Accepted connections share one read buffer: what happens when one is read within the read of another. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { DownstreamSocketReader } from "../../../src/proxy/http1/caller-socket.ts";
import { waitFor } from "../../support/wait-for.ts";

type Handle = { onread(bytes: undefined): void; readonly bytesRead: number };

/** An accepted socket, and the other end of it. */
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

test("a reader sees what its own socket has read, and the stream gets copies after its end", async (t) => {
  const [socket, client] = await accept(t);
  const read: string[] = [];
  const reading = DownstreamSocketReader.begin(socket, (bytes) => void read.push(bytes.toString()), assert.fail);
  client.write("one");
  await waitFor("the first bytes", () => read.length > 0, { everyMs: 1 });
  assert.deepEqual(read, ["one"]);
  reading?.release();
  const passedOn: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => passedOn.push(bytes));
  for (const text of ["two", "three"]) {
    client.write(text);
    await waitFor(text, () => Buffer.concat(passedOn).toString().endsWith(text), { everyMs: 1 });
  }
  assert.equal(Buffer.concat(passedOn).toString(), "twothree", "the second read overwrote nothing that was passed on");
});

test("a read within the read of another connection ends both before more of their bytes is used", async (t) => {
  const [[outer, client], [inner]] = [await accept(t), await accept(t)];
  const overwritten: string[] = [];
  const handle = (inner as unknown as { _handle: Handle })._handle;
  DownstreamSocketReader.begin(
    inner,
    () => assert.fail("its bytes are not looked at"),
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
