/**
 * A change of configuration: which one decides from then on, and what happens to open exchanges. All tests use real
 * sockets.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { Agent, type IncomingMessage, request, type ServerResponse } from "node:http";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import type { RouteConfig } from "../../src/config/index.ts";
import type { Link } from "../../src/events/index.ts";
import { startAutocert } from "../../src/proxy/autocert/autocert-timer.ts";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  cookieOf,
  engOnly,
  publicAccess,
  type RequestOptions,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  type Upstream,
} from "./support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

type Held = { url: string; res: ServerResponse };
type TestUpstream = Readonly<{ upstream: Upstream; held: Held[]; connections: () => number }>;

/** Answers at once, but holds requests for `/held` until a test answers them. Echoes on WebSockets. */
async function startTestUpstream(name: string): Promise<TestUpstream> {
  const held: Held[] = [];
  const upstream = await startUpstream((req, res) => {
    if (req.url?.startsWith("/held")) held.push({ url: req.url, res });
    else res.end(name);
  });
  let connections = 0;
  upstream.server.on("connection", () => connections++);
  const sockets = new WebSocketServer({ server: upstream.server });
  sockets.on("connection", (socket) => {
    socket.on("error", () => {});
    socket.on("message", (data) => socket.send(`${name}: ${data}`));
  });
  cleanUps.push(() => upstream.close());
  return { upstream, held, connections: () => connections };
}

async function start(routes: readonly RouteConfig[], parts: Parameters<typeof startRig>[1] = {}): Promise<Rig> {
  const rig = await startRig(routes, parts);
  await rig.apply(signedIn(1), signedIn(2));
  cleanUps.push(() => rig.close());
  return rig;
}

const at = (target: TestUpstream, parts: Partial<RouteConfig> = {}): RouteConfig =>
  routeTo(target.upstream.port, { allowWebsockets: true, timeoutMs: 0, ...parts });
const under = (value: string): Partial<RouteConfig> => ({ match: { kind: "prefix", value } });

