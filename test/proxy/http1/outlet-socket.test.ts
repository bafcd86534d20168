/** Socket outlet: responses that a caller has not acknowledged stay registered, up to a limit for each connection. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, type TestContext, test } from "node:test";
import { connect as connectTls, createSecureContext, TLSSocket } from "node:tls";
import { type Stream, sessionStream, type UnixMs } from "../../../src/events/index.ts";
import { type Exchange, Exchanges, type ReauthorizeOutcome } from "../../../src/proxy/enforce/exchanges.ts";
import { guardSocket, hasPeerEnded, resetSocket, unackedBytes } from "../../../src/proxy/enforce/send-queue-socket.ts";
import { SocketOutlet, unsentDelivery } from "../../../src/proxy/http1/outlet-socket.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { sessionId } from "../../events/support.ts";
import { selfSigned } from "../../support/certificate.ts";
import { queuesAt, cannotReadQueues as skip } from "../../support/socket-queues.ts";
import { waitFor } from "../../support/wait-for.ts";

/** Both ends of a connection. The caller's end reads nothing. */
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
  await waitFor("the kernels' buffers to be full", () => {
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
    onRedecisionFailed: assert.ifError,
  });
}

type ResponseFacts = Readonly<{ reads: readonly Stream[]; verdict: ReauthorizeOutcome["type"]; until?: UnixMs | null }>;

/** The fact key of session n. */
const session = (n: number): Stream => sessionStream(sessionId(n));

/** @param verdict the result of every later decision */
function open(exchanges: Exchanges, { reads, verdict, until = null }: ResponseFacts): Exchange {
  return exchanges.open({
    ...{ kind: "http", requestId: "", reads, until, openedAt: systemClock.monotonic(), graceMs: 0, lifetimeMs: 0 },
    redecide: () =>
      verdict === "permitted" ? { type: verdict, reads, until: null } : { type: verdict, reason: "session-ended" },
  });
}

/** Sends a response that is complete at once. */
function respond(exchanges: Exchanges, outlet: SocketOutlet, facts: ResponseFacts): void {
  const exchange = open(exchanges, facts);
  exchange.setOutlet(outlet);
  exchange.close();
}

const ofSession = (n: number, verdict: ReauthorizeOutcome["type"] = "permitted"): ResponseFacts => ({
  reads: [session(n)],
  verdict,
});

/** Resolves when a change of the session is enforced. */
function enforceChange(exchanges: Exchanges, n: number): Promise<void> {
  return new Promise((resolve, reject) => {
    exchanges.redecideReaders(new Set([session(n)]), (failure) => (failure === null ? resolve() : reject(failure)));
  });
}

test("a caller that acknowledges none of too many responses loses its connection", { skip }, async (t) => {
  const both = await pair(t);
  guardSocket(both.ours);
  await fill(both);
  const exchanges = registry();
  let refused = 0;
  const outlet = new SocketOutlet(both.ours, () => refused++);
  for (let n = 0; n < 4_096; n++) respond(exchanges, outlet, ofSession(n % 2));
  assert.deepEqual([exchanges.undelivered, refused, both.ours.destroyed], [4_096, 0, false]);

  respond(exchanges, outlet, ofSession(0));
  assert.deepEqual([exchanges.undelivered, refused, both.ours.destroyed], [4_096, 1, true]);
  exchanges.sweep();
  assert.equal(exchanges.undelivered, 0, "responses that a reset discarded are not waited for");
});

test("responses leave the registry once their caller has acknowledged them", { skip }, async (t) => {
  const both = await pair(t);
  await fill(both);
  const exchanges = registry();
  const outlet = new SocketOutlet(both.ours, () => {});
  for (let n = 0; n < 3; n++) respond(exchanges, outlet, ofSession(n));
  exchanges.sweep();
  assert.equal(exchanges.undelivered, 3);
  both.caller.resume();
  await waitFor("all responses to leave", () => {
    exchanges.sweep();
    return exchanges.undelivered === 0;
  });
});

test("the end of a response that waits behind a write in progress counts", { skip }, async (t) => {
  const both = await pair(t);
  guardSocket(both.ours);
  await fill(both);
  both.ours.write(Buffer.alloc(20_000_000)); // waits in the stream of the socket
  const exchanges = registry();
  respond(exchanges, new SocketOutlet(both.ours, () => {}), ofSession(1));
  const upload = unsentDelivery(both.ours);
  let received = 0;
  both.caller.on("data", ({ length }) => {
    received += length;
    if (received > 21_000_000 && received - length <= 21_000_000) both.caller.pause();
  });
  both.caller.resume();
  await waitFor("the first write to be delivered", () => received > 21_000_000);
  await new Promise((resolve) => setTimeout(resolve, 20));
  exchanges.sweep();
  assert.deepEqual([exchanges.undelivered, upload?.isDone()], [1, false]);
  both.caller.resume();
  await waitFor("the response to leave", () => {
    exchanges.sweep();
    return exchanges.undelivered === 0;
  });
  assert.equal(upload?.isDone(), true);
});

