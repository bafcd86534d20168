/**
 * The requests of pomerium-cli, byte for byte, against a real `cardea dev`.
 *
 * They cover the login by a browser, TCP by CONNECT, UDP by CONNECT-UDP over HTTP/1.1, the list of routes, and the
 * check of a Kubernetes credential (docs/pomerium-behaviour.md §4). The tool uses Go's `net/http`; no package with the
 * tool itself can be installed here.
 */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { Visitor } from "../support/visitor.ts";
import { waitFor } from "../support/wait-for.ts";
import { startDev } from "./support.ts";

const root = new URL("../../", import.meta.url).pathname;
const patience = { withinMs: 30_000 };

type Reply = Readonly<{ status: number; head: string; socket: Socket; rest: () => Buffer }>;

/** Like Go's `http.ReadResponse`: reads a head, and then what follows it. */
async function sendRequest(t: TestContext, port: number, request: string): Promise<Reply> {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  let seen = Buffer.alloc(0);
  socket.on("data", (chunk: Buffer) => {
    seen = Buffer.concat([seen, chunk]);
  });
  socket.write(request, "latin1");
  const end = await waitFor(
    "a head",
    () => (seen.includes("\r\n\r\n") ? seen.indexOf("\r\n\r\n") : undefined),
    patience,
  );
  const head = seen.subarray(0, end).toString("latin1");
  return { head, socket, status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(head)?.[1]), rest: () => seen.subarray(end + 4) };
}

/** The order of `(*Request).Write`: Host, User-Agent, then the rest by name. */
const goRequest = (line: string, host: string, headers: Readonly<Record<string, string>>): string =>
  [`${line} HTTP/1.1`, `Host: ${host}`, "User-Agent: Go-http-client/1.1"]
    .concat(Object.entries(headers).map(([name, value]) => `${name}: ${value}`))
    .concat("", "")
    .join("\r\n");
const goConnect = (target: string, jwt: string | null): string =>
  goRequest(`CONNECT ${target}`, target, jwt === null ? {} : { Authorization: `Pomerium ${jwt}` });
const goGet = (path: string, host: string, headers: Readonly<Record<string, string>> = {}): string =>
  goRequest(`GET ${path}`, host, { ...headers, "Accept-Encoding": "gzip" });
const goConnectUdp = (host: string, port: number, jwt: string): string =>
  goRequest(`GET /.well-known/masque/udp/${host}/${port}/`, `${host}:${port}`, {
    ...{ Authorization: `Pomerium ${jwt}`, "Capsule-Protocol": "?1", Connection: "Upgrade", Upgrade: "connect-udp" },
  });
/**
 * `http3.WriteCapsule(w, 0, data)`: type and length as QUIC's variable integers, then context id 0 and the datagram.
 */
const capsule = (datagram: string): Buffer =>
  Buffer.concat([Buffer.from([0x00, datagram.length + 1, 0x00]), Buffer.from(datagram)]);

const bodyOf = async ({ socket, rest }: Reply): Promise<string> => {
  await waitFor("the end of the answer", () => socket.closed, patience);
  return rest().toString();
};

