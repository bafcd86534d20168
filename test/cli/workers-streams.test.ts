/**
 * Workers and their open streams: a worker has applied a change once its streams of every kind are closed, and a
 * receipt waits for all workers.
 *
 * One real process runs two workers. Upstreams and callers run in this process, so one clock times every byte. Leases
 * have their default length, and the window W is beyond a minute, so a status of "applied" means that the worker
 * enforced the change.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { connect as connectHttp2, createServer as createHttp2, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect, createServer as createTcp } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { CommandId } from "../../src/events/index.ts";
import { datagramCapsule } from "../../src/proxy/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient, type Role } from "../../src/replication/wire/index.ts";
import { createSession, loadConfigFile, type Session } from "../integration/cluster/cluster.ts";
import { newestStamp, stamp, startUpstream, type Upstream } from "../integration/cluster/upstream.ts";
import { type Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { waitFor } from "../support/wait-for.ts";
import { startWithWorkers } from "./workers-process.ts";

const patience = { withinMs: 90_000 };
const quiet = { debug() {}, info() {}, warn() {}, error() {} };
const secret = Buffer.from(Array.from({ length: 32 }, (_, i) => i * 5 + 1)).toString("base64");
const issuer = "http://idp.localhost:1";
const tickMs = 20;

const kinds = ["websocket", "events", "answer", "grpc", "tcp", "udp"] as const;
type Kind = (typeof kinds)[number];
/** The label under which the proxy counts each kind. */
const countedAs: Readonly<Record<Kind, string>> = {
  ...{ websocket: "websocket", events: "http", answer: "http", grpc: "http", tcp: "tcp", udp: "udp" },
};

/** A caller's end of a stream, and what its upstream has received if the stream goes both ways. */
type OpenStream = Readonly<{
  kind: Kind;
  /** Send time of the newest received stamp; 0 means that none has arrived. */
  newest(): number;
  newestAtUpstream(): number;
  ended(): boolean;
  close(): void;
}>;

type Services = Readonly<{
  http: Upstream;
  grpcPort: number;
  tcpPort: number;
  udpPort: number;
  /** The newest stamp that has arrived, by the name of its caller. */
  arrived: ReadonlyMap<string, number>;
}>;

async function startServices(t: TestContext): Promise<Services> {
  const http = await startUpstream();
  t.after(() => http.close());
  const arrived = new Map<string, number>();
  /** Reads a stream that begins with its caller's name and continues with stamps. */
  const listener = (): ((chunk: Buffer) => void) => {
    let name: string | undefined;
    return (chunk) => {
      name ??= /#([\w-]+)#/.exec(chunk.toString("latin1"))?.[1];
      const newest = newestStamp(chunk);
      if (name !== undefined && newest !== undefined) arrived.set(name, newest);
    };
  };
  const grpc = createHttp2().on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.on("data", listener());
    stream.on("error", () => {});
    const timer = setInterval(() => stream.writable && stream.write(grpcMessage(stamp())), tickMs);
    stream.on("close", () => clearInterval(timer));
  });
  const tcp = createTcp((socket) => {
    socket.on("data", listener());
    socket.on("error", () => {});
    const timer = setInterval(() => socket.write(stamp()), tickMs);
    socket.on("close", () => clearInterval(timer));
  });
  for (const server of [grpc, tcp]) {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => void server.close());
  }
  const udp: UdpSocket = createSocket("udp4");
  const peers = new Map<number, ReturnType<typeof listener>>();
  udp.on("message", (message, { port }) => {
    if (!peers.has(port)) peers.set(port, listener());
    peers.get(port)?.(message);
  });
  const timer = setInterval(() => {
    for (const port of peers.keys()) udp.send(stamp(), port, "127.0.0.1");
  }, tickMs);
  udp.on("error", () => {});
  udp.bind(0, "127.0.0.1");
  await once(udp, "listening");
  t.after(() => {
    clearInterval(timer);
    udp.close();
  });
  const portOf = (server: Readonly<{ address(): unknown }>): number => (server.address() as AddressInfo).port;
  return { http, grpcPort: portOf(grpc), tcpPort: portOf(tcp), udpPort: udp.address().port, arrived };
}

