/** Idle lifetimes at the proxy: requests, open streams, and what counts as use. All tests use real sockets. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, describe, test } from "node:test";
import { type WebSocket as Client, WebSocket, WebSocketServer } from "ws";
import type { RouteConfig } from "../../src/config/index.ts";
import type { SessionUse, UnixMs } from "../../src/events/index.ts";
import { sessionId } from "../events/support.ts";
import { waitFor } from "../support/wait-for.ts";
import { cookieOf, type Rig, routeTo, signedIn, startRig, startUpstream } from "./support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const hour = 3_600_000;
const payroll = { host: "payroll.localhost" };

/** A host without an idle lifetime, and one with. The sessions of the rig began at 0, so they were last used then. */
async function start(idle: Partial<RouteConfig>, onSocket: (socket: Client) => void = () => {}): Promise<Rig> {
  const upstream = await startUpstream((_req, res) => void res.end("ok"));
  const sockets = new WebSocketServer({ server: upstream.server });
  sockets.on("connection", (socket) => {
    socket.on("error", () => {});
    onSocket(socket);
  });
  const route = { allowWebsockets: true, timeoutMs: 0 };
  const rig = await startRig([
    routeTo(upstream.port, route),
    routeTo(upstream.port, { ...route, ...payroll, ...idle }),
  ]);
  cleanUps.push(async () => {
    await rig.close();
    await upstream.close();
  });
  await rig.apply(signedIn(1), signedIn(2));
  return rig;
}

const seen = (rig: Rig, use: Partial<SessionUse> & Readonly<{ of?: number }> = {}): Promise<unknown> =>
  rig.apply({
    type: "SessionsSeen",
    sessionIds: [sessionId(use.of ?? 1)],
    seenAt: [use.seenAt ?? (Date.now() as UnixMs)],
    pauseMs: [use.pauseMs ?? 0],
  });

async function openSocket(rig: Rig): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/live`, {
    headers: { host: payroll.host, cookie: cookieOf(1) },
  });
  socket.on("error", () => {});
  await once(socket, "open");
  return socket;
}

describe("a request", () => {
  test("of an idle session is sent to the sign-in, and an API client gets 401, with a reason of its own", async () => {
    const rig = await start({ sessionIdleLifetimeMs: hour });
    assert.equal((await rig.request({ session: 1, ...payroll })).status, 302);
    const api = await rig.request({
      session: 1,
      ...payroll,
      headers: { "sec-fetch-mode": "cors", accept: "application/json" },
    });
    assert.equal(api.status, 401);
    assert.deepEqual(rig.records.at(-1)?.reasons.slice(-1), ["session-idle"]);
    assert.equal((await rig.request({ session: 1 })).status, 200, "the other route has no idle lifetime");
  });

  test("of a session that the log knows as used is permitted, and keeps it in use on this node", async () => {
    const rig = await start({ sessionIdleLifetimeMs: 2_000 });
    await seen(rig);
    for (const until = Date.now() + 4_000; Date.now() < until; ) {
      assert.equal((await rig.request({ session: 1, ...payroll })).status, 200);
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    await new Promise((resolve) => setTimeout(resolve, 2_100));
    assert.equal((await rig.request({ session: 1, ...payroll })).status, 302);
  });

  test("on another route does not revive a session that was idle", async () => {
    const rig = await start({ sessionIdleLifetimeMs: hour });
    await seen(rig, { seenAt: (Date.now() - 2 * hour) as UnixMs });
    assert.equal((await rig.request({ session: 1 })).status, 200);
    assert.equal((await rig.request({ session: 1, ...payroll })).status, 302);
    await seen(rig, { of: 2, pauseMs: hour });
    assert.equal((await rig.request({ session: 2, ...payroll })).status, 302, "nor on another node");
  });

  test("on a node without a lease, served all the same, is no use", async () => {
    const rig = await start({ sessionIdleLifetimeMs: 2_000, staleGraceMs: 60_000 });
    await seen(rig);
    rig.lease.overdueMs = 10;
    await waitFor(
      "the session to become idle",
      async () => (await rig.request({ session: 1, ...payroll })).status === 302,
    );
    assert.equal(rig.activity.useHere(sessionId(1)), undefined);
  });

  test("by a configuration without an idle lifetime leaves nothing in memory", async () => {
    const rig = await start({});
    assert.equal((await rig.request({ session: 1, ...payroll })).status, 200);
    assert.equal(rig.activity.useHere(sessionId(1)), undefined);
    assert.equal(rig.activity.due, 0);
  });
});

describe("an open stream", () => {
  test("without a byte ends with the idle lifetime, as a session that has ended", async () => {
    const rig = await start({ sessionIdleLifetimeMs: 2_000 });
    await seen(rig);
    const socket = await openSocket(rig);
    const openedAt = Date.now();
    const [code] = await once(socket, "close");
    assert.equal(code, 4_401);
    const openMs = Date.now() - openedAt;
    assert.ok(openMs > 1_500 && openMs < 6_000, `${openMs} ms`);
    assert.equal(rig.proxy.stats().cuts["session-ended"], 1);
  });

  test("with bytes in either direction keeps its session in use, there and for requests", async () => {
    const sockets: NodeJS.Timeout[] = [];
    const rig = await start({ sessionIdleLifetimeMs: 2_000 }, (socket) => {
      const timer = setInterval(() => socket.send("tick"), 200);
      sockets.push(timer);
      socket.on("close", () => clearInterval(timer));
    });
    await seen(rig);
    const socket = await openSocket(rig);
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    assert.equal(socket.readyState, WebSocket.OPEN);
    assert.equal((await rig.request({ session: 1, ...payroll })).status, 200);
    for (const timer of sockets) clearInterval(timer);
    const [code] = await once(socket, "close");
    assert.equal(code, 4_401, "silent from then on");
  });
});
