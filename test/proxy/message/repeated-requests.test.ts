/**
 * Repeated requests: each request of a connection is decided and forwarded on its own, even if its bytes equal those
 * of the previous one.
 */
import assert from "node:assert/strict";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { describe, test } from "node:test";
import type { UnixMs } from "../../../src/events/index.ts";
import {
  cookieOf,
  engOnly,
  groupChanged,
  type Rig,
  routeTo,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
  valuesOf,
} from "../support.ts";

describe("the same request bytes on one connection", () => {
  /** @returns a function that sends the same head on one connection */
  function oneConnection(rig: Rig): (session: number) => Promise<Readonly<{ status: number; seen: string[] }>> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    let sockets = 0;
    return (session) =>
      new Promise((resolve, reject) => {
        const headers = { host: "app.localhost", cookie: `${cookieOf(session)}; app=1`, accept: "application/json" };
        const req = request({ agent, host: "127.0.0.1", port: rig.port, path: "/same", headers });
        req.once("socket", (socket) => {
          if (socket.connecting) sockets++;
        });
        req.once("error", reject);
        req.once("response", (res: { statusCode?: number; headers: IncomingHttpHeaders } & NodeJS.ReadableStream) => {
          let text = "";
          res.setEncoding("utf8").on("data", (chunk: string) => {
            text += chunk;
          });
          res.once("end", () => {
            assert.equal(sockets, 1, "the requests used several connections");
            const status = res.statusCode ?? 0;
            resolve({ status, seen: status === 200 ? JSON.parse(text).rawHeaders : [] });
          });
        });
        req.end();
      });
  }

  async function start(): Promise<Readonly<{ rig: Rig; close: () => Promise<void> }>> {
    const upstream = await startUpstream();
    const rig = await startRig([routeTo(upstream.port, { ...engOnly, passIdentityHeaders: true })]);
    await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1, 2] }));
    return {
      rig,
      async close() {
        await rig.close();
        await upstream.close();
      },
    };
  }
  const emailsIn = (assertion: string | undefined): string =>
    JSON.parse(Buffer.from(assertion?.split(".")[1] ?? "", "base64url").toString()).email;
  const emailIn = (seen: readonly string[]): string => emailsIn(valuesOf(seen, "x-pomerium-jwt-assertion")[0]);

  test("each request has its own id, and a revoked session is refused at once", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const send = oneConnection(rig);
    const ids = new Set<string | undefined>();
    for (let i = 0; i < 4; i++) {
      const { status, seen } = await send(1);
      assert.equal(status, 200);
      assert.deepEqual(valuesOf(seen, "cookie"), ["app=1"]);
      for (const id of valuesOf(seen, "x-request-id")) ids.add(id);
    }
    assert.equal(ids.size, 4);
    await rig.apply(sessionRevoked(1));
    assert.equal((await send(1)).status, 401);
    assert.equal((await send(2)).status, 200);
  });

  test("a person who leaves the group is denied at once, and permitted again after rejoining", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const send = oneConnection(rig);
    for (const [change, status] of [
      ["added", 200],
      ["removed", 403],
      ["added", 200],
    ] as const) {
      await rig.apply(groupChanged({ [change]: [1] }));
      assert.deepEqual([(await send(1)).status, (await send(1)).status], [status, status]);
    }
  });

  test("the upstream receives the identity of this request, not of the previous one", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const send = oneConnection(rig);
    for (const session of [1, 1, 2, 2, 1]) {
      const { seen } = await send(session);
      assert.equal(emailIn(seen), emailIn((await send(session)).seen));
      assert.match(emailIn(seen), new RegExp(`${session}`));
    }
    const renamed = signedIn(1, { email: "renamed-1@example.com" });
    assert.ok(renamed.type === "SessionCreated");
    const { sessionId, userId, profile } = renamed;
    await rig.apply({ type: "SessionRefreshed", sessionId, userId, profile, refreshedAt: 1 as UnixMs });
    assert.equal(emailIn((await send(1)).seen), "renamed-1@example.com");
  });

  test("a changed route applies to the next request", async (t) => {
    const { rig, close } = await start();
    t.after(close);
    const send = oneConnection(rig);
    const [before] = rig.deps.config.routes;
    assert.ok(before !== undefined);
    assert.deepEqual(valuesOf((await send(1)).seen, "x-set"), []);
    await rig.activate([{ ...before, setRequestHeaders: { "X-Set": "by the new one" } }]);
    assert.deepEqual(valuesOf((await send(1)).seen, "x-set"), ["by the new one"]);
    assert.deepEqual(valuesOf((await send(1)).seen, "x-set"), ["by the new one"]);
  });
});
