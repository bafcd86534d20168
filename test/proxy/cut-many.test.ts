/**
 * Many open streams of many people, of every kind: a change closes exactly the streams whose decision read the changed
 * fact, each in the way of its protocol.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { request } from "node:http";
import { type ClientHttp2Session, connect, createServer, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import type { RouteConfig } from "../../src/config/index.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  cookieOf,
  engOnly,
  groupChanged,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
} from "./support.ts";

const people = 100;
/** Streams per person on each of the two routes. With 10, 10 and 30 there are 10,000 streams in total. */
const each = { websocket: 1, events: 1, grpc: 3 };
const hosts = ["eng.localhost", "all.localhost"] as const;
const perPerson = each.websocket + each.events + each.grpc;

test("leaving a group closes a person's streams on the group's route, and a revoked session closes all of them, among a hundred people's streams", async (t) => {
  const upstream = await startUpstream((_, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write("data: first\n\n");
  });
  new WebSocketServer({ server: upstream.server }).on("connection", (socket) => {
    socket.on("error", () => {});
    socket.send("first");
  });
  const grpc = createServer();
  grpc.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.write("first");
  });
  grpc.listen(0, "127.0.0.1");
  await once(grpc, "listening");
  const circuitBreakers = { connections: 65_536, pending: 65_536, requests: 65_536, retries: 3, streams: 65_536 };
  const [eng, all] = hosts;
  const toGrpc = { url: new URL(`h2c://127.0.0.1:${(grpc.address() as AddressInfo).port}`), weight: null };
  const routes: RouteConfig[] = [eng, all].flatMap((host) => {
    const common = { host, circuitBreakers, timeoutMs: 0, ...(host === eng ? engOnly : {}) };
    return [
      routeTo(0, { ...common, id: `${host} grpc`, match: { type: "prefix", value: "/grpc" }, to: [toGrpc] } as never),
      routeTo(upstream.port, { ...common, allowWebsockets: true }),
    ];
  });
  const rig = await startRig(routes);
  const userNumbers = Array.from({ length: people }, (_, n) => n + 1);
  await rig.apply(...userNumbers.map((n) => signedIn(n)), groupChanged({ added: userNumbers }));

  const open = new Set<string>();
  const ends = new Map<string, string>();
  const end = (id: string, outcome: string): void => {
    if (!open.delete(id)) return;
    ends.set(id, outcome);
  };
  const sessions: ClientHttp2Session[] = [];
  const cleanUp: (() => void)[] = [];
  t.after(async () => {
    open.clear();
    for (const clean of cleanUp) clean();
    await rig.close();
    await upstream.close();
    grpc.close();
  });

  async function openWebSocket(n: number, host: string, id: string): Promise<void> {
    const socket = new WebSocket(`ws://127.0.0.1:${rig.port}/`, { headers: { host, cookie: cookieOf(n) } });
    cleanUp.push(() => socket.terminate());
    socket.on("error", () => {});
    await once(socket, "message");
    open.add(id);
    socket.on("close", (code) => end(id, String(code)));
  }
  async function openEvents(n: number, host: string, id: string): Promise<void> {
    const headers = { host, cookie: cookieOf(n) };
    const req = request({ port: rig.port, host: "127.0.0.1", agent: false, headers }).end();
    cleanUp.push(() => req.destroy());
    req.on("error", () => {});
    const [res] = await once(req, "response");
    await once(res, "data");
    open.add(id);
    res.on("end", () => end(id, "whole")).on("error", () => end(id, "broken off"));
    res.resume();
  }
  async function openGrpc(session: ClientHttp2Session, n: number, host: string, id: string): Promise<void> {
    const stream = session.request({
      ...{ ":method": "POST", ":path": "/grpc/x", ":authority": host, ":scheme": "http" },
      ...{ cookie: cookieOf(n), "content-type": "application/grpc", te: "trailers" },
    });
    stream.on("error", () => {});
    await once(stream, "data");
    open.add(id);
    stream.on("trailers", (trailers) => end(id, `status ${trailers["grpc-status"]}`));
    stream.on("close", () => end(id, "without a status"));
    stream.resume();
  }

  for (const n of userNumbers) {
    const session = connect(`http://127.0.0.1:${rig.port}`);
    session.on("error", () => {});
    sessions.push(session);
    cleanUp.push(() => session.destroy());
    const opening: Promise<void>[] = [];
    for (const host of hosts) {
      for (let i = 0; i < each.websocket; i++) opening.push(openWebSocket(n, host, `${host} ${n} websocket ${i}`));
      for (let i = 0; i < each.events; i++) opening.push(openEvents(n, host, `${host} ${n} events ${i}`));
      for (let i = 0; i < each.grpc; i++) opening.push(openGrpc(session, n, host, `${host} ${n} grpc ${i}`));
    }
    await Promise.all(opening);
  }
  assert.equal(open.size, people * 2 * perPerson);
  const counts = (): number => rig.proxy.stats().exchanges.http + rig.proxy.stats().exchanges.websocket;
  assert.equal(counts(), open.size);

  /** The streams that have ended since the last call, as kind and outcome. */
  const endedStreams = async (count: number): Promise<readonly string[]> => {
    await waitFor("the streams to end", () => ends.size >= count);
    assert.equal(counts(), open.size);
    const outcomes = [...ends].map(([id, outcome]) => `${id.replace(/ \d+$/, "")}: ${outcome}`);
    ends.clear();
    return [...new Set(outcomes)].sort();
  };

  const took = await rig.apply(groupChanged({ removed: [37] }));
  t.diagnostic(`cut in ${took} ms`);
  assert.deepEqual(await endedStreams(perPerson), [
    `${eng} 37 events: broken off`,
    `${eng} 37 grpc: status 7`,
    `${eng} 37 websocket: 4403`,
  ]);
  assert.equal(open.size, people * 2 * perPerson - perPerson);

  await rig.apply(sessionRevoked(59));
  assert.deepEqual(
    await endedStreams(2 * perPerson),
    hosts
      .flatMap((host) => [`${host} 59 events: broken off`, `${host} 59 grpc: status 16`, `${host} 59 websocket: 4401`])
      .sort(),
  );
  assert.equal(open.size, people * 2 * perPerson - 3 * perPerson);
});
