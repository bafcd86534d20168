/** The last bytes of a response do not leave this node after the right to them has ended. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import type { DecisionRecord } from "../../src/auth/index.ts";
import { sessionId } from "../events/support.ts";
import { cookieOf, publicAccess, type Rig, routeTo, sessionRevoked, signedIn, startRig } from "../proxy/support.ts";
import { waitFor } from "../support/wait-for.ts";

function caller(
  t: TestContext,
  rig: Rig,
  lines: string,
): Readonly<{ received: () => string; closed: Promise<unknown> }> {
  const socket = connect(rig.port, "127.0.0.1");
  t.after(() => socket.destroy());
  let received = "";
  socket.on("data", (chunk) => {
    received += chunk.toString("latin1");
  });
  socket.on("error", () => {});
  const closed = new Promise((resolve) => socket.once("close", resolve)); // by a reset if the response was aborted
  socket.write(`GET / HTTP/1.1\r\nHost: app.localhost\r\n${lines}\r\n`);
  return { received: () => received, closed };
}

test("the end of a response and its trailers are not forwarded after the lease has ended", async (t) => {
  const upstreams: Socket[] = [];
  const server = createServer((socket) => {
    upstreams.push(socket);
    socket.on("error", () => {});
    socket.on("data", () => {
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Secret\r\n\r\n5\r\nfirst\r\n");
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const rig = await startRig([routeTo(port, { ...publicAccess, timeoutMs: 0, onStale: "deny", staleGraceMs: 0 })]);
  t.after(async () => {
    await rig.close();
    for (const socket of upstreams) socket.destroy();
    server.close();
  });
  const finish = (): void => {
    for (const socket of upstreams) socket.write("0\r\nX-Secret: s\r\n\r\n");
  };

  const permitted = caller(t, rig, "TE: trailers\r\nConnection: close\r\n");
  await waitFor("the first chunk", () => permitted.received().includes("first"));
  finish();
  await permitted.closed;
  assert.match(permitted.received(), /\r\n0\r\nX-Secret: s\r\n\r\n$/);

  const late = caller(t, rig, "TE: trailers\r\n");
  await waitFor("the first chunk", () => late.received().includes("first"));
  rig.lease.overdueMs = 1;
  finish();
  await late.closed;
  assert.match(late.received(), /first\r\n$/);
});

test("a route's static response is not sent after the revocation was reported as enforced", async (t) => {
  const enforced = Promise.withResolvers<string>();
  let received = (): string => "";
  /** Revokes within the event-loop turn of the permit, before any byte of the response has left. */
  const record = ({ result, sessionId: permitted }: DecisionRecord): void => {
    if (result !== "permit" || permitted !== sessionId(1)) return;
    queueMicrotask(() => void rig.apply(sessionRevoked(1)).then(() => enforced.resolve(received())));
  };
  const rig = await startRig([routeTo(0, { response: { status: 200, body: "for people" } })], {
    deps: { recorder: { record, recordDurably: null } },
  });
  t.after(() => rig.close());
  await rig.apply(signedIn(1), signedIn(2));

  const permitted = caller(t, rig, `Cookie: ${cookieOf(2)}\r\nConnection: close\r\n`);
  await permitted.closed;
  assert.match(permitted.received(), /for people$/);

  const revoked = caller(t, rig, `Cookie: ${cookieOf(1)}\r\nConnection: close\r\n`);
  ({ received } = revoked);
  const before = await enforced.promise;
  await revoked.closed;
  assert.equal(revoked.received(), before);
  assert.doesNotMatch(before, /for people/);
});

test("a route's static response is not sent if the process pauses after the permit for longer than its lease", async (t) => {
  let rig: Rig | undefined;
  /** Blocks the rest of the turn, as if the process were stopped, and lets the lease end meanwhile. */
  const record = ({ result, sessionId: permitted }: DecisionRecord): void => {
    if (result !== "permit" || permitted !== sessionId(1)) return;
    const until = performance.now() + 100;
    queueMicrotask(() => {
      while (performance.now() < until);
      if (rig !== undefined) rig.lease.overdueMs = 1e9;
    });
  };
  rig = await startRig([routeTo(0, { response: { status: 200, body: "for people" } })], {
    deps: { recorder: { record, recordDurably: null } },
  });
  t.after(() => rig?.close());
  await rig.apply(signedIn(1), signedIn(2));

  const permitted = caller(t, rig, `Cookie: ${cookieOf(2)}\r\nConnection: close\r\n`);
  await permitted.closed;
  assert.match(permitted.received(), /for people$/);

  const fenced = caller(t, rig, `Cookie: ${cookieOf(1)}\r\nConnection: close\r\n`);
  await fenced.closed;
  assert.equal(fenced.received(), "");
});
