/**
 * A real `cardea run` over TLS: certificates replaced in their files, revocations, the redirect, and a certificate by
 * ACME.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { sendRequest, startUpstream } from "../proxy/support.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { findPebble, startPebble } from "../support/pebble.ts";
import { Authority, type Issued } from "../support/pki.ts";
import { mainFile } from "../support/program.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 60_000, everyMs: 100 };
const host = "app.example";
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

async function start(
  t: TestContext,
  folder: TemporaryFolder,
  ports: Readonly<{ tls: number; http: number }>,
  keys: object,
): Promise<Child> {
  const upstream = await startUpstream();
  t.after(upstream.close);
  const [metrics = 0] = await freePorts(1);
  const file = join(folder.path, "cardea.yaml");
  const config = {
    authenticate_service_url: `https://authenticate.example:${ports.tls}`,
    ...{ address: `127.0.0.1:${ports.tls}`, http_redirect_addr: `127.0.0.1:${ports.http}` },
    ...{ metrics_address: `127.0.0.1:${metrics}`, data_dir: join(folder.path, "data"), node_name: "node-1" },
    ...{ shared_secret: secret(3), cookie_secret: secret(5), drain_delay: "0s", drain_timeout: "1s" },
    ...{ idp_provider: "oidc", idp_provider_url: "https://idp.example:1", idp_client_id: "c", idp_client_secret: "s" },
    routes: [
      {
        ...{ from: `https://${host}:${ports.tls}`, to: `http://127.0.0.1:${upstream.port}` },
        allow_public_unauthenticated_access: true,
      },
    ],
    ...keys,
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  const child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", mainFile, "run", "-c", file],
    logFile: join(folder.path, "log"),
  });
  t.after(() => child.end("SIGTERM"));
  const ready = async (): Promise<boolean> =>
    (await fetch(`http://127.0.0.1:${metrics}/readyz`).catch(() => undefined))?.ok === true;
  await waitFor("the process to be ready", ready, patience).catch((error: unknown) => {
    throw new Error(child.log(), { cause: error });
  });
  return child;
}

function dial(port: number, options: ConnectionOptions): TLSSocket {
  const socket = connect({ port, host: "127.0.0.1", servername: host, ...options });
  socket.on("error", () => {});
  return socket;
}
/** @returns the serial number of the served certificate */
async function servedSerial(port: number, ca: string): Promise<string> {
  const socket = dial(port, { ca });
  await once(socket, "secureConnect");
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber.toLowerCase();
}
async function status(socket: TLSSocket, port: number): Promise<number> {
  socket.write(`GET / HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`);
  const [bytes] = await once(socket, "data");
  return Number(String(bytes).slice(9, 12));
}

test("certificates and revocation lists are reloaded from their files at run time; a mismatched pair is refused with a log message", async (t) => {
  using folder = new TemporaryFolder("tls-process");
  const [tls = 0, http = 0] = await freePorts(2);
  const root = await Authority.root();
  const [first, second] = [
    await root.issue({ hosts: [host, "authenticate.example"] }),
    await root.issue({ hosts: [host, "authenticate.example"] }),
  ];
  const alice = await root.issue({ usage: "client", name: "alice" });
  const [cert, key, crl, ca] = ["cert.pem", "key.pem", "crl.pem", "ca.pem"].map((name) => join(folder.path, name)) as [
    string,
    string,
    string,
    string,
  ];
  const write = (path: string, text: string): void => writeFileSync(path, text, { mode: 0o600 });
  const writePair = (a: Issued, b: Issued): void => {
    write(cert, a.cert);
    write(key, b.key);
  };
  writePair(first, first);
  write(ca, root.pem);
  write(crl, await root.revoking([]));
  const child = await start(
    t,
    folder,
    { tls, http },
    {
      ...{ certificate_file: cert, certificate_key_file: key },
      downstream_mtls: { ca_file: ca, crl_file: crl },
    },
  );
  assert.equal(await servedSerial(tls, root.pem), first.serial);
  const existing = dial(tls, { ca: root.pem, cert: alice.cert, key: alice.key });
  assert.equal(await status(existing, tls), 200);

  const redirected = await sendRequest(http, { host: `${host}:${http}`, path: "/a?b" });
  assert.deepEqual([redirected.status, redirected.headers.location], [301, `https://${host}:${tls}/a?b`]);

  write(cert, second.cert); // the key is still that of the first
  await waitFor("the pair to be refused", () => child.log().includes("is not the key of this certificate"), patience);
  assert.equal(await servedSerial(tls, root.pem), first.serial);
  assert.equal(await status(existing, tls), 200);

  write(key, second.key);
  await waitFor("the second certificate", async () => (await servedSerial(tls, root.pem)) === second.serial, patience);
  assert.equal(await status(existing, tls), 200, "on the existing connection");

  write(crl, await root.revoking([alice.serial]));
  await waitFor("the revocation", async () => (await status(existing, tls)) === 495, patience);
  existing.destroy();
});

test("a certificate by ACME is ordered by HTTP-01 and served", {
  skip: findPebble() === undefined ? "pebble is not installed" : false,
}, async (t) => {
  using folder = new TemporaryFolder("acme-process");
  const [tls = 0, http = 0] = await freePorts(2);
  const pebble = await startPebble({ tls, http });
  t.after(() => pebble.stop());
  const ca = join(folder.path, "ca.pem");
  writeFileSync(ca, pebble.ca);
  const child = await start(
    t,
    folder,
    { tls, http },
    {
      ...{ autocert: true, autocert_ca: pebble.directory.href, autocert_trusted_ca_file: ca },
      broker: { tls_ca_file: ca },
    },
  );
  const issuer = await pebble.issuer();
  await waitFor("the certificate", async () => (await servedSerial(tls, issuer)) !== "", patience).catch(
    (error: unknown) => {
      throw new Error(child.log(), { cause: error });
    },
  );
  const socket = dial(tls, { ca: issuer });
  assert.equal(await status(socket, tls), 200);
  socket.destroy();
});

test("workers share the TLS-ALPN-01 challenges of an authority, and each serves the certificate that one of them obtained", {
  skip: findPebble() === undefined ? "pebble is not installed" : false,
}, async (t) => {
  using folder = new TemporaryFolder("acme-workers");
  const [tls = 0, http = 0, broker = 0] = await freePorts(3);
  const pebble = await startPebble({ tls, http });
  t.after(() => pebble.stop());
  const ca = join(folder.path, "ca.pem");
  writeFileSync(ca, pebble.ca);
  const child = await start(
    t,
    folder,
    { tls, http },
    {
      ...{ autocert: true, autocert_ca: pebble.directory.href, autocert_trusted_ca_file: ca },
      ...{ workers: 2, http_redirect_addr: undefined, broker: { listen: `127.0.0.1:${broker}`, tls_ca_file: ca } },
    },
  );
  const issuer = await pebble.issuer();
  // Connections are distributed in turn, so each worker serves every second one.
  const eachServes = async (): Promise<boolean> => {
    const serials: string[] = [];
    for (let i = 0; i < 4; i++) serials.push(await servedSerial(tls, issuer).catch(() => ""));
    return serials.every((serial) => serial !== "" && serial === serials[0]);
  };
  await waitFor("the certificate", eachServes, patience).catch((error: unknown) => {
    throw new Error(child.log(), { cause: error });
  });
  assert.doesNotMatch(child.log(), /the certificate was not issued/);
});