function grpcMessage(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, Buffer.from(text, "latin1")]);
}

function open(kind: Kind, port: number, { cookie }: Session, arrived: Services["arrived"]): OpenStream {
  const name = randomUUID();
  return kind === "grpc" ? openGrpc(port, cookie, name, arrived) : openSocket(kind, port, { cookie, name, arrived });
}

const namedStamp = (name: string): string => `#${name}#${stamp()}`;

function openSocket(
  kind: Exclude<Kind, "grpc">,
  port: number,
  { cookie, name, arrived }: Readonly<{ cookie: string; name: string; arrived: Services["arrived"] }>,
): OpenStream {
  const handle = cookie.slice(cookie.indexOf("=") + 1);
  const authorization = `Authorization: Pomerium ${handle}\r\n`;
  const requestOf = (path: string, more = ""): string =>
    `GET ${path} HTTP/1.1\r\nHost: app.localhost:${port}\r\nCookie: ${cookie}\r\n${more}\r\n`;
  const upgrade = (to: string): string => `Connection: Upgrade\r\nUpgrade: ${to}\r\n`;
  const requests: Readonly<Record<typeof kind, string>> = {
    websocket: requestOf(
      "/",
      `${upgrade("websocket")}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n`,
    ),
    events: requestOf("/events", "Accept: text/event-stream\r\n"),
    answer: requestOf("/stream"),
    tcp: `CONNECT tcp.localhost:6379 HTTP/1.1\r\nHost: tcp.localhost:6379\r\n${authorization}\r\n`,
    udp: `GET /.well-known/masque/udp/udp.localhost/53/ HTTP/1.1\r\nHost: udp.localhost:53\r\n${authorization}Capsule-Protocol: ?1\r\n${upgrade("connect-udp")}\r\n`,
  };
  const socket = connect({ port, host: "127.0.0.1" });
  let [head, newest, ended] = ["", 0, false];
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    if (!head.includes("\r\n\r\n")) head += chunk.toString("latin1");
    newest = (kind === "websocket" || kind === "answer" ? newestTick(chunk) : newestStamp(chunk)) ?? newest;
  });
  const timer = setInterval(() => {
    if (!/^HTTP\/1\.1 (?:200|101) /.test(head)) return;
    if (kind === "tcp") socket.write(namedStamp(name));
    if (kind === "udp") socket.write(datagramCapsule(Buffer.from(namedStamp(name), "latin1")));
  }, tickMs);
  socket.on("close", () => {
    clearInterval(timer);
    ended = true;
  });
  socket.write(requests[kind], "latin1");
  return {
    kind,
    newest: () => newest,
    newestAtUpstream: () => arrived.get(name) ?? 0,
    ended: () => ended,
    close: () => void socket.destroy(),
  };
}

/** The newest time in lines or WebSocket messages of the upstream, which contain nothing else. */
function newestTick(chunk: Buffer): number | undefined {
  const last = chunk
    .toString("latin1")
    .match(/\d+\.\d{2,}/g)
    ?.at(-1);
  return last === undefined ? undefined : Number(last);
}

function openGrpc(port: number, cookie: string, name: string, arrived: Services["arrived"]): OpenStream {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on("error", () => {});
  const request = session.request({
    ...{ ":method": "POST", ":path": "/", ":authority": `grpc.localhost:${port}` },
    ...{ "content-type": "application/grpc", te: "trailers", cookie },
  });
  let [newest, ended] = [0, false];
  request.on("data", (chunk: Buffer) => {
    newest = newestStamp(chunk) ?? newest;
  });
  request.on("error", () => {});
  const timer = setInterval(() => {
    if (request.writable) request.write(grpcMessage(namedStamp(name)));
  }, tickMs);
  request.on("close", () => {
    clearInterval(timer);
    ended = true;
  });
  return {
    kind: "grpc",
    newest: () => newest,
    newestAtUpstream: () => arrived.get(name) ?? 0,
    ended: () => ended,
    close: () => session.destroy(),
  };
}

