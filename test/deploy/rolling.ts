/**
 * Rolling restart: two proxies that are restarted one after the other behind a real balancer, and callers that count
 * failures over HTTP/1.1 with persistent connections, HTTP/2 and gRPC.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
  createServer as createHttp2Server,
  type ServerHttp2Stream,
} from "node:http2";
import { Agent, request } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { connect as connectTls } from "node:tls";
import type { TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { startHaproxy } from "../support/haproxy.ts";
import { isReady, type Member, startMember } from "../support/member.ts";
import { Authority } from "../support/pki.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 60_000 };
const secret = Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7 + 3)).toString("base64");
const hosts = ["app.example", "grpc.example"] as const;

export type Pair = Readonly<{
  proxies: readonly Member[];
  start(of: Member): Promise<void>;
  /** The port of the balancer. */
  port: number;
  ca: string;
}>;

/** @param more further keys of the proxies' configuration */
export async function startPair(
  t: TestContext,
  folder: TemporaryFolder,
  { balancer, more }: Readonly<{ balancer: string; more: object }>,
): Promise<Pair> {
  const [plain, grpc] = [await startPlain(t), await startGrpc(t)];
  const authority = await Authority.root();
  const server = await authority.issue({ hosts });
  const files = {
    ca: join(folder.path, "ca.pem"),
    cert: join(folder.path, "cert.pem"),
    key: join(folder.path, "key.pem"),
  };
  writeFileSync(files.ca, authority.pem);
  writeFileSync(files.cert, server.cert);
  writeFileSync(files.key, server.key, { mode: 0o600 });
  writeFileSync(join(folder.path, "both.pem"), server.cert + server.key, { mode: 0o600 });
  const [broker = 0, brokerMetrics = 0, one = 0, oneMetrics = 0, two = 0, twoMetrics = 0, port = 0] =
    await freePorts(7);

  const member = (name: string, at: number, metrics: number, keys: object): Member => {
    const config = join(folder.path, `${name}.yaml`);
    const common = {
      ...{ node_name: name, data_dir: join(folder.path, name), metrics_address: `127.0.0.1:${metrics}` },
      ...{ authenticate_service_url: "https://authenticate.example", shared_secret: secret, cookie_secret: secret },
      ...{ idp_provider: "oidc", idp_provider_url: "https://idp.example", idp_client_id: "cardea" },
      ...{ drain_delay: "2s", drain_timeout: "3s", ...keys },
    };
    writeFileSync(config, JSON.stringify(common), { mode: 0o600 });
    return { name, port: at, metrics, config, child: undefined };
  };
  const [app, grpcHost] = hosts;
  const proxied = (name: string, at: number, metrics: number): Member =>
    member(name, at, metrics, {
      ...{ services: "proxy", address: `127.0.0.1:${at}`, broker: { urls: [`http://127.0.0.1:${broker}`] } },
      authenticate_internal_service_url: "http://127.0.0.1:1",
      certificates: [{ cert: files.cert, key: files.key }],
      routes: [
        { from: `https://${app}`, to: `http://127.0.0.1:${plain}`, allow_public_unauthenticated_access: true },
        { from: `https://${grpcHost}`, to: `h2c://127.0.0.1:${grpc}`, allow_public_unauthenticated_access: true },
      ],
      ...more,
    });
  const databroker = member("broker", 0, brokerMetrics, {
    ...{ services: "databroker", broker: { listen: `127.0.0.1:${broker}` }, idp_client_secret: "secret" },
  });
  const proxies = [proxied("one", one, oneMetrics), proxied("two", two, twoMetrics)];

  const start = (of: Member): Promise<void> => startMember(of, join(folder.path, `${of.name}.log`));
  t.after(() => Promise.all([databroker, ...proxies].map(({ child }) => child?.kill())));
  await start(databroker);
  await Promise.all(proxies.map(start));
  const haproxy = await startHaproxy(new URL(`../../deploy/load-balancer/${balancer}`, import.meta.url).pathname, {
    port,
    logFile: join(folder.path, "haproxy.log"),
    env: {
      ...{ CERTIFICATE: join(folder.path, "both.pem"), PROXY_CA: files.ca, PROXY_NAME: app },
      ...{ PROXY_1: `127.0.0.1:${one}`, PROXY_2: `127.0.0.1:${two}` },
      ...{ READY_1: String(oneMetrics), READY_2: String(twoMetrics) },
    },
  });
  t.after(() => haproxy.kill());
  return { proxies, start, port, ca: authority.pem };
}

