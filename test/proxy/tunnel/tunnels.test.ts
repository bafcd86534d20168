/** TCP and UDP routes on real sockets: access, ends and cuts in both directions, and hostile callers. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { tunnelAudience } from "../../../src/auth/index.ts";
import type { RouteConfig, TunnelConfig } from "../../../src/config/index.ts";
import { CapsuleReader, datagramCapsule } from "../../../src/proxy/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { engOnly, groupChanged, type Rig, routeTo, sessionRevoked, signedIn, startRig } from "../support.ts";

const cleanUps: (() => unknown)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

function tunnelTo(
  port: number,
  kind: TunnelConfig["kind"],
  parts: Partial<RouteConfig> & { at?: string } = {},
): RouteConfig {
  const [host = "", targetPort] = (parts.at ?? "db.localhost:5432").split(":");
  return {
    ...routeTo(port, { host, id: `${kind}-${host}` }),
    tunnel: { kind, targets: [{ host, port: Number(targetPort) }], behindProxy: false },
    to: [{ url: new URL(`${kind}://127.0.0.1:${port}`), weight: null }],
    idleTimeoutMs: 0,
    ...parts,
  };
}

type Service = Readonly<{ port: number; sockets: Socket[]; server: Server }>;
async function service(onSocket: (socket: Socket) => void): Promise<Service> {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    onSocket(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets, server };
}
const echo = (socket: Socket): void => void socket.pipe(socket);

async function rigFor(...routes: RouteConfig[]): Promise<Rig> {
  const rig = await startRig(routes);
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  cleanUps.push(() => rig.close());
  return rig;
}

/** The exact bytes that pomerium-cli (Go's net/http) sends. */
const goConnect = (target: string, token: string | null): string =>
  `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\nUser-Agent: Go-http-client/1.1\r\n${token === null ? "" : `Authorization: Pomerium ${token}\r\n`}\r\n`;
const goConnectUdp = (target: string, token: string): string =>
  `GET /.well-known/masque/udp/${target.replace(":", "/")}/ HTTP/1.1\r\nHost: ${target}\r\nUser-Agent: Go-http-client/1.1\r\nAuthorization: Pomerium ${token}\r\nCapsule-Protocol: ?1\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\r\n`;

type Dialled = Readonly<{ socket: Socket; status: number; head: string; read(bytes: number): Promise<Buffer> }>;
async function dial(rig: Rig, request: string): Promise<Dialled> {
  const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
  socket.on("error", () => {});
  let seen = Buffer.alloc(0);
  let ended = false;
  socket.on("data", (chunk: Buffer) => {
    seen = Buffer.concat([seen, chunk]);
  });
  socket.on("close", () => {
    ended = true;
  });
  socket.write(request, "latin1");
  const end = await waitFor("a response", () => {
    const at = seen.indexOf("\r\n\r\n");
    return at >= 0 ? at : ended ? -1 : undefined;
  });
  const head = seen.subarray(0, Math.max(0, end)).toString("latin1");
  seen = seen.subarray(end + 4);
  return {
    socket,
    head,
    status: Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1] ?? 0),
    async read(bytes) {
      await waitFor(`${bytes} bytes`, () => seen.length >= bytes);
      const piece = seen.subarray(0, bytes);
      seen = seen.subarray(bytes);
      return piece;
    },
  };
}

/** @returns whether the connection was reset rather than closed in an orderly way */
function closed(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => void socket.once("close", resolve));
}

test("a command-line handle opens every tunnel and no HTTP route; a handle of another host opens nothing", async () => {
  const db = await service(echo);
  const sshRoute = tunnelTo(db.port, "tcp", { at: "ssh.internal:22", host: "proxy.localhost" });
  const udp = createSocket("udp4");
  udp.bind(0, "127.0.0.1");
  await once(udp, "listening");
  cleanUps.push(() => udp.close());
  const rig = await rigFor(
    tunnelTo(db.port, "tcp"),
    { ...sshRoute, tunnel: { kind: "tcp", targets: [{ host: "ssh.internal", port: 22 }], behindProxy: true } },
    tunnelTo(udp.address().port, "udp", { at: "dns.localhost:53" }),
    routeTo(db.port),
  );
  const statusOf = async (request: string): Promise<number> => {
    const { socket, status } = await dial(rig, request);
    socket.destroy();
    return status;
  };
  const [commandLine, cookie] = [`s1@app.localhost,${tunnelAudience}`, "s1@elsewhere.localhost"];
  for (const target of ["db.localhost:5432", "ssh.internal:22"]) {
    assert.equal(await statusOf(goConnect(target, commandLine)), 200, target);
    assert.equal(await statusOf(goConnect(target, cookie)), 401, target);
  }
  assert.equal(await statusOf(goConnectUdp("dns.localhost:53", commandLine)), 200);
  assert.equal(await statusOf(goConnectUdp("dns.localhost:53", cookie)), 401);
  const tunnelsOnly = { authorization: `Pomerium s1@elsewhere.localhost,${tunnelAudience}` };
  assert.equal((await rig.request({ headers: tunnelsOnly })).status, 401);
});

