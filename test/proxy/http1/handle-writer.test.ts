/** Handle writer on real sockets: immediate writes, pending writes and failed ones. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { suite, type TestContext, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { HandleWriter } from "../../../src/proxy/http1/handle-writer.ts";

type Pair = Readonly<{ ours: Socket; theirs: Socket }>;

async function pair(t: TestContext): Promise<Pair> {
  const server = createServer({ pauseOnConnect: true });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const ours = connect((server.address() as AddressInfo).port, "127.0.0.1");
  const [[theirs]] = (await Promise.all([once(server, "connection"), once(ours, "connect")])) as [[Socket], unknown];
  t.after(() => {
    ours.destroy();
    theirs.destroy();
    server.close();
  });
  return { ours, theirs };
}

/** Writes pieces until the kernel accepts no more. */
function fill(writing: HandleWriter, piece: string): number {
  let pieces = 0;
  for (; !writing.hasPending; pieces++) writing.write(piece);
  return pieces;
}

async function textOf(socket: Socket): Promise<string> {
  let text = "";
  socket
    .setEncoding("latin1")
    .on("data", (more: string) => (text += more))
    .resume();
  await once(socket, "end");
  return text;
}

suite("the handle writer", () => {
  test("a piece that the kernel accepts at once arrives byte for byte and leaves nothing pending", async (t) => {
    const { ours, theirs } = await pair(t);
    const writing = new HandleWriter(ours, () => assert.fail("no write was pending"));
    let all = "";
    for (let code = 0; code < 256; code++) all += String.fromCharCode(code);
    writing.write(all);
    assert.deepEqual([writing.hasPending, writing.isEmpty], [false, true]);
    ours.end();
    assert.equal(await textOf(theirs), all);
  });

  test("a pending piece precedes all later ones, and the drain is reported", async (t) => {
    const { ours, theirs } = await pair(t);
    let drains = 0;
    const writing = new HandleWriter(ours, () => drains++);
    const piece = "x".repeat(15_000);
    const pieces = fill(writing, piece);
    assert.equal(writing.isEmpty, false);
    writing.write("<direct>");
    ours.write("<stream>");
    writing.write("<later>");
    ours.end();
    assert.equal(await textOf(theirs), `${piece.repeat(pieces)}<direct><stream><later>`);
    assert.equal(drains, 1);
  });

  test("bytes may change as soon as they were written, whatever the kernel accepts of them", async (t) => {
    const { ours, theirs } = await pair(t);
    const writing = new HandleWriter(ours, () => {});
    const shared = Buffer.alloc(70_000);
    const sizes = [1, 8_192, 8_193, 65_536, 70_000];
    let expected = "";
    for (let n = 0; n < 60 || !writing.hasPending || n % sizes.length !== 4; n++) {
      const bytes = shared.subarray(0, sizes[n % sizes.length] ?? 1).fill(33 + (n % 90));
      expected += bytes.toString("latin1");
      writing.writeBytes(bytes);
      shared.fill(0);
    }
    // What waits in the kernel's stead is kept, and its memory not used for anything else.
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    for (let n = 0; n < 3; n++) collect();
    const others = Array.from({ length: 200 }, () => Buffer.allocUnsafeSlow(65_536).fill(0));
    const received = textOf(theirs);
    ours.end();
    assert.ok((await received) === expected && others.length > 0);
  });

  test("writes go directly to the handle again once the pending ones have drained", async (t) => {
    const { ours, theirs } = await pair(t);
    const drained = Promise.withResolvers<void>();
    const writing = new HandleWriter(ours, drained.resolve);
    const piece = "b".repeat(15_000);
    const pieces = fill(writing, piece);
    const received = textOf(theirs);
    await drained.promise;
    assert.equal(writing.isEmpty, true);
    writing.write("more");
    assert.equal(writing.isEmpty, true);
    ours.end();
    assert.equal(await received, `${piece.repeat(pieces)}more`);
  });

  test("a corked, ending or destroyed socket is written through its stream", async (t) => {
    const { ours, theirs } = await pair(t);
    const writing = new HandleWriter(ours, () => {});
    ours.cork();
    ours.write("1");
    writing.write("2");
    assert.equal(ours.writableLength, 2);
    ours.uncork();
    const received = textOf(theirs);
    ours.end();
    const broke = once(ours, "error") as Promise<[NodeJS.ErrnoException]>;
    writing.write("3");
    assert.equal((await broke)[0].code, "ERR_STREAM_WRITE_AFTER_END");
    assert.match(await received.catch(() => "12"), /^12$/);
  });

  test("a reset by the peer is an error of the socket, as with a stream", async (t) => {
    const { ours, theirs } = await pair(t);
    const writing = new HandleWriter(ours, () => {});
    const broke = once(ours, "error") as Promise<[NodeJS.ErrnoException]>;
    fill(writing, "x".repeat(15_000));
    theirs.resetAndDestroy();
    const [error] = await broke;
    assert.match(error.code ?? "", /^(EPIPE|ECONNRESET|ECANCELED)$/);
    assert.equal(ours.destroyed, true);
    writing.write("never read");
  });

  test("a connection that is destroyed with a pending piece reports no drain", async (t) => {
    const { ours } = await pair(t);
    const writing = new HandleWriter(ours, () => assert.fail("it reported a drain"));
    fill(writing, "x".repeat(15_000));
    ours.destroy();
    await once(ours, "close");
    assert.equal(writing.hasPending, false);
  });
});
