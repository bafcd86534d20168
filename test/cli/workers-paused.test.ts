/**
 * A paused worker: a receipt names it until it is fenced, and when it resumes it permits none of the requests that it
 * received meanwhile, from any caller. Everything is real. Leases are short, so the window is a few seconds.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import type { CommandId } from "../../src/events/index.ts";
import type { Receipt } from "../../src/replication/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient, type Role } from "../../src/replication/wire/index.ts";
import { createSession, loadConfigFile } from "../integration/cluster/cluster.ts";
import { TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { waitFor } from "../support/wait-for.ts";
import { startWithWorkers } from "./workers-process.ts";

const patience = { withinMs: 90_000 };
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const secret = Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7 + 3)).toString("base64");
const issuer = "http://idp.localhost:1";

/** One kept-alive connection; statuses are in the order of the requests. */
class KeptConnection {
  readonly statuses: number[] = [];
  readonly #socket: Socket;
  readonly #host: string;
  constructor(port: number, host: string) {
    this.#host = host;
    this.#socket = connect(port, "127.0.0.1");
    this.#socket.on("error", () => {});
    this.#socket.setEncoding("latin1");
    this.#socket.on("data", (text: string) => {
      for (const [, status] of text.matchAll(/HTTP\/1\.1 (\d{3}) /g)) this.statuses.push(Number(status));
    });
  }
  send(path: string, cookie: string): void {
    this.#socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${this.#host}\r\nAccept: application/json\r\nCookie: ${cookie}\r\n\r\n`,
    );
  }
  close(): void {
    this.#socket.destroy();
  }
}

