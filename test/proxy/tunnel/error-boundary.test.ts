/**
 * A throw in the event handlers of an upgrade or a tunnel ends that exchange only, not the process or any other
 * exchange. The tests inject it wherever an exchange checks its lease: when the upstream connects, when the upstream
 * accepts, and before bytes of either side are forwarded.
 */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import type { RouteConfig, TunnelConfig } from "../../../src/config/index.ts";
import { datagramCapsule } from "../../../src/proxy/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { cookieOf, type Rig, routeTo, signedIn, startRig } from "../support.ts";

const kinds = ["upgrade", "tcp", "udp", "onward"] as const;
type Kind = (typeof kinds)[number];

/** Lease checks of an exchange, up to its first bytes each way. The first one is not in an event handler. */
const checksOf: Readonly<Record<Kind, number>> = { upgrade: 5, tcp: 4, udp: 4, onward: 5 };

const cleanUps: (() => unknown)[] = [];
let rig: Rig;
const faults: string[] = [];
/** The number of the lease check in a splice that throws, counted down; 0: none. */
let throwsAt = 0;

async function listening(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  cleanUps.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

function tunnelTo(kind: TunnelConfig["kind"], host: string, to: string): RouteConfig {
  return {
    ...routeTo(0, { host, id: host }),
    tunnel: { kind, targets: [{ host, port: 5_432 }], behindProxy: false },
    to: [{ url: new URL(to), weight: null }],
    idleTimeoutMs: 0,
  };
}

const requests: Readonly<Record<Kind, string>> = {
  upgrade: `GET / HTTP/1.1\r\nHost: upgrade.localhost\r\nCookie: ${cookieOf(1)}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`,
  tcp: "CONNECT tcp.localhost:5432 HTTP/1.1\r\nHost: tcp.localhost:5432\r\nAuthorization: Pomerium s1\r\n\r\n",
  udp: "GET /.well-known/masque/udp/udp.localhost/5432/ HTTP/1.1\r\nHost: udp.localhost:5432\r\nAuthorization: Pomerium s1\r\nConnection: Upgrade\r\nUpgrade: connect-udp\r\n\r\n",
  onward: "CONNECT onward.localhost:5432 HTTP/1.1\r\nHost: onward.localhost:5432\r\nAuthorization: Pomerium s1\r\n\r\n",
};

type Caller = Readonly<{ socket: Socket; received: () => string; closed: () => boolean; send: (text: string) => void }>;
/** Sends hello once the exchange is accepted. */
function call(kind: Kind): Caller {
  const socket = connect(rig.port, "127.0.0.1");
  let received = "";
  let closed = false;
  const send = (text: string): void => void socket.write(kind === "udp" ? datagramCapsule(Buffer.from(text)) : text);
  socket.on("error", () => {});
  socket.on("data", (chunk: Buffer) => {
    const before = received.includes("\r\n\r\n");
    received += chunk.toString("latin1");
    if (!before && /^HTTP\/1\.1 (?:101|200) [\s\S]*\r\n\r\n/.test(received)) send("hello");
  });
  socket.on("close", () => {
    closed = true;
  });
  socket.write(requests[kind]);
  return { socket, received: () => received, closed: () => closed, send };
}

before(async () => {
  const echo = createServer((socket) => void socket.pipe(socket));
  const upgrading = createServer((socket) => {
    socket.once("data", () => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
      socket.pipe(socket);
    });
  });
  const onward = createHttpServer().on("connect", (_req, socket) => {
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    socket.pipe(socket);
  });
  const datagrams = createSocket("udp4");
  datagrams.on("message", (bytes, { port, address }) => datagrams.send(bytes, port, address));
  datagrams.bind(0, "127.0.0.1");
  await once(datagrams, "listening");
  cleanUps.push(() => datagrams.close());
  rig = await startRig(
    [
      routeTo(await listening(upgrading), { host: "upgrade.localhost", allowUpgrades: ["echo"] }),
      tunnelTo("tcp", "tcp.localhost", `tcp://127.0.0.1:${await listening(echo)}`),
      tunnelTo("udp", "udp.localhost", `udp://127.0.0.1:${datagrams.address().port}`),
      tunnelTo("tcp", "onward.localhost", `http://127.0.0.1:${await listening(onward)}`),
    ],
    { deps: { logger: { debug() {}, info() {}, warn() {}, error: (_facts, text) => void faults.push(text) } } },
  );
  cleanUps.push(() => rig.close());
  await rig.apply(signedIn(1));
  Object.defineProperty(rig.lease, "overdueMs", {
    get() {
      if (throwsAt > 0 && /-splice\.ts/.test(new Error("asked").stack ?? "") && --throwsAt === 0)
        throw new Error("injected");
      return -1_000;
    },
  });
});
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const open = (): number => Object.values(rig.proxy.stats().exchanges).reduce((all, some) => all + some, 0);

for (const kind of kinds)
  describe(kind, () => {
    for (let n = 2; n <= checksOf[kind]; n++)
      test(`a throw in lease check ${n} ends only its own exchange`, async () => {
        throwsAt = 0;
        const bystander = call(kind);
        await waitFor("the bystander's echo", () => bystander.received().includes("hello"));
        faults.length = 0;
        throwsAt = n;
        const struck = call(kind);
        await waitFor("the throw", () => throwsAt === 0);
        await waitFor("the exchange to end", () => struck.closed() || /^HTTP\/1\.1 50\d /.test(struck.received()));
        await waitFor("only the bystander to be open", () => open() === 1);
        assert.ok(faults.includes("could not continue an upgraded connection or tunnel"), faults.join());
        bystander.send("again");
        await waitFor("the bystander's next echo", () => bystander.received().includes("again"));
        bystander.socket.destroy();
        struck.socket.destroy();
        await waitFor("all exchanges to end", () => open() === 0);
      });
  });
