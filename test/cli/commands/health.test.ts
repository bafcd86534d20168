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

test("ready is 0, not ready is 1 with the reasons", async () => {
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
  assert.equal((await run(["health"], { METRICS_ADDRESS: `:${process.port}` })).code, 0, "listening everywhere");
});

test("--live asks whether the process lives, whatever it is ready for", async () => {
  await using process = await serve((request, response) => {
    response.writeHead(request.url === "/healthz" ? 200 : 503).end("OK\n");
  });
  const address = `127.0.0.1:${process.port}`;
  assert.equal((await run(["health", "--address", address, "--live"])).code, 0);
  assert.equal((await run(["health", "--address", address])).code, 1);
  assert.equal((await run(["health", "--url", `http://${address}/healthz`])).code, 0);
});

test("nobody there, or silence, is 1", async () => {
  const nobody = await run(["health", "--address", `127.0.0.1:${await freePort()}`]);
  assert.equal(nobody.code, 1);
  assert.match(nobody.err, /does not answer: connect ECONNREFUSED/);
  await using silent = await serve(() => {});
  assert.equal((await run(["health", "--address", `127.0.0.1:${silent.port}`, "--timeout", "1s"])).code, 1);
});

test("a redirect is no health", async () => {
  await using elsewhere = await serve((_request, response) => response.writeHead(302, { location: "/" }).end());
  assert.equal((await run(["health", "--address", `127.0.0.1:${elsewhere.port}`])).code, 1);
});

test("wrong use is 2", async () => {
  assert.equal((await run(["health", "--timeout", "soon"])).code, 2);
  assert.equal((await run(["health", "--url", "nonsense"])).code, 2);
  assert.equal((await run(["health", "now"])).code, 2);
});

test("the help of the whole program names health, too", async () => {
  const { out } = await run(["--help"]);
  assert.match(out, /cardea health/);
  assert.match(out, /cardea run/);
});
