/**
 * Another configuration in force: who decides what from then on, and what goes on as it began. Everything here runs
 * over real sockets.
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
type Place = Readonly<{ upstream: Upstream; held: Held[]; connections: () => number }>;

/** Answers at once, but holds what is asked of `/held` until a test answers it. Echoes on WebSockets. */
async function startPlace(name: string): Promise<Place> {
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

const at = (place: Place, parts: Partial<RouteConfig> = {}): RouteConfig =>
  routeTo(place.upstream.port, { allowWebsockets: true, timeoutMs: 0, ...parts });
const under = (value: string): Partial<RouteConfig> => ({ match: { kind: "prefix", value } });

async function dial(rig: Rig, host = "app.localhost", path = "/"): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${rig.port}${path}`, { headers: { host, cookie: cookieOf(1) } });
  socket.on("error", () => {});
  await once(socket, "open");
  return socket;
}
async function says(socket: WebSocket, text: string): Promise<string> {
  socket.send(text);
  const [data] = (await once(socket, "message")) as [Buffer];
  return data.toString();
}
async function closed(socket: WebSocket): Promise<number> {
  if (socket.readyState === WebSocket.CLOSED) return Number.NaN;
  const [code] = (await once(socket, "close")) as [number];
  return code;
}
async function hold(
  rig: Rig,
  place: Place,
  asked: RequestOptions = {},
): Promise<Readonly<{ answer: ReturnType<Rig["request"]>; held: Held }>> {
  const before = place.held.length;
  const answer = rig.request({ path: "/held", session: 1, ...asked });
  answer.catch(() => {});
  const held = await waitFor("the upstream to be asked", () => place.held[before]);
  return { answer, held };
}

describe("requests that come after another configuration is in force", () => {
  test("are led where it says, with the policies that it says, on a connection that was open before", async () => {
    const [one, other] = [await startPlace("one"), await startPlace("other")];
    const rig = await start([at(one)]);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const sockets = new Set<unknown>();
    const ask = async (): Promise<[number, string]> => {
      const req = request({
        ...{ port: rig.port, host: "127.0.0.1", agent, path: "/" },
        headers: { host: "app.localhost", cookie: cookieOf(1) },
      }).end();
      const [res] = (await once(req, "response")) as [IncomingMessage];
      sockets.add(req.socket);
      return [res.statusCode ?? 0, Buffer.concat(await res.toArray()).toString()];
    };
    assert.deepEqual(await ask(), [200, "one"]);
    await rig.activate([at(other)]);
    assert.deepEqual(await ask(), [200, "other"]);
    await rig.activate([at(other, engOnly)]);
    assert.equal((await ask())[0], 403);
    await rig.activate([]);
    assert.equal((await ask())[0], 404);
    assert.equal(sockets.size, 1);
    agent.destroy();
  });

  test("decision records name the configuration that decided", async () => {
    const place = await startPlace("one");
    const rig = await start([at(place)]);
    await rig.request({ session: 1 });
    await rig.activate([at(place)], { hash: "the-next" as never });
    await rig.request({ session: 1 });
    assert.deepEqual(
      rig.records.map(({ configHash }) => configHash),
      ["test-config", "the-next"],
    );
  });

  test("one that waited for a link meanwhile is decided by the new one, not by the one it came in under", async () => {
    const place = await startPlace("one");
    const waiting = Promise.withResolvers<"reached">();
    const asked = Promise.withResolvers<void>();
    const rig = await start([at(place)], {
      needs: { epoch: 1, position: 99, hash: new Uint8Array(32) } as unknown as Link,
      deps: {
        catchUp: () => {
          asked.resolve();
          return waiting.promise;
        },
      },
    });
    const answer = rig.request({ session: 1 });
    await asked.promise;
    await rig.activate([at(place, engOnly)]);
    waiting.resolve("reached");
    assert.equal((await answer).status, 403);
  });
});

describe("what is open when another configuration comes into force", () => {
  test("goes on when nothing about it has changed, and its connection to the upstream is kept", async () => {
    const place = await startPlace("one");
    const rig = await start([at(place)]);
    const socket = await dial(rig);
    await rig.request({ session: 1 });
    const before = place.connections();
    await rig.activate([at(place), at(place, { host: "new.localhost", ...publicAccess })]);
    assert.equal(await says(socket, "still"), "one: still");
    assert.equal((await rig.request({ session: 1 })).body, "one");
    assert.equal((await rig.request({ host: "new.localhost" })).body, "one");
    assert.equal(place.connections(), before); // a pool belongs to its settings, not to a configuration
    socket.close();
  });

  test("is cut when its policy denies it now, and what is on other routes is not", async () => {
    const place = await startPlace("one");
    const other = at(place, { host: "other.localhost" });
    const rig = await start([at(place), other]);
    const [tightened, untouched] = [await dial(rig), await dial(rig, "other.localhost")];
    const { answer, held } = await hold(rig, place);
    const code = closed(tightened);
    await rig.activate([at(place, engOnly), other]);
    assert.equal(await code, 4403);
    assert.equal((await answer).status, 403); // nothing of it was answered yet
    await waitFor("the upstream to be let go of", () => held.res.closed);
    assert.equal(await says(untouched, "hello"), "one: hello");
    untouched.close();
  });

  test("is cut when its route is gone", async () => {
    const place = await startPlace("one");
    const rest = at(place, { host: "other.localhost" });
    const rig = await start([at(place), rest]);
    const socket = await dial(rig);
    const { answer } = await hold(rig, place);
    const code = closed(socket);
    await rig.activate([rest]);
    assert.equal(await code, 4404);
    assert.equal((await answer).status, 404);
    assert.equal(rig.proxy.stats().cuts["route-removed"], 2);
    assert.deepEqual(rig.records.at(-1)?.reasons, ["route-not-found"]);
  });

  test("is cut when its route is gone and another one stands behind it", async () => {
    const place = await startPlace("one");
    const rig = await start([at(place, under("/admin")), at(place)]);
    const [admin, rest] = [await dial(rig, "app.localhost", "/admin/x"), await dial(rig)];
    const code = closed(admin);
    await rig.activate([at(place)]);
    assert.equal(await code, 4404);
    assert.equal(await says(rest, "hello"), "one: hello");
    rest.close();
  });

  test("goes on, as it began, behind a new route that stands before its own, when that permits it too", async () => {
    const [one, other] = [await startPlace("one"), await startPlace("other")];
    const rig = await start([at(one)]);
    const socket = await dial(rig, "app.localhost", "/admin");
    await rig.activate([at(other, under("/admin")), at(one)]);
    assert.equal(await says(socket, "hello"), "one: hello");
    const code = closed(socket);
    await rig.activate([at(other, { ...under("/admin"), ...engOnly }), at(one)]);
    assert.equal(await code, 4403);
  });

  test("goes on to the upstream it began with when the route leads elsewhere; a revocation cuts it all the same", async () => {
    const [one, other] = [await startPlace("one"), await startPlace("other")];
    const rig = await start([at(one)]);
    const socket = await dial(rig);
    const { answer, held } = await hold(rig, one);
    await rig.activate([at(other)]);
    assert.equal((await rig.request({ session: 1 })).body, "other");
    assert.equal(await says(socket, "hello"), "one: hello");
    held.res.end("late");
    assert.equal((await answer).body, "late");
    const code = closed(socket);
    await rig.apply(sessionRevoked(1));
    assert.equal(await code, 4401);
  });

  test("is bound by the grace and the lifetime that its route has now", async () => {
    const place = await startPlace("one");
    const rig = await start([at(place, { staleGraceMs: 60_000 })]);
    const [stale, old] = [await dial(rig), await dial(rig, "app.localhost", "/old")];
    rig.lease.overdueMs = 10_000;
    assert.equal(await says(stale, "hello"), "one: hello");
    await rig.activate([at(place, { staleGraceMs: 60_000, maxStreamLifetimeMs: 1 })]);
    assert.equal(await closed(old), 4408);
    await rig.activate([at(place, { staleGraceMs: 0 })]);
    await waitFor("the other to be cut", () => stale.readyState === WebSocket.CLOSED);
    assert.deepEqual({ ...rig.proxy.stats().exchanges }, { http: 0, websocket: 0, tcp: 0, udp: 0 });
  });

  test("a public route that asks for sign-in from now on lets go of those who have not signed in", async () => {
    const place = await startPlace("one");
    const rig = await start([at(place, publicAccess)]);
    const { answer } = await hold(rig, place, { session: 99 });
    await rig.activate([at(place)]);
    assert.equal((await answer).status, 302);
  });
});

describe("a configuration that is no more", () => {
  test("its handlers of reserved paths are let go of when what they were asked is answered", async () => {
    const place = await startPlace("one");
    const asked: ServerResponse[] = [];
    const rig = await start([at(place)], { deps: { reserved: (_req, res) => void asked.push(res) } });
    const answer = rig.request({ path: "/.pomerium/user" });
    await waitFor("it to be asked", () => asked.length === 1);
    const { left } = await rig.activate([at(place)], { drainTimeoutMs: 60_000 });
    let gone = false;
    void left.then(() => {
      gone = true;
    });
    assert.equal(gone, false);
    asked[0]?.end("answered");
    assert.equal((await answer).body, "answered");
    await left;
  });

  test("what they do not answer in time is broken off", async () => {
    const place = await startPlace("one");
    const rig = await start([at(place)], { deps: { reserved: () => {} }, config: { drainTimeoutMs: 20 } });
    const answer = rig.request({ path: "/.pomerium/user" });
    await waitFor("it to be asked", () => rig.proxy.stats().inFlight.http === 1);
    const { left } = await rig.activate([at(place)]);
    await assert.rejects(answer);
    await left;
  });
});

test("a folder of ACME that cannot be used keeps no stream from being decided anew", async () => {
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
  const place = await startPlace("one");
  const rig = await start([at(place)], { acme });
  const socket = await dial(rig);
  const autocert = {
    ...{ directory: new URL("https://127.0.0.1:1/dir"), folder: join(file, "below"), hosts: ["app.localhost"] },
    ...{ email: null, eab: null, trustedCa: null, challenges: ["tls-alpn-01"] as const },
  };
  const ended = closed(socket);
  await rig.activate([at(place, engOnly)], { autocert });
  await ended;
  assert.equal(errors.length > 0, true);
});
