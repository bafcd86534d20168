/**
 * A rolling restart of two proxies behind a balancer that checks `/readyz`, under load: no request fails.
 *
 * Each proxy and broker is a real process. The balancer forwards TCP, so callers see exactly what the proxies did.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { Agent, createServer, get, type IncomingMessage } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { WebSocket, WebSocketServer } from "ws";
import { TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { isReady, type Member, startMember } from "../support/member.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 60_000 };
const callers = 8;
const checkEveryMs = 100;
const secret = Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7 + 3)).toString("base64");

/** Starts a balancer that gives new connections, in turn, to the members that were ready at the last check. */
async function startBalancer(t: TestContext, members: readonly Member[]): Promise<number> {
  let ready: readonly Member[] = members;
  let turn = 0;
  const sockets = new Set<Socket>();
  const server = createTcpServer({ allowHalfOpen: true }, (caller) => {
    const chosen = ready[turn++ % ready.length];
    const upstream = connect({ port: chosen?.port ?? 0, host: "127.0.0.1", allowHalfOpen: true });
    for (const [one, other] of [
      [caller, upstream],
      [upstream, caller],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => sockets.delete(one));
      one.pipe(other);
    }
  });
  let stopped = false;
  const checking = (async () => {
    while (!stopped) {
      const answers = await Promise.all(members.map(isReady));
      ready = members.filter((_, i) => answers[i]);
      await delay(checkEveryMs);
    }
  })();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(async () => {
    stopped = true;
    for (const socket of sockets) socket.destroy();
    server.close();
    await checking;
  });
  return (server.address() as AddressInfo).port;
}

test("during a rolling restart of two proxies under load no request fails, and streams get the drain time-out", async (t) => {
  using folder = new TemporaryFolder("rolling");
  const upstream = createServer((_req, res) => setTimeout(() => res.end("upstream"), 20));
  new WebSocketServer({ server: upstream }).on("connection", (socket) => socket.on("error", () => {}));
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  t.after(() => {
    upstream.closeAllConnections();
    upstream.close();
  });
  const [broker = 0, brokerMetrics = 0, one = 0, oneMetrics = 0, two = 0, twoMetrics = 0] = await freePorts(6);
  const member = (name: string, port: number, metrics: number, more: object): Member => {
    const config = join(folder.path, `${name}.yaml`);
    const common = {
      node_name: name,
      authenticate_service_url: "http://authenticate.localhost",
      insecure_server: true,
      metrics_address: `127.0.0.1:${metrics}`,
      data_dir: join(folder.path, name),
      shared_secret: secret,
      cookie_secret: secret,
      drain_delay: "2s",
      drain_timeout: "3s",
      ...more,
    };
    writeFileSync(config, JSON.stringify(common), { mode: 0o600 });
    return { name, port, metrics, config, child: undefined };
  };
  const proxied = (port: number): object => ({
    services: "proxy",
    address: `127.0.0.1:${port}`,
    authenticate_internal_service_url: "http://127.0.0.1:1",
    idp_provider: "oidc",
    idp_provider_url: "http://idp.localhost:1",
    idp_client_id: "cardea",
    broker: { urls: [`http://127.0.0.1:${broker}`] },
    routes: [
      {
        from: "http://app.localhost",
        to: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
        allow_public_unauthenticated_access: true,
        allow_websockets: true,
      },
    ],
  });
  const databroker = member("broker", 0, brokerMetrics, {
    services: "databroker",
    broker: { listen: `127.0.0.1:${broker}` },
    idp_provider: "oidc",
    idp_provider_url: "http://idp.localhost:1",
    idp_client_id: "cardea",
    idp_client_secret: "secret",
  });
  const proxies = [member("one", one, oneMetrics, proxied(one)), member("two", two, twoMetrics, proxied(two))];
  const start = (node: Member): Promise<void> => startMember(node, join(folder.path, `${node.name}.log`));
  t.after(() => Promise.all([databroker, ...proxies].map(({ child }) => child?.kill())));
  await start(databroker);
  await Promise.all(proxies.map(start));
  const port = await startBalancer(t, proxies);

  const headers = { host: "app.localhost" };
  const failures: string[] = [];
  let answered = 0;
  let stop = false;
  t.after(() => {
    stop = true;
  });
  const load = Array.from({ length: callers }, async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    while (!stop) {
      try {
        const [res] = (await once(get({ host: "127.0.0.1", port, headers, agent }), "response")) as [IncomingMessage];
        const body = Buffer.concat(await res.toArray()).toString();
        if (res.statusCode === 200 && body === "upstream") answered++;
        else failures.push(`${res.statusCode} ${body.slice(0, 200)}`);
      } catch (error) {
        failures.push(String(error));
      }
    }
    agent.destroy();
  });

  for (const proxy of proxies) {
    const before = answered;
    await waitFor("requests to be answered", () => answered > before + 50, patience);
    const stream = new WebSocket(`ws://127.0.0.1:${proxy.port}/`, { headers });
    await once(stream, "open");
    const closed = once(stream, "close");
    const ended = proxy.child?.end("SIGTERM", { withinMs: 60_000 });
    await waitFor("the proxy to report that it is not ready", async () => !(await isReady(proxy)), patience);
    assert.equal(stream.readyState, WebSocket.OPEN);
    assert.equal((await closed)[0], 1001);
    assert.equal((await ended)?.code, 0);
    await start(proxy);
  }
  stop = true;
  await Promise.all(load);

  // A process that the machine paused permits nothing for a moment. That is intended, and not what this test checks.
  const paused = proxies.some(({ child }) => child?.log().includes("did not run"));
  assert.deepEqual(
    failures.filter((failure) => !(paused && failure.startsWith("503 "))),
    [],
  );
});
