/** The gateway to an authenticate service in another process: how it verifies the service, and what it forwards. */
import assert from "node:assert/strict";
import { createServer as createHttpServer, request } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { test } from "node:test";
import { createGateway } from "../../../src/proxy/request/gateway-client.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { certificate } from "../../config/support.ts";

type Answer = Readonly<{ status: number; body: string }>;

/**
 * A service with a certificate for these names, reached at `localhost`, behind a gateway that trusts the certificate.
 */
async function start(t: TestContext, names: readonly string[]) {
  const pair = certificate(names);
  const service = createHttpsServer({ cert: pair.cert, key: pair.key }, (req, res) => {
    res.end(JSON.stringify({ url: req.url, ...req.headers }));
  });
  await new Promise<void>((resolve) => service.listen(0, "127.0.0.1", resolve));
  const gateway = await createGateway({
    upstream: new URL(`https://localhost:${(service.address() as AddressInfo).port}`),
    config: { certificateAuthority: pair.cert, setResponseHeaders: {} },
    clock: systemClock,
    render: (page) => ({ html: JSON.stringify(page), headers: {} }),
  });
  const front = createHttpServer((req, res) =>
    gateway.handle(req, res, {
      origin: "https://authenticate.example.com",
      hostname: "authenticate.example.com",
      requestId: "r-1",
      ip: "192.0.2.1",
    }),
  );
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  t.after(async () => {
    front.closeAllConnections();
    front.close();
    await gateway.close();
    service.closeAllConnections();
    service.close();
  });
  return (path: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const options = { port: (front.address() as AddressInfo).port, path, agent: false as const };
      const req = request({ ...options, headers: { host: "authenticate.example.com", ...headers } }, (res) => {
        let body = "";
        res.on("data", (chunk: Buffer) => {
          body += chunk.toString();
        });
        res.on("end", () => resolve({ status: res.statusCode ?? 0, body }));
      });
      req.on("error", reject).end();
    });
}

test("the service is verified by the name in its URL, and gets the caller's Host header", async (t) => {
  const send = await start(t, ["localhost"]);
  const { status, body } = await send("/oauth2/callback?code=x", { "x-forwarded-for": "198.51.100.9" });
  assert.equal(status, 200);
  const seen = JSON.parse(body) as Record<string, string>;
  assert.equal(seen["url"], "/oauth2/callback?code=x");
  assert.equal(seen["host"], "authenticate.example.com");
  assert.equal(seen["x-forwarded-for"], "192.0.2.1", "the caller's claim is not forwarded");
});

test("a certificate for the public host is not valid for the service: nothing is sent", async (t) => {
  const send = await start(t, ["authenticate.example.com"]);
  assert.equal((await send("/")).status, 503);
});

test("the databroker API is never reachable through it", async (t) => {
  const send = await start(t, ["localhost"]);
  for (const path of ["/v1", "/v1/commands"]) assert.equal((await send(path)).status, 404);
});