async function dial(rig: Rig, host = "app.localhost", path = "/"): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${rig.port}${path}`, { headers: { host, cookie: cookieOf(1) } });
  socket.on("error", () => {});
  await once(socket, "open");
  return socket;
}
async function echoOf(socket: WebSocket, text: string): Promise<string> {
  socket.send(text);
  const [data] = (await once(socket, "message")) as [Buffer];
  return data.toString();
}
async function closeCodeOf(socket: WebSocket): Promise<number> {
  if (socket.readyState === WebSocket.CLOSED) return Number.NaN;
  const [code] = (await once(socket, "close")) as [number];
  return code;
}
async function holdRequest(
  rig: Rig,
  target: TestUpstream,
  requests: RequestOptions = {},
): Promise<Readonly<{ answer: ReturnType<Rig["request"]>; held: Held }>> {
  const before = target.held.length;
  const answer = rig.request({ path: "/held", session: 1, ...requests });
  answer.catch(() => {});
  const held = await waitFor("the held request to arrive", () => target.held[before]);
  return { answer, held };
}

describe("requests after a change of configuration", () => {
  test("use the new routes and policies, even on a connection that was open before", async () => {
    const [one, other] = [await startTestUpstream("one"), await startTestUpstream("other")];
    const rig = await start([at(one)]);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const sockets = new Set<unknown>();
    const send = async (): Promise<[number, string]> => {
      const req = request({
        ...{ port: rig.port, host: "127.0.0.1", agent, path: "/" },
        headers: { host: "app.localhost", cookie: cookieOf(1) },
      }).end();
      const [res] = (await once(req, "response")) as [IncomingMessage];
      sockets.add(req.socket);
      return [res.statusCode ?? 0, Buffer.concat(await res.toArray()).toString()];
    };
    assert.deepEqual(await send(), [200, "one"]);
    await rig.activate([at(other)]);
    assert.deepEqual(await send(), [200, "other"]);
    await rig.activate([at(other, engOnly)]);
    assert.equal((await send())[0], 403);
    await rig.activate([]);
    assert.equal((await send())[0], 404);
    assert.equal(sockets.size, 1);
    agent.destroy();
  });

  test("name the configuration that decided them in their decision records", async () => {
    const target = await startTestUpstream("one");
    const rig = await start([at(target)]);
    await rig.request({ session: 1 });
    await rig.activate([at(target)], { hash: "the-next" as never });
    await rig.request({ session: 1 });
    assert.deepEqual(
      rig.records.map(({ configHash }) => configHash),
      ["test-config", "the-next"],
    );
  });

  test("are decided by the new configuration if they waited for a link while it changed", async () => {
    const target = await startTestUpstream("one");
    const waiting = Promise.withResolvers<"reached">();
    const requests = Promise.withResolvers<void>();
    const rig = await start([at(target)], {
      needs: { epoch: 1, position: 99, hash: new Uint8Array(32) } as unknown as Link,
      deps: {
        catchUp: () => {
          requests.resolve();
          return waiting.promise;
        },
      },
    });
    const answer = rig.request({ session: 1 });
    await requests.promise;
    await rig.activate([at(target, engOnly)]);
    waiting.resolve("reached");
    assert.equal((await answer).status, 403);
  });
});

describe("an exchange that is open during a change of configuration", () => {
  test("continues if its route has not changed, and its upstream connection is reused", async () => {
    const target = await startTestUpstream("one");
    const rig = await start([at(target)]);
    const socket = await dial(rig);
    await rig.request({ session: 1 });
    const before = target.connections();
    await rig.activate([at(target), at(target, { host: "new.localhost", ...publicAccess })]);
    assert.equal(await echoOf(socket, "still"), "one: still");
    assert.equal((await rig.request({ session: 1 })).body, "one");
    assert.equal((await rig.request({ host: "new.localhost" })).body, "one");
    assert.equal(target.connections(), before); // a pool belongs to its settings, not to a configuration
    socket.close();
  });

  test("is cut when its policy now denies it; exchanges on other routes are not", async () => {
    const target = await startTestUpstream("one");
    const other = at(target, { host: "other.localhost" });
    const rig = await start([at(target), other]);
    const [tightened, untouched] = [await dial(rig), await dial(rig, "other.localhost")];
    const { answer, held } = await holdRequest(rig, target);
    const code = closeCodeOf(tightened);
    await rig.activate([at(target, engOnly), other]);
    assert.equal(await code, 4403);
    assert.equal((await answer).status, 403); // its response had not begun
    await waitFor("the upstream request to be aborted", () => held.res.closed);
    assert.equal(await echoOf(untouched, "hello"), "one: hello");
    untouched.close();
  });

  test("is cut when its route is removed", async () => {
    const target = await startTestUpstream("one");
    const rest = at(target, { host: "other.localhost" });
    const rig = await start([at(target), rest]);
    const socket = await dial(rig);
    const { answer } = await holdRequest(rig, target);
    const code = closeCodeOf(socket);
    await rig.activate([rest]);
    assert.equal(await code, 4404);
    assert.equal((await answer).status, 404);
    assert.equal(rig.proxy.stats().cuts["route-removed"], 2);
    const decided = rig.records.findLast(({ occasion }) => occasion !== "closed");
    assert.deepEqual(decided?.reasons, ["route-not-found"]);
  });

  test("is cut when its route is removed, even if another route matches the request", async () => {
    const target = await startTestUpstream("one");
    const rig = await start([at(target, under("/admin")), at(target)]);
    const [admin, rest] = [await dial(rig, "app.localhost", "/admin/x"), await dial(rig)];
    const code = closeCodeOf(admin);
    await rig.activate([at(target)]);
    assert.equal(await code, 4404);
    assert.equal(await echoOf(rest, "hello"), "one: hello");
    rest.close();
  });

  test("continues to its upstream when a new route takes precedence and permits it too", async () => {
    const [one, other] = [await startTestUpstream("one"), await startTestUpstream("other")];
    const rig = await start([at(one)]);
    const socket = await dial(rig, "app.localhost", "/admin");
    await rig.activate([at(other, under("/admin")), at(one)]);
    assert.equal(await echoOf(socket, "hello"), "one: hello");
    const code = closeCodeOf(socket);
    await rig.activate([at(other, { ...under("/admin"), ...engOnly }), at(one)]);
    assert.equal(await code, 4403);
  });

  test("continues to its upstream when the route points elsewhere; a revocation still cuts it", async () => {
    const [one, other] = [await startTestUpstream("one"), await startTestUpstream("other")];
    const rig = await start([at(one)]);
    const socket = await dial(rig);
    const { answer, held } = await holdRequest(rig, one);
    await rig.activate([at(other)]);
    assert.equal((await rig.request({ session: 1 })).body, "other");
    assert.equal(await echoOf(socket, "hello"), "one: hello");
    held.res.end("late");
    assert.equal((await answer).body, "late");
    const code = closeCodeOf(socket);
    await rig.apply(sessionRevoked(1));
    assert.equal(await code, 4401);
  });

  test("obeys the grace and the lifetime that its route has now", async () => {
    const target = await startTestUpstream("one");
    const rig = await start([at(target, { staleGraceMs: 60_000 })]);
    const [stale, old] = [await dial(rig), await dial(rig, "app.localhost", "/old")];
    rig.lease.overdueMs = 10_000;
    assert.equal(await echoOf(stale, "hello"), "one: hello");
    await rig.activate([at(target, { staleGraceMs: 60_000, maxStreamLifetimeMs: 1 })]);
    assert.equal(await closeCodeOf(old), 4408);
    await rig.activate([at(target, { staleGraceMs: 0 })]);
    await waitFor("the other WebSocket to be cut", () => stale.readyState === WebSocket.CLOSED);
    assert.deepEqual({ ...rig.proxy.stats().exchanges }, { http: 0, websocket: 0, tcp: 0, udp: 0 });
  });

  test("on a public route is cut if the route now requires sign-in and the caller has not signed in", async () => {
    const target = await startTestUpstream("one");
    const rig = await start([at(target, publicAccess)]);
    const { answer } = await holdRequest(rig, target, { session: 99 });
    await rig.activate([at(target)]);
    assert.equal((await answer).status, 302);
  });
});

describe("handlers of reserved paths in a replaced configuration", () => {
  test("are released once they have answered their requests", async () => {
    const target = await startTestUpstream("one");
    const requests: ServerResponse[] = [];
    const rig = await start([at(target)], { deps: { reserved: (_req, res) => void requests.push(res) } });
    const answer = rig.request({ path: "/.pomerium/user" });
    await waitFor("the handler to receive the request", () => requests.length === 1);
    const { left: released } = await rig.activate([at(target)], { drainTimeoutMs: 60_000 });
    let isReleased = false;
    void released.then(() => {
      isReleased = true;
    });
    assert.equal(isReleased, false);
    requests[0]?.end("answered");
    assert.equal((await answer).body, "answered");
    await released;
  });

  test("are cut off if they do not answer within the drain timeout", async () => {
    const target = await startTestUpstream("one");
    const rig = await start([at(target)], { deps: { reserved: () => {} }, config: { drainTimeoutMs: 20 } });
    const answer = rig.request({ path: "/.pomerium/user" });
    await waitFor("the request to be in flight", () => rig.proxy.stats().inFlight.http === 1);
    const { left: released } = await rig.activate([at(target)]);
    await assert.rejects(answer);
    await released;
  });
});

test("an unusable ACME folder does not keep open streams from being decided again", async () => {
  using folder = new TemporaryFolder("autocert-follow");
  const file = join(folder.path, "file");
  writeFileSync(file, "");
  const errors: object[] = [];
  const acme = startAutocert({
    config: null,
    logger: { debug() {}, info() {}, warn() {}, error: (fields: object) => void errors.push(fields) },
    events: { onOrdered() {} },
    wall: Date.now,
    random: () => 0,
  });
  cleanUps.push(async () => acme.close());
  const target = await startTestUpstream("one");
  const rig = await start([at(target)], { acme });
  const socket = await dial(rig);
  const autocert = {
    ...{ directory: new URL("https://127.0.0.1:1/dir"), folder: join(file, "below"), hosts: ["app.localhost"] },
    ...{ email: null, eab: null, trustedCa: null, challenges: ["tls-alpn-01"] as const },
  };
  const ended = closeCodeOf(socket);
  await rig.activate([at(target, engOnly)], { autocert });
  await ended;
  assert.equal(errors.length > 0, true);
});
