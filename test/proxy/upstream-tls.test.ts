/** What an upstream's TLS may ask of us, with OpenSSL's own server behind the proxy. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { freePort } from "../support/free-port.ts";
import { waitFor } from "../support/wait-for.ts";
import { type Answered, open, type Rig, routeTo, startRig } from "./support.ts";

const folder = mkdtempSync(join(tmpdir(), "cardea-upstream-tls-"));
const cleanUps: (() => Promise<void> | void)[] = [() => rmSync(folder, { recursive: true, force: true })];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
execFileSync(
  "openssl",
  ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"].concat([
    ...["-subj", "/CN=upstream.localhost", "-addext", "subjectAltName=DNS:upstream.localhost"],
    ...["-keyout", key, "-out", cert],
  ]),
  { stdio: "ignore" },
);

type OpensslServer = Readonly<{ port: number; process: ChildProcess; said: () => string }>;

/** What is written to it is sent; a line `r` asks the client for a new handshake. */
async function startOpenssl(): Promise<OpensslServer> {
  const port = await freePort();
  const flags = ["-accept", `127.0.0.1:${port}`, "-cert", cert, "-key", key, "-tls1_2", "-crlf", "-naccept", "1"];
  const process = spawn("openssl", ["s_server", ...flags], { stdio: ["pipe", "pipe", "pipe"] });
  let said = "";
  for (const stream of [process.stdout, process.stderr])
    stream.on("data", (chunk: Buffer) => {
      said += chunk.toString("latin1");
    });
  process.stdin.on("error", () => {});
  cleanUps.push(() => void process.kill());
  await waitFor("OpenSSL to listen", () => said.includes("ACCEPT"));
  return { port, process, said: () => said };
}

async function startProxyTo(port: number, allowRenegotiation: boolean): Promise<Rig> {
  const tls = { skipVerify: false, serverName: null, clientCert: null, clientKey: null };
  const to = [{ url: new URL(`https://upstream.localhost:${port}`), weight: null }];
  const customCa = readFileSync(cert, "utf8");
  const rig = await startRig([routeTo(0, { ...open, to, tls: { ...tls, customCa, allowRenegotiation } })]);
  cleanUps.push(() => rig.close());
  return rig;
}

describe("an upstream that asks for a new handshake within the connection", () => {
  async function renegotiate(allowed: boolean): Promise<Answered> {
    const server = await startOpenssl();
    const rig = await startProxyTo(server.port, allowed);
    const answered = rig.ask({});
    await waitFor("the request to arrive", () => server.said().includes("GET / HTTP/1.1"));
    server.process.stdin?.write("r\n");
    await waitFor("the new handshake to be over", () => /SSL_do_handshake -> |no renegotiation/.test(server.said()));
    server.process.stdin?.write("HTTP/1.1 200 OK\nContent-Length: 2\n\nok");
    server.process.stdin?.end();
    return answered;
  }
  test("is refused: 502", async () => assert.equal((await renegotiate(false)).status, 502));
  test("gets it where the route says so", async () => {
    const answer = await renegotiate(true);
    assert.deepEqual([answer.status, answer.body], [200, "ok"]);
  });
});
