/** Handler listener: one host with one handler and no proxy, with the proxy's TLS and strictness. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { after, before, test } from "node:test";
import { connect } from "node:tls";
import type { Config } from "../../../src/config/index.ts";
import { type HandlerListener, startHandlerListener } from "../../../src/proxy/listen/handler-listener.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { Authority } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import { sendRaw } from "../support.ts";

let root: Authority;
let [tls, plain]: [HandlerListener?, HandlerListener?] = [];
const refused: string[] = [];
before(async () => {
  root = await Authority.root();
  const certificates = [
    await root.issue({ hosts: ["other.example"] }),
    await root.issue({ hosts: ["sign-in.example"] }),
  ];
  const start = (parts: Partial<Config>): Promise<HandlerListener> =>
    startHandlerListener(
      () => ({
        ...{ address: { host: "127.0.0.1", port: 0 }, insecureServer: false, certificates, codecType: "auto" },
        ...{ http2Connections: "cardea", tlsSessionTickets: "shared" },
        ...{ useProxyProtocol: false, routes: [], xffNumTrustedHops: 0, drainDelayMs: 0, drainTimeoutMs: 100 },
        ...{ sharedSecret: new Uint8Array(32).fill(7), authenticateServiceUrl: new URL("https://sign-in.example") },
        timeouts: { readMs: 10_000, readLimit: "request", writeMs: 0, idleMs: 10_000 },
        downstreamMtls: {
          ...{ ca: null, crl: null, enforcement: "policy_with_default_deny" as const },
          ...{ matchSubjectAltNames: [], maxVerifyDepth: 1 },
        },
        ...parts,
      }),
      {
        ...{
          site: () => new URL("https://sign-in.example"),
          requestId: () => "id",
          render: () => ({ html: "", headers: {} }),
          clock: systemClock,
        },
        ...{ acme: null, onRefused: (code) => void refused.push(code), onConnectionFailure() {} },
        handle: (req, res, { ip, origin }) => res.end(`${req.url} ${ip} ${origin}`),
      },
    );
  tls = await start({});
  plain = await start({ insecureServer: true, useProxyProtocol: true });
});
after(async () => {
  await tls?.close();
  await plain?.close();
});
const portOf = (listener: HandlerListener | undefined): number => listener?.address.port ?? 0;

test("it presents the certificate of its name, and serves both protocols", async () => {
  const socket = connect({ port: portOf(tls), host: "127.0.0.1", servername: "sign-in.example", ca: root.pem });
  socket.write("GET /a?b HTTP/1.1\r\nHost: sign-in.example\r\nConnection: close\r\n\r\n");
  let text = "";
  socket.on("data", (bytes) => {
    text += String(bytes);
  });
  await waitFor("the response", () => text.endsWith("/a?b 127.0.0.1 https://sign-in.example") || socket.destroyed);
  assert.match(text, /^HTTP\/1\.1 200 /);
  socket.destroy();
  const session = connectHttp2(`https://127.0.0.1:${portOf(tls)}`, { ca: root.pem, servername: "sign-in.example" });
  const statuses: number[] = [];
  for (const host of ["sign-in.example", "other.example"]) {
    const [headers] = await once(session.request({ ":authority": host, ":path": "/" }), "response");
    statuses.push(Number(headers[":status"]));
  }
  session.destroy();
  assert.deepEqual(statuses, [200, 421]);
});

test("behind a balancer the caller is the address in the PROXY header, and a malformed header is refused", async () => {
  const from = "PROXY TCP4 192.0.2.9 10.0.0.1 1 80\r\n";
  const send = (text: string): Promise<string> => sendRaw(portOf(plain), text, 20_000);
  const head = "HTTP/1.1\r\nHost: sign-in.example\r\nConnection: close\r\n";
  assert.match(await send(`${from}GET / ${head}\r\n`), /192\.0\.2\.9/);
  assert.match(await send(`${from}GET /healthz HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n\r\n`), / 200 /);
  assert.match(await send(`${from}GET /a%2fb ${head}\r\n`), /^HTTP\/1\.1 400 /);
  assert.match(
    await send(`${from}GET / HTTP/1.1\r\nHost: sign-in.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n`),
    /^HTTP\/1\.1 (?:400|200) /,
  );
  assert.equal(await send(`GET / ${head}\r\n`), "");
  assert.ok(refused.includes("proxy-protocol-bad"));
});

test("it closes within its time limit, whatever is open", async () => {
  const socket = connect({ port: portOf(tls), host: "127.0.0.1", servername: "sign-in.example", ca: root.pem });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  socket.write("POST / HTTP/1.1\r\nHost: sign-in.example\r\nContent-Length: 10\r\n\r\n1");
  await once(socket, "data");
  await tls?.close();
  socket.resume();
  await waitFor("the connection to close", () => socket.destroyed);
});