describe("a TCP route", () => {
  test("connects a permitted pomerium-cli, and counts and records the exchange", async () => {
    const db = await service(echo);
    const rig = await rigFor(tunnelTo(db.port, "tcp"));
    const tunnel = await dial(rig, goConnect("db.localhost:5432", "s1"));
    assert.equal(tunnel.status, 200);
    assert.doesNotMatch(tunnel.head, /content-length|transfer-encoding/i);
    tunnel.socket.write("hello");
    assert.equal((await tunnel.read(5)).toString(), "hello");
    assert.equal(rig.proxy.stats().exchanges.tcp, 1);
    assert.match(await rig.metrics(), /cardea_proxy_exchanges\{kind="tcp"\} 1/);
    assert.deepEqual(
      rig.records.map(({ result, host, method }) => [result, host, method]),
      [["permit", "db.localhost:5432", "CONNECT"]],
    );
    tunnel.socket.destroy();
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.tcp === 0);
  });

  test("bytes sent right after the request, before the response, arrive first", async () => {
    const db = await service(echo);
    const rig = await rigFor(tunnelTo(db.port, "tcp"));
    const tunnel = await dial(rig, `${goConnect("db.localhost:5432", "s1")}early`);
    assert.equal((await tunnel.read(5)).toString(), "early");
    tunnel.socket.destroy();
  });

  test("302 without a credential, 401 with a stale one, 403 without permission, 503 when the target is unreachable", async () => {
    const db = await service(echo);
    const rig = await rigFor(tunnelTo(db.port, "tcp", engOnly));
    // Old pomerium-cli needs a redirect to know that sign-in is required. It does not follow it.
    const stranger = await dial(rig, goConnect("db.localhost:5432", null));
    assert.equal(stranger.status, 302);
    assert.match(stranger.head, /\r\nlocation: http:\/\/authenticate\.localhost\/\.pomerium\/sign_in\?/i);
    const json = goConnect("db.localhost:5432", null).replace("\r\n\r\n", "\r\nAccept: application/json\r\n\r\n");
    assert.equal((await dial(rig, json)).status, 401);
    assert.equal((await dial(rig, goConnect("db.localhost:5432", "s9"))).status, 401);
    assert.equal((await dial(rig, goConnect("db.localhost:5432", "s2"))).status, 403);
    assert.equal((await dial(rig, goConnect("db.localhost:5432", "s1"))).status, 200);
    assert.equal(db.sockets.length, 1);
    db.server.close();
    for (const socket of db.sockets) socket.destroy();
    assert.equal((await dial(rig, goConnect("db.localhost:5432", "s1"))).status, 503);
  });

  test("a half-close is forwarded in either direction, and the other direction stays open", async () => {
    const db = await service((socket) => {
      let all = "";
      socket.on("data", (chunk) => {
        all += chunk;
      });
      socket.on("end", () => socket.end(`read ${all.length}`));
    });
    const rig = await rigFor(tunnelTo(db.port, "tcp"));
    const tunnel = await dial(rig, goConnect("db.localhost:5432", "s1"));
    tunnel.socket.end("x".repeat(200_000));
    assert.equal((await tunnel.read(11)).toString(), "read 200000");
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.tcp === 0);
  });

  test("a reset on one side resets the other", async () => {
    const db = await service((socket) => socket.write("begun"));
    const rig = await rigFor(tunnelTo(db.port, "tcp"));
    const tunnel = await dial(rig, goConnect("db.localhost:5432", "s1"));
    await tunnel.read(5);
    const failed = closed(tunnel.socket);
    db.sockets[0]?.resetAndDestroy();
    assert.equal(await failed, true);
  });

  test("a revocation cuts it, even when the caller does not read and much data is buffered", async (t) => {
    const db = await service((socket) => {
      const more = (): void => {
        while (!socket.destroyed && socket.write(Buffer.alloc(65_536))) {}
      };
      socket.on("drain", more);
      more();
    });
    const rig = await rigFor(
      tunnelTo(db.port, "tcp"),
      tunnelTo(db.port, "tcp", { at: "other.localhost:1", id: "other" }),
    );
    const socket = connect(rig.port, "127.0.0.1");
    socket.on("error", () => {});
    socket.write(goConnect("db.localhost:5432", "s1"));
    const another = await dial(rig, goConnect("other.localhost:1", "s2"));
    await waitFor("both tunnels to be open", () => rig.proxy.stats().exchanges.tcp === 2);
    socket.pause();
    const took = await rig.apply(sessionRevoked(1));
    t.diagnostic(`cut in ${took.toFixed(1)} ms`);
    assert.equal(rig.proxy.stats().exchanges.tcp <= 2, true);
    await waitFor("the upstream's socket to close", () => db.sockets.some(({ destroyed }) => destroyed));
    await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.tcp === 1);
    assert.equal(another.socket.destroyed, false, "another person's tunnel continues");
    another.socket.destroy();
    socket.destroy();
  });

  test("ends at its lifetime, at its idle timeout, and when the lease expires", async () => {
    const db = await service(echo);
    const rig = await rigFor(
      tunnelTo(db.port, "tcp", { at: "short.localhost:1", maxStreamLifetimeMs: 300 }),
      tunnelTo(db.port, "tcp", { at: "silent.localhost:1", idleTimeoutMs: 300 }),
      tunnelTo(db.port, "tcp", { at: "deny.localhost:1", onStale: "deny", staleGraceMs: 0 }),
    );
    for (const target of ["short.localhost:1", "silent.localhost:1"]) {
      const tunnel = await dial(rig, goConnect(target, "s1"));
      assert.equal(tunnel.status, 200);
      assert.equal(await closed(tunnel.socket), true);
    }
    const tunnel = await dial(rig, goConnect("deny.localhost:1", "s1"));
    rig.lease.overdueMs = 1;
    tunnel.socket.write("no byte of this is forwarded");
    assert.equal(await closed(tunnel.socket), true);
    assert.equal(db.sockets.at(-1)?.bytesRead, 0);
  });

  test("over HTTP/2, a CONNECT is a separate stream", async () => {
    const db = await service(echo);
    const rig = await rigFor(tunnelTo(db.port, "tcp"));
    const session = connectHttp2(`http://127.0.0.1:${rig.port}`);
    const stream = session.request({
      ":method": "CONNECT",
      ":authority": "db.localhost:5432",
      authorization: "Pomerium s1",
    });
    const [headers] = (await once(stream, "response")) as [Record<string, unknown>];
    assert.equal(headers[":status"], 200);
    stream.write("hello");
    const [chunk] = (await once(stream, "data")) as [Buffer];
    assert.equal(chunk.toString(), "hello");
    const closed = once(stream, "close");
    stream.on("error", () => {});
    await rig.apply(sessionRevoked(1));
    await closed;
    session.destroy();
  });

  test("200 MB are forwarded each way with flat memory", async (t) => {
    const total = 200 * 1_048_576;
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    /** Counts the memory in use, not garbage that a busy machine has not collected yet. */
    const held = (): number => {
      if (process.memoryUsage().arrayBuffers > 64 * 1_048_576) collect();
      return process.memoryUsage().arrayBuffers;
    };
    const block = Buffer.alloc(262_144);
    const db = await service((socket) => {
      let left = total;
      const more = (): void => {
        while (left > 0) {
          const size = Math.min(left, 262_144);
          left -= size;
          if (!socket.write(block.subarray(0, size))) return;
        }
        socket.end();
      };
      socket.on("drain", more);
      socket.resume();
      more();
    });
    const rig = await rigFor(tunnelTo(db.port, "tcp"));
    const socket = connect({ port: rig.port, host: "127.0.0.1", allowHalfOpen: true });
    let received = 0;
    let most = 0;
    socket.on("data", (chunk) => {
      received += chunk.length;
      most = Math.max(most, held());
    });
    socket.write(goConnect("db.localhost:5432", "s1"));
    let sent = 0;
    const more = (): void => {
      while (sent < total) {
        sent += 262_144;
        if (!socket.write(block)) return;
      }
      socket.end();
    };
    socket.on("drain", more);
    await once(socket, "data");
    more();
    await once(socket, "close");
    assert.ok(received >= total);
    // The caller's end closes before the kernels and the proxy have forwarded the last bytes.
    await waitFor("the service to receive everything", () => db.sockets[0]?.readableEnded, { withinMs: 30_000 });
    assert.equal(db.sockets[0]?.bytesRead, total);
    t.diagnostic(`at most ${Math.round(most / 1_048_576)} MB in buffers, sender, proxy, service and reader together`);
    assert.ok(most < 100 * 1_048_576);
  });
});