async function startPlain(t: TestContext): Promise<number> {
  const server = createServer((req, res) => {
    let bytes = 0;
    req.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    req.on("end", () => setTimeout(() => res.end(`${req.method} ${bytes}`), 20));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Answers every call with one empty message and status 0. */
async function startGrpc(t: TestContext): Promise<number> {
  const sessions = new Set<{ destroy(): void }>();
  const server = createHttp2Server();
  server.on("session", (session) => sessions.add(session));
  server.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => {});
    stream.resume();
    stream.on("end", () =>
      setTimeout(() => {
        if (stream.destroyed) return;
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        stream.end(Buffer.alloc(5));
      }, 20),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

// --- callers

export type Load = {
  answered: Record<"http1" | "http2" | "grpc", number>;
  /** Requests that the other side refused unprocessed, and that were sent again on another connection. */
  moved: number;
  readonly failures: string[];
  stop(): Promise<void>;
};

const callersOfEach = 4;
/** Longer than any response takes that still arrives. */
const answerMsMax = 20_000;

export function startLoad(t: TestContext, { port, ca }: Pick<Pair, "port" | "ca">): Load {
  let stopped = false;
  const callers: Promise<void>[] = [];
  const load: Load = {
    answered: { http1: 0, http2: 0, grpc: 0 },
    moved: 0,
    failures: [],
    async stop() {
      stopped = true;
      await Promise.all(callers);
    },
  };
  const [app, grpcHost] = hosts;
  const until = async (ask: () => Promise<void>, end: () => void, kind: string): Promise<void> => {
    while (!stopped) {
      await ask().catch((error: unknown) => void load.failures.push(`${kind}: ${error}`));
      await new Promise((resolve) => setImmediate(resolve)); // yields, because a failure may take no time at all
    }
    end();
  };
  const at = { host: "127.0.0.1", port, servername: app, ca };
  const started = Array.from({ length: callersOfEach }, (_, i) => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const overHttp1 = async (): Promise<void> => {
      const method = i % 2 === 0 ? "GET" : "POST";
      const signal = AbortSignal.timeout(answerMsMax);
      const call = request({ ...at, agent, method, signal, headers: { host: app } });
      call.end(method === "POST" ? "body" : "");
      const [res] = await once(call, "response");
      const body = Buffer.concat(await res.toArray()).toString();
      if (res.statusCode === 200 && body === `${method} ${method === "POST" ? 4 : 0}`) load.answered.http1++;
      else load.failures.push(`http1: ${res.statusCode} ${body.slice(0, 200)}`);
    };
    const [two, rpc] = [new Http2Caller({ ...at, host: app }), new Http2Caller({ ...at, host: grpcHost })];
    const overHttp2 = async (): Promise<void> => {
      const method = i % 2 === 0 ? "GET" : "POST";
      const answer = await two.ask({ ":method": method, ":path": "/" }, method === "POST" ? "body" : "", load);
      if (answer.status === 200 && answer.body === `${method} ${method === "POST" ? 4 : 0}`) load.answered.http2++;
      else load.failures.push(`http2: ${answer.status} ${answer.body.slice(0, 200)}`);
    };
    const overGrpc = async (): Promise<void> => {
      const headers = { ":method": "POST", ":path": "/s/m", "content-type": "application/grpc", te: "trailers" };
      const answer = await rpc.ask(headers, Buffer.alloc(5), load);
      if (answer.status === 200 && answer.grpcStatus === "0") load.answered.grpc++;
      else load.failures.push(`grpc: ${answer.status} ${answer.grpcStatus} ${answer.body.slice(0, 200)}`);
    };
    return [
      until(overHttp1, () => agent.destroy(), "http1"),
      until(overHttp2, () => two.close(), "http2"),
      until(overGrpc, () => rpc.close(), "grpc"),
    ];
  }).flat();
  callers.push(...started);
  t.after(() => load.stop());
  return load;
}

type Answer = Readonly<{ status: number; body: string; grpcStatus: string }>;

/**
 * Keeps one connection and obeys GOAWAY: a request that the other side refused unprocessed is sent again on another
 * connection (RFC 9113 §6.8, §8.7).
 */
class Http2Caller {
  #session: ClientHttp2Session | undefined;
  readonly #at: Readonly<{ host: string; port: number; servername: string; ca: string }>;
  constructor(at: Readonly<{ host: string; port: number; servername: string; ca: string }>) {
    this.#at = at;
  }

  async ask(headers: Record<string, string>, body: string | Buffer, load: { moved: number }): Promise<Answer> {
    for (;;) {
      const stream = (await this.#current()).request({ ":authority": this.#at.host, ":scheme": "https", ...headers });
      try {
        return await answerOf(stream, body);
      } catch (error) {
        if (stream.rstCode !== constants.NGHTTP2_REFUSED_STREAM) throw error;
        load.moved++;
      }
    }
  }

  async #current(): Promise<ClientHttp2Session> {
    if (this.#session !== undefined && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const { port, servername, ca } = this.#at;
    const socket = connectTls({ host: "127.0.0.1", port, servername, ca, ALPNProtocols: ["h2"] });
    await once(socket, "secureConnect");
    const session = connectHttp2(`https://${servername}`, { createConnection: () => socket });
    session.on("error", () => {});
    session.on("goaway", () => {
      if (this.#session === session) this.#session = undefined;
    });
    await once(session, "remoteSettings");
    this.#session = session;
    return session;
  }

  close(): void {
    this.#session?.destroy();
  }
}

async function answerOf(stream: ClientHttp2Stream, body: string | Buffer): Promise<Answer> {
  let [status, grpcStatus] = [0, ""];
  stream.on("response", (headers) => {
    status = Number(headers[":status"]);
    grpcStatus = String(headers["grpc-status"] ?? "");
  });
  stream.on("trailers", (trailers) => {
    grpcStatus = String(trailers["grpc-status"] ?? "");
  });
  stream.setTimeout(answerMsMax, () => stream.close(constants.NGHTTP2_CANCEL));
  if (body.length > 0) stream.end(body); // a GET has no body to send
  const received = Buffer.concat(await stream.toArray()).toString();
  if (status === 0) throw new Error(`no response, code ${stream.rstCode}`);
  return { status, body: received, grpcStatus };
}

/** Restarts each proxy in turn under load. */
export async function restartAll({ proxies, start }: Pair, load: Load): Promise<void> {
  const responsesOfAll = (more: number): Promise<boolean> => {
    const before = { ...load.answered };
    return waitFor(
      "each kind of caller to get responses",
      () => (["http1", "http2", "grpc"] as const).every((kind) => load.answered[kind] >= before[kind] + more),
      patience,
    ).catch((error: unknown) => {
      throw new Error(`${JSON.stringify(load.answered)} ${load.failures.slice(0, 5).join("\n")}`, { cause: error });
    });
  };
  for (const proxy of proxies) {
    await responsesOfAll(30);
    const ended = proxy.child?.end("SIGTERM", { withinMs: 60_000 });
    await waitFor("the proxy to report that it is not ready", async () => !(await isReady(proxy)), patience);
    await responsesOfAll(30);
    assert.equal((await ended)?.code, 0);
    await responsesOfAll(30);
    await start(proxy);
  }
  await responsesOfAll(30);
}

/**
 * The failures, without those that are expected after a process got no CPU for a while. It then permits nothing for a
 * moment, as promised; that is not under test here.
 */
export function unexpected({ proxies }: Pair, { failures }: Load): readonly string[] {
  const paused = proxies.some(({ child }) => child?.log().includes("did not run"));
  return failures.filter((failure) => !(paused && /: 503 |: 200 14/.test(failure)));
}