test("a receipt is complete only when streams of every kind are closed in every worker, and other users' streams continue", async (t) => {
  using folder = new TemporaryFolder("workers-streams");
  const services = await startServices(t);
  const [port = 0, metrics = 0, broker = 0] = await freePorts(3);
  const configFile = join(folder.path, "cardea.yaml");
  const route = (from: string, to: string, more = {}) => ({
    ...{ from, to, allow_any_authenticated_user: true, timeout: "0s", idle_timeout: "0s", ...more },
  });
  const written = {
    ...{ authenticate_service_url: `http://authenticate.localhost:${port}`, address: `127.0.0.1:${port}` },
    ...{ insecure_server: true, metrics_address: `127.0.0.1:${metrics}`, node_name: "node", workers: 2 },
    ...{ data_dir: join(folder.path, "data"), shared_secret: secret, cookie_secret: secret },
    ...{ idp_provider: "oidc", idp_provider_url: issuer, idp_client_id: "cardea", idp_client_secret: "secret" },
    ...{ drain_delay: "0s", drain_timeout: "1s", broker: { listen: `127.0.0.1:${broker}` } },
    routes: [
      route(`http://app.localhost:${port}`, `http://127.0.0.1:${services.http.port}`, { allow_websockets: true }),
      route(`http://grpc.localhost:${port}`, `h2c://127.0.0.1:${services.grpcPort}`),
      route("tcp+http://tcp.localhost:6379", `tcp://127.0.0.1:${services.tcpPort}`),
      route("udp+http://udp.localhost:53", `udp://127.0.0.1:${services.udpPort}`),
    ],
  };
  writeFileSync(configFile, JSON.stringify(written), { mode: 0o600 });
  const { child, readMetrics, bothServe } = await startWithWorkers(t, { folder, configFile, metrics });
  await waitFor("both workers to be ready", bothServe, patience);

  const config = loadConfigFile(configFile);
  const client = (role: Role) => {
    const created = createBrokerClient({
      ...{ urls: [new URL(`http://127.0.0.1:${broker}`)], cluster: config.broker.clusterName, role, name: "test" },
      ...{ tlsCa: null, secret: config.sharedSecret, clock: systemClock, randomBytes, logger: quiet },
    });
    t.after(() => created.close());
    return created;
  };
  const operator = client("operator");
  const sessionFor = (user: string) =>
    createSession(user, [], { config, client: client("authenticate"), issuer, routes: ["app", "grpc", "tcp", "udp"] });
  const [revoked, others] = [await sessionFor("alice"), await sessionFor("bob")];

  const held: Record<"revoked" | "others", OpenStream[]> = { revoked: [], others: [] };
  t.after(() => {
    for (const one of [...held.revoked, ...held.others]) one.close();
  });
  const flows = ({ kind, newest, newestAtUpstream }: OpenStream, since = 0): boolean =>
    newest() > since && (!["grpc", "tcp", "udp"].includes(kind) || newestAtUpstream() > since);
  /** Number of open streams of a kind in each worker. */
  const openIn = async (kind: Kind): Promise<number[]> => {
    const page = await readMetrics();
    return ["1", "2"].map((worker) =>
      Number(
        new RegExp(`^cardea_proxy_exchanges\\{worker="${worker}",kind="${countedAs[kind]}"\\} (\\d+)$`, "m").exec(
          page,
        )?.[1],
      ),
    );
  };
  for (const who of ["revoked", "others"] as const)
    for (const kind of kinds) {
      const before = await openIn(kind);
      for (let i = 0; i < 12; i++) {
        const one = open(kind, port, who === "revoked" ? revoked : others, services.arrived);
        held[who].push(one);
        await waitFor(`a ${kind} stream of ${who} to flow`, () => flows(one), patience);
        const now = await openIn(kind);
        if (now.every((count, worker) => count > (before[worker] ?? 0))) break;
        assert.ok(i < 11, `only one worker has ${who} of ${kind}: ${before} and ${now}`);
      }
    }

  const requests = performance.now();
  const done = await operator.submit({
    ...{ commandId: randomUUID() as CommandId, actor: "operator:test" },
    command: { type: "revokeSession", sessionId: revoked.id as never, reason: "operator" },
  });
  const link = done.type === "done" ? done.link : assert.fail(done.type);
  const receipt = await operator.receipt({ type: "link", link }, { wait: "all", timeoutMs: 30_000 });
  const completedAt = performance.now();
  assert.equal(receipt.complete, true);
  const statuses = receipt.nodes.map(({ node, status }) => `${node} ${status}`).sort();
  assert.deepEqual(statuses, ["node-w1 applied", "node-w2 applied"]);
  t.diagnostic(`${held.revoked.length} streams, complete after ${Math.round(completedAt - requests)} ms`);

  await waitFor("all revoked streams to end", () => held.revoked.every((one) => one.ended()), patience);
  const since = performance.now();
  await waitFor("the streams of others to continue", () => held.others.every((one) => flows(one, since)), patience);
  for (const { kind, newest, newestAtUpstream } of held.revoked) {
    assert.ok(newest() < completedAt, `${kind}: received ${newest() - completedAt} ms after the receipt`);
    assert.ok(
      newestAtUpstream() < completedAt,
      `${kind}: arrived ${newestAtUpstream() - completedAt} ms after the receipt`,
    );
  }
  assert.ok(held.others.every((one) => !one.ended()));

  await t.test(
    "a worker that is killed in the middle of a cut ends its streams, and its successor answers for it",
    async () => {
      const [pid = 0] = workerPids(child);
      process.kill(pid, "SIGSTOP"); // it receives the change and can enforce nothing
      const stopped = await operator.submit({
        ...{ commandId: randomUUID() as CommandId, actor: "operator:test" },
        command: { type: "revokeSession", sessionId: others.id as never, reason: "operator" },
      });
      const target = {
        type: "link",
        link: stopped.type === "done" ? stopped.link : assert.fail(stopped.type),
      } as const;
      const early = await operator.receipt(target, { wait: "all", timeoutMs: 500 });
      assert.equal(early.complete, false, "one worker still has its streams");
      process.kill(pid, "SIGKILL");
      await waitFor("all streams to end", () => held.others.every((one) => one.ended()), patience);
      const late = await operator.receipt(target, { wait: "all", timeoutMs: 30_000 });
      const last = performance.now();
      assert.equal(late.complete, true, JSON.stringify(late.nodes));
      assert.ok(
        late.nodes.every(({ status }) => status === "applied"),
        "none counts because its window has passed",
      );
      for (const { kind, newest, newestAtUpstream } of held.others)
        assert.ok(Math.max(newest(), newestAtUpstream()) < last, `${kind}: a byte after the receipt`);
      await waitFor("both workers to be ready again", bothServe, patience);
      const headers = { host: `app.localhost:${port}`, cookie: others.cookie, accept: "application/json" };
      for (let i = 0; i < 4; i++) {
        const request = get({ host: "127.0.0.1", port, path: "/", agent: false, headers });
        const [answer] = (await once(request, "response")) as [IncomingMessage];
        answer.resume();
        assert.equal(answer.statusCode, 401, "a new connection is refused by either worker");
      }
    },
  );
});

function workerPids(parent: Child): readonly number[] {
  const text = readFileSync(`/proc/${parent.pid}/task/${parent.pid}/children`, "latin1");
  return text.split(" ").filter(Boolean).map(Number);
}