test("an upstream that does not read slows the caller down", async (t) => {
  const db = await service((socket) => socket.pause());
  const rig = await rigFor(tunnelTo(db.port, "tcp"));
  const tunnel = await dial(rig, goConnect("db.localhost:5432", "s1"));
  const block = Buffer.alloc(65_536);
  let [accepted, before] = [0, -1];
  await waitFor("the caller to stall", async () => {
    before = accepted;
    while (accepted < 268_435_456 && tunnel.socket.write(block, () => (accepted += block.length))) {}
    await new Promise((resolve) => setTimeout(resolve, 200));
    return accepted === before && accepted > 0;
  });
  t.diagnostic(`${Math.round(accepted / 1_024)} KB were accepted before that`);
  assert.ok(accepted < 64 * 1_048_576);
  db.sockets[0]?.destroy();
  await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.tcp === 0);
});

describe("a target without a route", () => {
  for (const target of [
    "127.0.0.1:22",
    "169.254.169.254:80",
    "[::1]:22",
    "db.localhost:22",
    "localhost:5432",
    "authenticate.localhost:80",
    "0x7f.1:22",
  ])
    test(target, async () => {
      const db = await service(echo);
      const rig = await rigFor(tunnelTo(db.port, "tcp"), routeTo(db.port));
      assert.equal((await dial(rig, goConnect(target, "s1"))).status, 404);
      assert.equal(db.sockets.length, 0);
      assert.equal(rig.proxy.stats().exchanges.tcp, 0);
    });
  test("is refused even on a host with an HTTP route, and no HTTP request reaches a tunnel", async () => {
    const db = await service(echo);
    const rig = await rigFor(tunnelTo(db.port, "tcp"), routeTo(db.port));
    assert.equal((await dial(rig, goConnect("app.localhost:80", "s1"))).status, 404);
    assert.equal((await rig.request({ host: "db.localhost", session: 1 })).status, 404);
    assert.equal((await rig.request({ host: "db.localhost:5432", session: 1 })).status, 404);
    assert.equal(db.sockets.length, 0);
  });
  test("is refused with a huge head too", async () => {
    const rig = await rigFor(tunnelTo(1, "tcp"));
    const head = `CONNECT db.localhost:5432 HTTP/1.1\r\nHost: db.localhost:5432\r\nX: ${"x".repeat(200_000)}\r\n\r\n`;
    assert.equal((await dial(rig, head)).status, 431);
  });
});