test("pomerium-cli signs in, opens TCP and UDP tunnels, lists routes, and gets 401 after its session is revoked", async (t) => {
  using folder = new TemporaryFolder("pomerium-cli");
  const service = createServer((socket) => void socket.on("error", () => {}).pipe(socket));
  service.listen(0, "127.0.0.1");
  await once(service, "listening");
  const datagrams = createSocket("udp4");
  datagrams.on("message", (payload, from) => datagrams.send(payload, from.port, from.address));
  datagrams.bind(0, "127.0.0.1");
  await once(datagrams, "listening");
  t.after(() => {
    service.close();
    datagrams.close();
  });
  const routes = [
    ["tcp", "line.localhost:6379", (service.address() as AddressInfo).port],
    ["udp", "dns.localhost:53", datagrams.address().port],
  ].map(
    ([kind, name, port]) =>
      `  - from: ${kind}+http://${name}\n    to: ${kind}://127.0.0.1:${port}\n    allow_any_authenticated_user: true\n`,
  );
  const config = join(folder.path, "cardea.yaml");
  const base = readFileSync(join(root, "cardea.dev.yaml"), "utf8");
  writeFileSync(config, base.replace(/^routes:\n/m, `routes:\n${routes.join("")}`), { mode: 0o600 });
  const dev = await startDev(t, "-c", config);
  const send = (request: string): Promise<Reply> => sendRequest(t, dev.port, request);

  async function login(host: string): Promise<string> {
    const at = `${host}:${dev.port}`;
    const redirect = "http://127.0.0.1:4711";
    const query = `pomerium_redirect_uri=${encodeURIComponent(redirect)}`;
    const loginReply = await send(goGet(`/.pomerium/api/v1/login?${query}`, at, { Connection: "close" }));
    assert.equal(loginReply.status, 200, loginReply.head);
    const browser = new Visitor();
    t.after(() => browser.close());
    const form = await browser.navigate(await bodyOf(loginReply));
    const back = await browser.navigate(form.url, { form: { user: "alice", password: "x" }, until: redirect });
    return back.location?.searchParams.get("pomerium_jwt") ?? assert.fail(back.body);
  }

  // TCP: the first attempt has no JWT, and a redirect means that a sign-in is required.
  const signedOut = await send(goConnect("line.localhost:6379", null));
  assert.equal(signedOut.status, 302, signedOut.head);
  const jwt = await login("line.localhost");
  const tunnel = await send(goConnect("line.localhost:6379", jwt));
  assert.equal(tunnel.status, 200, tunnel.head);
  assert.doesNotMatch(tunnel.head, /content-length|transfer-encoding/i, "otherwise Go would wait for a body");
  tunnel.socket.write("PING\r\n");
  await waitFor("the echo", () => tunnel.rest().toString() === "PING\r\n", patience);

  const signIn = await waitFor(
    "the record of the sign-in",
    () =>
      readFileSync(join(dev.dataDir, "audit/decisions.jsonl"), "utf8")
        .split("\n")
        .find((line) => line.includes('"createSession"')),
    patience,
  );
  assert.equal(JSON.parse(signIn).ip, "127.0.0.1");

  // UDP: the client accepts only 200 as success.
  const udpJwt = await login("dns.localhost");
  const udp = await send(goConnectUdp("dns.localhost", 53, udpJwt));
  assert.equal(udp.status, 200, udp.head);
  udp.socket.write(capsule("who?"));
  await waitFor("the datagram", () => udp.rest().equals(capsule("who?")), patience);

  // `routes list`, and the request with which `k8s exec-credential` checks a cached credential.
  const bearer = { Accept: "application/json", Authorization: `Bearer Pomerium-${jwt}`, Connection: "close" };
  const listed = await send(goGet("/.pomerium/api/v1/routes", `line.localhost:${dev.port}`, bearer));
  assert.equal(listed.status, 200, listed.head);
  const { routes: list } = JSON.parse(await bodyOf(listed)) as { routes: Record<string, string>[] };
  assert.deepEqual(
    list.filter(({ type }) => type !== "http").map(({ type, from }) => [type, from]),
    [
      ["tcp", "tcp+http://line.localhost:6379"],
      ["udp", "udp+http://dns.localhost:53"],
    ],
  );
  for (const name of ["id", "name", "type", "from", "description", "logo_url"])
    assert.equal(typeof list[0]?.[name], "string", name);
  assert.equal((await send(goGet("/healthz", `line.localhost:${dev.port}`, bearer))).status, 200);

  // A body above the limit of the proxy's own endpoints gets 413, however it is framed, and is never parsed as a
  // request.
  const hidden = `GET /hidden HTTP/1.1\r\nHost: app.localhost:${dev.port}\r\n\r\n`;
  const long = hidden + "x".repeat(100_000);
  for (const [framing, body] of [
    [{ "Content-Length": String(long.length) }, long],
    [{ "Transfer-Encoding": "chunked" }, `${long.length.toString(16)}\r\n${long}\r\n0\r\n\r\n`],
  ] as const) {
    const headers = { ...framing, "Content-Type": "application/x-www-form-urlencoded", Connection: "close" };
    const refused = await send(goRequest("POST /.pomerium/sign_out", `app.localhost:${dev.port}`, headers) + body);
    assert.equal(refused.status, 413, refused.head);
    assert.doesNotMatch(await bodyOf(refused), /HTTP\/1\.1 /, "there is only one answer");
  }

  // The session ends: open tunnels are reset, and a JWT that is no longer valid gets 401.
  const revoked = await dev.cardea("sessions", "revoke", "--user", "alice", "--wait");
  assert.equal(revoked.code, 0, revoked.err);
  await waitFor("both tunnels to be cut", () => tunnel.socket.closed && udp.socket.closed, patience);
  assert.equal((await send(goConnect("line.localhost:6379", jwt))).status, 401);
  assert.equal((await send(goConnectUdp("dns.localhost", 53, udpJwt))).status, 401);
  assert.equal((await send(goGet("/.pomerium/api/v1/routes", `line.localhost:${dev.port}`, bearer))).status, 401);
});