test("a peer that leaves behind unread bytes is noticed, by its end and by a reset", { skip }, async (t) => {
  for (const leave of [(caller: Socket) => caller.end(), resetSocket]) {
    const { ours, caller } = await pair(t);
    ours.pause();
    caller.write(Buffer.alloc(100_000)); // more than the stream reads ahead
    await waitFor("the bytes", () => queuesAt(ours.localPort ?? 0, ours.remotePort ?? 0).received > 0);
    assert.equal(hasPeerEnded(ours), false);
    leave(caller);
    await waitFor("its end to be known", () => hasPeerEnded(ours));
    assert.equal(ours.destroyed, false);
  }
});

test("over TLS, nothing waits for a caller that has reset its connection", { skip }, async (t) => {
  const sockets = await pair(t);
  const secureContext = createSecureContext(selfSigned("DNS:app.localhost"));
  const ours = new TLSSocket(sockets.ours, { isServer: true, secureContext });
  const theirs = connectTls({ socket: sockets.caller, rejectUnauthorized: false });
  for (const socket of [ours, theirs]) socket.on("error", () => {});
  await Promise.all([once(ours, "secure"), once(theirs, "secureConnect")]);
  theirs.pause();
  guardSocket(ours);
  await fill({ ours, caller: theirs });
  const { localPort = 0, remotePort = 0 } = ours;
  ours.end();
  resetSocket(theirs);
  await waitFor("the reset", () => queuesAt(localPort, remotePort).unacked === null);
  assert.equal(unackedBytes(ours), 0);
  ours.destroy();
  assert.equal(ours.destroyed, true);
});

describe("a response replaces the previous one on its connection if both read the same facts", { skip }, () => {
  async function unread(t: TestContext) {
    const both = await pair(t);
    guardSocket(both.ours);
    const exchanges = registry();
    return { ...both, fill: () => fill(both), exchanges, outlet: new SocketOutlet(both.ours, () => {}) };
  }

  test("a connection keeps one response per set of facts", async (t) => {
    const { fill, exchanges, outlet } = await unread(t);
    await fill();
    for (let n = 0; n < 100; n++) respond(exchanges, outlet, ofSession(1));
    assert.equal(exchanges.undelivered, 1);
    respond(exchanges, outlet, ofSession(2));
    assert.equal(exchanges.undelivered, 2);
  });

  test("a change resets the connection if the older response is not delivered, whatever the decision on the newer one", async (t) => {
    const { fill, exchanges, outlet, ours } = await unread(t);
    await fill();
    respond(exchanges, outlet, ofSession(1, "refused"));
    respond(exchanges, outlet, ofSession(1));
    await enforceChange(exchanges, 1);
    assert.deepEqual([ours.destroyed, unackedBytes(ours)], [true, 0]);
  });

  test("a change keeps the connection if the older response is delivered and the newer one permitted", async (t) => {
    const { fill, exchanges, outlet, ours } = await unread(t);
    respond(exchanges, outlet, ofSession(1, "refused"));
    await fill();
    respond(exchanges, outlet, ofSession(1));
    await enforceChange(exchanges, 1);
    assert.deepEqual([ours.destroyed, exchanges.undelivered], [false, 1]);
  });

  test("a change that is being enforced on the older response is not lost", async (t) => {
    const { fill, exchanges, outlet, ours } = await unread(t);
    await fill();
    respond(exchanges, outlet, ofSession(1, "refused"));
    const enforced = enforceChange(exchanges, 1);
    const again = enforceChange(exchanges, 1);
    respond(exchanges, outlet, ofSession(1));
    await Promise.all([enforced, again]);
    assert.equal(ours.destroyed, true);
  });

  test("the newer response expires at the earlier expiry of the two", async (t) => {
    const { fill, exchanges, outlet, ours } = await unread(t);
    await fill();
    respond(exchanges, outlet, { ...ofSession(1), until: (Date.now() - 1) as UnixMs });
    respond(exchanges, outlet, ofSession(1));
    exchanges.sweep();
    await enforceChange(exchanges, 2);
    assert.equal(ours.destroyed, true);
  });
});

describe("a request whose response arrived before the request was sent in full", { skip }, () => {
  async function unsent(t: TestContext, verdict: ReauthorizeOutcome["type"]) {
    const both = await pair(t);
    guardSocket(both.ours);
    await fill(both);
    const exchanges = registry();
    const exchange = open(exchanges, ofSession(1, verdict));
    const delivery = unsentDelivery(both.ours);
    assert.ok(delivery !== undefined);
    exchange.addUnsent(delivery);
    return { ...both, exchanges, exchange };
  }

  test("its exchange stays registered until the rest is sent", async (t) => {
    const { caller, exchanges, exchange } = await unsent(t, "permitted");
    exchange.close();
    exchanges.sweep();
    assert.equal(exchanges.undelivered, 1);
    caller.resume();
    await waitFor("the exchange to leave", () => {
      exchanges.sweep();
      return exchanges.undelivered === 0;
    });
  });

  for (const state of ["open", "closed"] as const)
    test(`a cut of an exchange that is ${state} resets the connection before the change is enforced`, async (t) => {
      const { ours, exchanges, exchange } = await unsent(t, "refused");
      if (state === "closed") exchange.close();
      await enforceChange(exchanges, 1);
      assert.deepEqual([ours.destroyed, exchange.cutReason], [true, "session-ended"]);
    });
});
