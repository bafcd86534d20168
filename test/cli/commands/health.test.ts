/** `cardea health`: readiness and liveness checks for container platforms. */
import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { freePort } from "../../support/free-port.ts";
import { run } from "../support.ts";

async function serve(listener: RequestListener) {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("health exits 0 if the node is ready, and 1 with the reasons if it is not", async () => {
  let ready = false;
  await using process = await serve((request, response) => {
    assert.equal(request.url, "/readyz");
    response.writeHead(ready ? 200 : 503).end(JSON.stringify({ ready, reasons: ready ? [] : ["no lease"] }));
  });
  const address = `127.0.0.1:${process.port}`;
  assert.deepEqual(await run(["health", "--address", address]), {
    code: 1,
    out: "",
    err: '{"ready":false,"reasons":["no lease"]}\n',
  });
  ready = true;
  assert.equal((await run(["health", "--address", address])).code, 0);
  assert.equal((await run(["health"], { METRICS_ADDRESS: `:${process.port}` })).code, 0, "a wildcard listen address");
});

test("health --live checks only that the process is alive", async () => {
  await using process = await serve((request, response) => {
    response.writeHead(request.url === "/healthz" ? 200 : 503).end("OK\n");
  });
  const address = `127.0.0.1:${process.port}`;
  assert.equal((await run(["health", "--address", address, "--live"])).code, 0);
  assert.equal((await run(["health", "--address", address])).code, 1);
  assert.equal((await run(["health", "--url", `http://${address}/healthz`])).code, 0);
});

test("health exits 1 if nothing listens or the server does not answer", async () => {
  const closed = await run(["health", "--address", `127.0.0.1:${await freePort()}`]);
  assert.equal(closed.code, 1);
  assert.match(closed.err, /does not answer: connect ECONNREFUSED/);
  await using silent = await serve(() => {});
  assert.equal((await run(["health", "--address", `127.0.0.1:${silent.port}`, "--timeout", "1s"])).code, 1);
});

test("a redirect does not count as healthy", async () => {
  await using redirecting = await serve((_request, response) => response.writeHead(302, { location: "/" }).end());
  assert.equal((await run(["health", "--address", `127.0.0.1:${redirecting.port}`])).code, 1);
});

test("health exits 2 on wrong usage", async () => {
  assert.equal((await run(["health", "--timeout", "soon"])).code, 2);
  assert.equal((await run(["health", "--url", "nonsense"])).code, 2);
  assert.equal((await run(["health", "now"])).code, 2);
});

test("the general help lists the health command", async () => {
  const { out } = await run(["--help"]);
  assert.match(out, /cardea health/);
  assert.match(out, /cardea run/);
});