test("a stopped worker is unconfirmed in the receipt, then fenced, and permits nothing between resuming and its next grant", async (t) => {
  using folder = new TemporaryFolder("paused");
  const arrived: string[] = [];
  const upstream = createServer((req, res) => {
    arrived.push(req.url ?? "");
    res.end("upstream");
  });
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  t.after(() => {
    upstream.closeAllConnections();
    upstream.close();
  });
  const [port = 0, metrics = 0, broker = 0] = await freePorts(3);
  const configFile = join(folder.path, "cardea.yaml");
  const host = `app.localhost:${port}`;
  const written = {
    ...{ authenticate_service_url: `http://authenticate.localhost:${port}`, address: `127.0.0.1:${port}` },
    ...{ insecure_server: true, metrics_address: `127.0.0.1:${metrics}`, node_name: "node", workers: 2 },
    ...{ data_dir: join(folder.path, "data"), shared_secret: secret, cookie_secret: secret },
    ...{ idp_provider: "oidc", idp_provider_url: issuer, idp_client_id: "cardea", idp_client_secret: "secret" },
    ...{ drain_delay: "0s", drain_timeout: "1s" },
    broker: { listen: `127.0.0.1:${broker}`, lease: "2s", renew: "500ms", beat: "100ms", takeover: "1500ms" },
    routes: [
      {
        ...{ from: `http://${host}`, to: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}` },
        ...{ allow_any_authenticated_user: true, on_stale: "serve", stale_grace: "2s" },
      },
    ],
  };
  writeFileSync(configFile, JSON.stringify(written), { mode: 0o600 });
  const { child, bothServe } = await startWithWorkers(t, { folder, configFile, metrics });
  await waitFor("both workers to be ready", bothServe, patience);
  const started = child
    .log()
    .split("\n")
    .filter((line) => line.startsWith("{") && line.includes('"started"'))
    .map((line) => JSON.parse(line) as { worker?: string; pid: number; node: string })
    .find(({ worker }) => worker === "1");
  assert.ok(started !== undefined, child.log());
  const { pid, node } = started;

  const config = loadConfigFile(configFile);
  const client = (role: Role) => {
    const created = createBrokerClient({
      ...{
        urls: [new URL(`http://127.0.0.1:${broker}`)],
        cluster: config.broker.clusterName,
        role,
        name: "test",
        tlsCa: null,
      },
      ...{ secret: config.sharedSecret, clock: systemClock, randomBytes, logger: quiet },
    });
    t.after(() => created.close());
    return created;
  };
  const operator = client("operator");
  const sessionFor = (user: string) => createSession(user, [], { config, client: client("authenticate"), issuer });
  const [revoked, kept] = [await sessionFor("alice"), await sessionFor("bob")];
  const statusOf = (receipt: Receipt, name: string) =>
    receipt.nodes.filter((one) => one.node === name).map((one) => one.status);

  /** Number of requests that the worker to be stopped has answered. */
  const answeredThere = async (): Promise<number> => {
    const page = await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
    const samples = page.matchAll(/^cardea_proxy_requests_total\{worker="1",[^}]*\} (\d+)$/gm);
    return [...samples].reduce((sum, [, count]) => sum + Number(count), 0);
  };
  const held: Record<"revoked" | "kept", KeptConnection[]> = { revoked: [], kept: [] };
  const elsewhere: KeptConnection[] = [];
  t.after(() => {
    for (const one of [...held.revoked, ...held.kept, ...elsewhere]) one.close();
  });
  for (let i = 0; i < 40 && (held.revoked.length < 2 || held.kept.length < 2 || elsewhere.length === 0); i++) {
    const [before, one] = [await answeredThere(), new KeptConnection(port, host)];
    const who = held.revoked.length < 2 ? "revoked" : "kept";
    one.send("/before", { revoked, kept }[who].cookie);
    await waitFor("a response", () => one.statuses.length === 1, patience);
    assert.deepEqual(one.statuses.splice(0), [200]);
    ((await answeredThere()) > before ? held[who] : elsewhere).push(one);
  }
  const waiting = [...held.revoked, ...held.kept];
  assert.ok(held.revoked.length === 2 && held.kept.length === 2 && elsewhere.length > 0, "each worker has connections");

  process.kill(pid, "SIGSTOP");
  t.after(() => {
    try {
      process.kill(pid, "SIGCONT");
    } catch {
      // it has exited
    }
  });
  for (const one of held.revoked) one.send("/revoked", revoked.cookie);
  for (const one of held.kept) one.send("/kept", kept.cookie);
  for (const one of elsewhere) one.send("/other", kept.cookie);
  await waitFor("the other worker to answer", () => elsewhere.every(({ statuses }) => statuses.length === 1), patience);
  for (const { statuses } of elsewhere) assert.deepEqual(statuses, [200]);
  assert.ok(waiting.every(({ statuses }) => statuses.length === 0));
  const arrivedBefore = arrived.length;

  const command = { type: "revokeSession", sessionId: revoked.id, reason: "operator" } as Parameters<
    typeof operator.submit
  >[0]["command"];
  const result = await operator.submit({ commandId: randomUUID() as CommandId, actor: "operator:test", command });
  assert.equal(result.type, "done");
  const link = result.type === "done" ? result.link : assert.fail();
  const early = await operator.receipt({ type: "link", link }, { wait: "all", timeoutMs: 500 });
  assert.equal(early.complete, false);
  assert.deepEqual(statusOf(early, node), ["unconfirmed"]);
  const late = await operator.receipt({ type: "link", link }, { wait: "all", timeoutMs: 60_000 });
  assert.equal(late.complete, true);
  assert.deepEqual(statusOf(late, node), ["fenced"]);
  assert.deepEqual(statusOf(late, node.replace(/1$/, "2")), ["applied"]);

  process.kill(pid, "SIGCONT");
  await waitFor(
    "the waiting requests to be answered",
    () => waiting.every(({ statuses }) => statuses.length > 0),
    patience,
  );
  for (const { statuses } of waiting) assert.deepEqual(statuses, [503], "the worker has no lease yet");
  assert.equal(arrived.length, arrivedBefore, "none of them reached the upstream");
  const [again] = held.kept;
  await waitFor(
    "the session that was not revoked to be served again",
    async () => {
      const expected = (again?.statuses.length ?? 0) + 1;
      again?.send("/after", kept.cookie);
      await waitFor("a response", () => again?.statuses.length === expected, patience);
      return again?.statuses.at(-1) === 200;
    },
    patience,
  );
  const [revokedConnection] = held.revoked;
  revokedConnection?.send("/gone", revoked.cookie);
  await waitFor("a response", () => revokedConnection?.statuses.length === 2, patience);
  assert.equal(revokedConnection?.statuses.at(-1), 401);
  assert.ok(!arrived.includes("/gone"));
  await waitFor(
    "the worker to confirm",
    async () => {
      const receipt = await operator.receipt({ type: "link", link }, { wait: "all", timeoutMs: 1_000 });
      return statusOf(receipt, node)[0] === "applied";
    },
    patience,
  );
});
