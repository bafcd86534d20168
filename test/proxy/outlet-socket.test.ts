/** Outlet: answers that a caller has not acknowledged stay registered, within a bound for each connection. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { Exchanges } from "../../src/proxy/exchanges.ts";
import { SocketOutlet } from "../../src/proxy/outlet-socket.ts";
import { guardSocket, unackedBytes } from "../../src/proxy/send-queue-socket.ts";
import { systemClock } from "../../src/replication/index.ts";
import { cannotReadQueues as skip } from "../support/socket-queues.ts";
import { waitFor } from "../support/wait-for.ts";

/** Two ends of a connection, of which the caller's reads nothing. */
async function pair(t: TestContext): Promise<Readonly<{ ours: Socket; caller: Socket }>> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const caller = connect((server.address() as AddressInfo).port, "127.0.0.1");
  caller.on("error", () => {});
  const [ours] = (await once(server, "connection")) as [Socket];
  ours.on("error", () => {});
  caller.pause();
  t.after(() => {
    ours.destroy();
    caller.destroy();
    server.close();
  });
  return { ours, caller };
}

async function fill({ ours }: Awaited<ReturnType<typeof pair>>): Promise<void> {
  let last = -1;
  ours.write(Buffer.alloc(20_000_000));
  await waitFor("the kernels to be full", () => {
    const before = last;
    last = unackedBytes(ours) ?? 0;
    return last > 0 && last === before;
  });
}

function registry(): Exchanges {
  return new Exchanges({
    clock: systemClock,
    freshness: { overdueMs: () => -1 },
    onCut() {},
    onUndecided: assert.ifError,
  });
}

function answer(exchanges: Exchanges, outlet: SocketOutlet): void {
  const exchange = exchanges.open({
    ...{ kind: "http", reads: [], until: null, openedAt: systemClock.monotonic(), graceMs: 0, lifetimeMs: 0 },
    redecide: () => ({ type: "permitted", reads: [], until: null }),
  });
  exchange.leavesBy(outlet);
  exchange.close();
}

test("a caller that takes none of too many answers loses its connection", { skip }, async (t) => {
  const both = await pair(t);
  guardSocket(both.ours);
  await fill(both);
  const exchanges = registry();
  let refused = 0;
  const outlet = new SocketOutlet(both.ours, () => refused++);
  for (let n = 0; n < 4_096; n++) answer(exchanges, outlet);
  assert.deepEqual([exchanges.undelivered, refused, both.ours.destroyed], [4_096, 0, false]);

  answer(exchanges, outlet);
  assert.deepEqual([exchanges.undelivered, refused, both.ours.destroyed], [4_096, 1, true]);
  exchanges.sweep();
  assert.equal(exchanges.undelivered, 0, "what a reset discarded is not waited for");
});

test("answers leave the registry when their caller has them", { skip }, async (t) => {
  const both = await pair(t);
  await fill(both);
  const exchanges = registry();
  const outlet = new SocketOutlet(both.ours, () => {});
  for (let n = 0; n < 3; n++) answer(exchanges, outlet);
  exchanges.sweep();
  assert.equal(exchanges.undelivered, 3);
  both.caller.resume();
  await waitFor("all to leave", () => {
    exchanges.sweep();
    return exchanges.undelivered === 0;
  });
});