describe("a UDP route", () => {
  async function udpEcho(): Promise<Readonly<{ port: number; received: Buffer[] }>> {
    const socket = createSocket("udp4");
    const received: Buffer[] = [];
    socket.on("message", (payload, from) => {
      received.push(payload);
      socket.send(payload, from.port, from.address);
    });
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    cleanUps.push(() => {
      socket.close();
    });
    return { port: socket.address().port, received };
  }

  test("carries datagrams of every size, empty ones too, for pomerium-cli's 200 and an RFC client's 101", async () => {
    const dns = await udpEcho();
    const rig = await rigFor(tunnelTo(dns.port, "udp", { at: "dns.localhost:53" }));
    const cli = goConnectUdp("dns.localhost:53", "s1");
    for (const [request, status] of [
      [cli, 200],
      [cli.replace("Host: dns.localhost:53", "Host: dns.localhost"), 101],
    ] as const) {
      const tunnel = await dial(rig, request);
      assert.equal(tunnel.status, status, tunnel.head);
      assert.match(tunnel.head, /^Capsule-Protocol: \?1$/im);
      for (const size of [0, 1, 62, 63, 1_200, 16_382, 16_384, 60_000]) {
        const payload = Buffer.alloc(size, size % 251);
        const capsule = datagramCapsule(payload);
        tunnel.socket.write(capsule);
        assert.ok((await tunnel.read(capsule.length)).equals(capsule), String(size));
      }
      assert.equal(rig.proxy.stats().exchanges.udp, 1);
      tunnel.socket.destroy();
      await waitFor("the exchange to end", () => rig.proxy.stats().exchanges.udp === 0);
    }
  });

  test("is cut when the session is revoked", async () => {
    const dns = await udpEcho();
    const rig = await rigFor(tunnelTo(dns.port, "udp", { at: "dns.localhost:53" }));
    const tunnel = await dial(rig, goConnectUdp("dns.localhost:53", "s1"));
    const cut = closed(tunnel.socket);
    await rig.apply(sessionRevoked(1));
    assert.equal(await cut, true);
  });

  test("ends with the lease on a deny route", async () => {
    const dns = await udpEcho();
    const route = tunnelTo(dns.port, "udp", { at: "dns.localhost:53", onStale: "deny", staleGraceMs: 0 });
    const rig = await rigFor(route);
    const tunnel = await dial(rig, goConnectUdp("dns.localhost:53", "s1"));
    const cut = closed(tunnel.socket);
    rig.lease.overdueMs = 1;
    assert.equal(await cut, true, "even when idle");
  });

  test("ends at a malformed capsule, and ignores unknown capsule types", async () => {
    const dns = await udpEcho();
    const rig = await rigFor(tunnelTo(dns.port, "udp", { at: "dns.localhost:53" }));
    for (const bytes of [
      [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
      [0x00, 0x00],
      [0x00, 0x01, 0x40],
      [0x17, 0xc0, 0, 0, 1, 0, 0, 0, 0],
    ]) {
      const tunnel = await dial(rig, goConnectUdp("dns.localhost:53", "s1"));
      const cut = closed(tunnel.socket);
      tunnel.socket.write(Buffer.from(bytes));
      await cut;
    }
    const tunnel = await dial(rig, goConnectUdp("dns.localhost:53", "s1"));
    const good = datagramCapsule(Buffer.from("good"));
    tunnel.socket.write(Buffer.concat([Buffer.from([0x21, 0x02, 1, 2, 0x00, 0x02, 0x02, 7]), good]));
    assert.ok((await tunnel.read(good.length)).equals(good));
    assert.deepEqual(dns.received.map(String), ["good"]);
    tunnel.socket.destroy();
  });

  test("refuses targets that it does not name", async () => {
    const dns = await udpEcho();
    const rig = await rigFor(tunnelTo(dns.port, "udp", { at: "dns.localhost:53" }));
    for (const target of ["127.0.0.1:53", "169.254.169.254:80", "dns.localhost:54"])
      assert.equal((await dial(rig, goConnectUdp(target, "s1"))).status, 404, target);
    const elsewhere = goConnectUdp("dns.localhost:53", "s1").replace("Host: dns.localhost:53", "Host: app.localhost");
    assert.equal((await dial(rig, elsewhere)).status, 404);
    for (const path of [
      "/",
      "/.well-known/masque/udp/dns.localhost/0/",
      "/.well-known/masque/udp/dns.localhost/53/x",
      "/.well-known/masque/tcp/dns.localhost/53/",
    ]) {
      const request = goConnectUdp("dns.localhost:53", "s1").replace("/.well-known/masque/udp/dns.localhost/53/", path);
      assert.equal((await dial(rig, request)).status, 400, path);
    }
    const old = goConnectUdp("dns.localhost:53", "s1").replace("HTTP/1.1", "HTTP/1.0");
    assert.equal((await dial(rig, old)).status, 400, "HTTP/1.0 cannot be upgraded");
    assert.equal(dns.received.length, 0);
  });
});

test("capsules are parsed the same, however they are split", () => {
  const payloads = [0, 1, 61, 62, 63, 16_381, 16_383, 65_000].map((size) => Buffer.alloc(size, size % 251));
  const stream = Buffer.concat(payloads.map(datagramCapsule));
  for (const step of [1, 2, 3, 7, 1_000, stream.length]) {
    const read: Buffer[] = [];
    const reader = new CapsuleReader((payload) => read.push(payload));
    for (let at = 0; at < stream.length; at += step) reader.take(stream.subarray(at, at + step));
    assert.deepEqual(read, payloads, String(step));
  }
});
