/** Changes between the decision and the first byte to the upstream count, however long the connection takes. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { WebSocket } from "ws";
import { cookieOf, routeTo, signedIn, startRig } from "../proxy/support.ts";
import { waitFor } from "../support/wait-for.ts";

test("a handshake is refused with 503 if the lease ends while the upstream connection is being opened", async (t) => {
  const lease = { overdueMs: -1_000 };
  const sockets: Socket[] = [];
  let received = "";
  const upstream = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
    });
  });
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  const rig = await startRig([routeTo((upstream.address() as AddressInfo).port, { allowWebsockets: true })], {
    deps: {
      freshness: { overdueMs: () => lease.overdueMs },
      // The request is permitted; then the lease ends while the connection is being opened.
      recorder: {
        recordDurably: null,
        record: ({ result }) => {
          if (result === "permit")
            process.nextTick(() => Object.assign(lease, { overdueMs: Number.POSITIVE_INFINITY }));
        },
      },
    },
  });
  t.after(async () => {
    await rig.close();
    for (const socket of sockets) socket.destroy();
    upstream.close();
  });
  await rig.apply(signedIn(1));

  const caller = new WebSocket(`ws://127.0.0.1:${rig.port}/`, {
    headers: { host: "app.localhost", cookie: cookieOf(1) },
  });
  caller.on("error", () => {});
  const [, answer] = await once(caller, "unexpected-response");

  assert.equal(answer.statusCode, 503);
  await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.websocket === 0);
  assert.equal(received, "");
});
