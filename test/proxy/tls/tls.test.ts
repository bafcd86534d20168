/** TLS of the listener: the certificate for each name, the permitted protocols, and certificate replacement. */
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { randomBytes, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import { promisify } from "node:util";
import type { DownstreamMtls, RouteConfig } from "../../../src/config/index.ts";
import { CertificateIndex } from "../../../src/proxy/tls/certificate-index.ts";
import { createTlsListener } from "../../../src/proxy/tls/tls-listener.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream } from "../support.ts";

const run = promisify(execFile);
const hasCurl = spawnSync("curl", ["--version"]).status === 0;
const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

let root: Authority;
before(async () => {
  root = await Authority.root();
});

async function startTls(parts: NonNullable<Parameters<typeof startRig>[1]>["config"]): Promise<Rig> {
  const upstream = await startUpstream();
  const rig = await startRig([routeTo(upstream.port, { ...publicAccess, host: "*.example" })], {
    config: { insecureServer: false, ...parts },
  });
  cleanUps.push(upstream.close, () => rig.close());
  return rig;
}

test("without a certificate it presents a self-signed one, with a key derived from the shared secret", async () => {
  const [first, second] = [await startTls({ certificates: [] }), await startTls({ certificates: [] })];
  const other = await startTls({ certificates: [], sharedSecret: new Uint8Array(32).fill(8) });
  const keyOf = async ({ port }: Rig): Promise<string> => {
    const socket = await handshake(port, { rejectUnauthorized: false, servername: "app.example" });
    const shown = socket.getPeerX509Certificate();
    socket.destroy();
    assert.ok(shown !== undefined);
    assert.ok(shown.checkHost("authenticate.localhost"), shown.subjectAltName ?? "no names");
    assert.ok(shown.verify(shown.publicKey), "it is signed with its own key");
    assert.equal(shown.ca, false);
    return shown.publicKey.export({ type: "spki", format: "pem" }).toString();
  };
  assert.equal(await keyOf(first), await keyOf(second));
  assert.notEqual(await keyOf(first), await keyOf(other));
});

async function handshake(port: number, options: ConnectionOptions = {}): Promise<TLSSocket> {
  const socket = connect({ port, host: "127.0.0.1", ca: root.pem, checkServerIdentity: () => undefined, ...options });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  return socket;
}

async function shown(port: number, options: ConnectionOptions): Promise<string> {
  const socket = await handshake(port, options);
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

/** @returns the code of the error */
async function refusal(port: number, options: ConnectionOptions): Promise<string> {
  const socket = connect({ port, host: "127.0.0.1", ca: root.pem, checkServerIdentity: () => undefined, ...options });
  const [error] = (await once(socket, "error")) as [Error & { code: string }];
  return error.code;
}

function get(socket: TLSSocket, host: string): Promise<string> {
  socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  return once(socket, "data").then(([bytes]) => String(bytes).split("\r\n", 1)[0] ?? "");
}

describe("the presented certificate", () => {
  let rig: Rig;
  before(async () => {
    const certificates = [
      await root.issue({ name: "default", hosts: ["default.example"] }),
      await root.issue({ name: "wild", hosts: ["*.wild.example"] }),
      await root.issue({ name: "whole", hosts: ["a.wild.example", "B.Wild.Example"] }),
      await root.issue({ name: "address", addresses: ["127.0.0.1", "2001:db8::1"] }),
    ];
    rig = await startTls({ certificates });
  });

  for (const [servername, expected] of [
    ["default.example", "default"],
    ["x.wild.example", "wild"],
    ["X.WILD.example", "wild"],
    ["a.wild.example", "whole"],
    ["b.wild.example", "whole"],
    ["two.labels.wild.example", "default"],
    ["wild.example", "default"],
    ["unknown.example", "default"],
  ] as const)
    test(`${servername}: ${expected}`, async () => assert.equal(await shown(rig.port, { servername }), expected));

  test("a caller without SNI gets the certificate of the address that it connected to", async () => {
    assert.equal(await shown(rig.port, { servername: "" }), "address");
  });
});

test("an unknown name at an address without a certificate gets the first one", async () => {
  const rig = await startTls({ certificates: [await root.issue({ name: "one", hosts: ["one.example"] })] });
  assert.equal(await shown(rig.port, { servername: "" }), "one");
});

test("of two certificates for one name the first is used, unless it has expired", async () => {
  const day = 86_400_000;
  const now = Date.now();
  const named = async (name: string, notAfter: Date) => {
    const { cert } = await root.issue({ name, hosts: ["a.example"], notBefore: new Date(now - 9 * day), notAfter });
    return { certificate: new X509Certificate(cert), value: name };
  };
  const expired = await named("expired", new Date(now - day));
  const [first, second] = [await named("first", new Date(now + day)), await named("second", new Date(now + 2 * day))];
  assert.equal(new CertificateIndex([expired, first, second], now).byName("a.example"), "first");
  assert.equal(new CertificateIndex([expired], now).byName("a.example."), "expired");
  assert.equal(new CertificateIndex([expired], now).byName("b.example"), undefined);
});

describe("the permitted protocols", () => {
  let pair: Issued;
  before(async () => {
    pair = await root.issue({ hosts: ["a.example"] });
  });
  const servername = "a.example";

  test("HTTP/2 is preferred and HTTP/1.1 accepted; without either in common the handshake fails", async () => {
    const rig = await startTls({ certificates: [pair] });
    const both = await handshake(rig.port, { servername, ALPNProtocols: ["http/1.1", "h2"] });
    assert.equal(both.alpnProtocol, "h2");
    both.destroy();
    const one = await handshake(rig.port, { servername, ALPNProtocols: ["http/1.1"] });
    assert.equal(one.alpnProtocol, "http/1.1");
    assert.equal(await get(one, "a.example"), "HTTP/1.1 200 OK");
    one.destroy();
    assert.match(await refusal(rig.port, { servername, ALPNProtocols: ["smtp"] }), /NO_APPLICATION_PROTOCOL/);
  });

  test("codec_type http1: no HTTP/2, not even by its preface", async () => {
    const rig = await startTls({ certificates: [pair], codecType: "http1" });
    const socket = await handshake(rig.port, { servername, ALPNProtocols: ["h2", "http/1.1"] });
    assert.equal(socket.alpnProtocol, "http/1.1");
    assert.equal(await get(socket, "a.example"), "HTTP/1.1 200 OK");
    socket.destroy();
    const prefaced = await handshake(rig.port, { servername });
    prefaced.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    const [bytes] = await once(prefaced, "data");
    assert.match(String(bytes), /^HTTP\/1\.1 400 /);
    prefaced.destroy();
  });

  test("codec_type http2: only HTTP/2, over TLS and in plaintext", async () => {
    for (const insecureServer of [false, true]) {
      const rig = await startTls({ certificates: [pair], codecType: "http2", insecureServer });
      const scheme = insecureServer ? "http" : "https";
      const session = connectHttp2(`${scheme}://127.0.0.1:${rig.port}`, { ca: root.pem, servername });
      const stream = session.request({ ":authority": "a.example", ":path": "/" });
      const [headers] = await once(stream, "response");
      assert.equal(headers[":status"], 200);
      session.destroy();
      if (insecureServer)
        assert.doesNotMatch(await rig.sendRaw("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), /^HTTP\/1/);
      else
        assert.match(await refusal(rig.port, { servername, ALPNProtocols: ["http/1.1"] }), /NO_APPLICATION_PROTOCOL/);
    }
  });

  test("nothing older than TLS 1.2, and with 1.2 only authenticated ciphers with forward secrecy", async () => {
    const rig = await startTls({ certificates: [pair] });
    const old = { servername, minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "ALL:@SECLEVEL=0" } as const;
    assert.match(await refusal(rig.port, old), /PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/);
    const twelve = await handshake(rig.port, { servername, maxVersion: "TLSv1.2" });
    assert.equal(twelve.getProtocol(), "TLSv1.2");
    twelve.destroy();
    const cbc = { servername, maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-SHA" } as const;
    assert.match(await refusal(rig.port, cbc), /HANDSHAKE_FAILURE/);
  });
});

describe("replacement of certificates while the proxy runs", () => {
  const at = (port: number, parts: Partial<RouteConfig> = {}) => [
    routeTo(port, { ...publicAccess, host: "a.example", ...parts }),
  ];
  const servername = "a.example";

  test("later handshakes get the new certificate; open connections continue, over both protocols", async () => {
    const upstream = await startUpstream();
    const [old, renewed] = [
      await root.issue({ name: "old", hosts: [servername] }),
      await root.issue({ name: "renewed", hosts: [servername] }),
    ];
    const rig = await startRig(at(upstream.port), { config: { certificates: [old], insecureServer: false } });
    cleanUps.push(upstream.close, () => rig.close());
    const open = await handshake(rig.port, { servername, ALPNProtocols: ["http/1.1"] });
    const session = connectHttp2(`https://127.0.0.1:${rig.port}`, { ca: root.pem, servername });
    await once(session, "connect");
    await rig.activate(at(upstream.port), { certificates: [renewed], insecureServer: false });
    assert.equal(await shown(rig.port, { servername }), "renewed");
    assert.equal(await get(open, servername), "HTTP/1.1 200 OK");
    const [headers] = await once(session.request({ ":authority": servername, ":path": "/" }), "response");
    assert.equal(headers[":status"], 200);
    open.destroy();
    session.destroy();
  });

  test("an unusable certificate is refused with the whole configuration, and the old certificate stays", async () => {
    const upstream = await startUpstream();
    const [old, other] = [
      await root.issue({ name: "old", hosts: [servername] }),
      await root.issue({ name: "other", hosts: [servername] }),
    ];
    const rig = await startRig(at(upstream.port), { config: { certificates: [old], insecureServer: false } });
    cleanUps.push(upstream.close, () => rig.close());
    for (const bad of [
      { cert: other.cert, key: old.key },
      { cert: "nothing", key: old.key },
    ])
      await assert.rejects(
        rig.activate(at(upstream.port, { response: { status: 418, body: "" } }), {
          certificates: [other, bad],
          insecureServer: false,
        }),
      );
    assert.equal(await shown(rig.port, { servername }), "old");
    const socket = await handshake(rig.port, { servername });
    assert.equal(await get(socket, servername), "HTTP/1.1 200 OK", "the routes of the previous configuration stay too");
    socket.destroy();
  });

  test("a TLS session is resumed after a reload, but not to stand in for a certificate that was replaced", async () => {
    const [pair, other] = [await root.issue({ hosts: [servername] }), await root.issue({ hosts: [servername] })];
    const rig = await startTls({ certificates: [pair] });
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const session = await sessionFrom(rig.port, { servername, maxVersion });
      const isResumed = (): Promise<boolean> => isReused(rig.port, { servername, maxVersion, session });
      assert.equal(await isResumed(), true);
      await rig.activate([], { certificates: [pair], insecureServer: false });
      assert.equal(await isResumed(), true);
      await rig.activate([], { certificates: [other], insecureServer: false });
      assert.equal(await isResumed(), false);
      await rig.activate([], { certificates: [pair], insecureServer: false });
    }
  });
});

describe("resumed sessions", () => {
  const servername = "app.example";
  const versions = ["TLSv1.2", "TLSv1.3"] as const;

  test("every process of an installation resumes the sessions of the others, whichever certificate they had", async () => {
    const certificates = [
      await root.issue({ name: "default", hosts: ["default.example"] }),
      await root.issue({ name: "app", hosts: [servername] }),
    ];
    const [first, second] = [await startTls({ certificates }), await startTls({ certificates })];
    const stranger = await startTls({ certificates, sharedSecret: new Uint8Array(32).fill(8) });
    const alone = await startTls({ certificates, tlsSessionTickets: "process" });
    for (const maxVersion of versions) {
      const session = await sessionFrom(first.port, { servername, maxVersion });
      assert.equal(await isReused(second.port, { servername, maxVersion, session }), true);
      assert.equal(await isReused(stranger.port, { servername, maxVersion, session }), false);
      assert.equal(await isReused(alone.port, { servername, maxVersion, session }), false);
      const own = await sessionFrom(alone.port, { servername, maxVersion });
      assert.equal(await isReused(alone.port, { servername, maxVersion, session: own }), true);
    }
  });

  test("a key serves for twelve hours, also while nothing is reloaded", async (t) => {
    const certificates = [await root.issue({ hosts: [servername] })];
    let wall = 1_700_000_000_000;
    const sockets = createServer((socket) => {
      socket.on("error", () => {});
      listener.accept(socket);
    });
    const material = {
      certificates,
      clientAuthorities: [],
      protocols: ["http/1.1"],
      ticketSecret: randomBytes(32),
    } as const;
    const listener = createTlsListener(material, {
      onSecure: (socket) => void socket.on("error", () => {}).once("data", () => socket.end("hello")),
      onFailed() {},
      wall: () => wall,
    });
    sockets.listen(0, "127.0.0.1");
    await once(sockets, "listening");
    t.after(() => sockets.close());
    const { port } = sockets.address() as AddressInfo;
    for (const maxVersion of versions) {
      const session = await sessionFrom(port, { servername, maxVersion });
      assert.equal(await isReused(port, { servername, maxVersion, session }), true);
      wall += 12 * 3_600_000;
      assert.equal(await isReused(port, { servername, maxVersion, session }), false);
      const later = await sessionFrom(port, { servername, maxVersion });
      assert.equal(await isReused(port, { servername, maxVersion, session: later }), true);
    }
  });

  test("curl resumes its session over TLS 1.3", { skip: !hasCurl && "no curl" }, async () => {
    const rig = await startTls({ certificates: [await root.issue({ hosts: [servername] })] });
    const url = `https://${servername}:${rig.port}/`;
    const at = ["--resolve", `${servername}:${rig.port}:127.0.0.1`];
    const fullHandshakes = async (...options: string[]): Promise<number> => {
      const twice = [
        "-skv",
        "--http1.1",
        "-H",
        "Connection: close",
        "-w",
        "%{http_code} ",
        ...at,
        ...options,
        url,
        url,
      ];
      const { stdout, stderr } = await run("curl", twice);
      assert.equal(stdout.match(/200 /g)?.length, 2, stderr);
      return stderr.match(/\(IN\), TLS handshake, Certificate \(11\)/g)?.length ?? 0;
    };
    assert.equal(await fullHandshakes("--tlsv1.3"), 1);
    assert.equal(await fullHandshakes("--tlsv1.3", "--no-sessionid"), 2);
    // Over TLS 1.2, curl with OpenSSL asks for no ticket, and the proxy keeps no sessions.
    assert.equal(await fullHandshakes("--tls-max", "1.2"), 2);
  });

  test("a session from before client certificates were required does not replace one", async () => {
    const pair = await root.issue({ hosts: [servername] });
    const rig = await startTls({ certificates: [pair] });
    for (const maxVersion of versions) {
      const session = await sessionFrom(rig.port, { servername, maxVersion });
      await rig.activate([], { certificates: [pair], insecureServer: false, downstreamMtls: clientCertificates() });
      assert.equal(await isReused(rig.port, { servername, maxVersion, session }), false);
      await rig.activate([], { certificates: [pair], insecureServer: false });
    }
  });
});

const clientCertificates = (): DownstreamMtls => ({
  ...{ ca: root.pem, crl: null, enforcement: "policy_with_default_deny" },
  ...{ matchSubjectAltNames: [], maxVerifyDepth: 1 },
});

/** The TLS session of a connection that has read something, so that its tickets have arrived. */
async function sessionFrom(port: number, options: ConnectionOptions): Promise<Buffer> {
  const socket = await handshake(port, options);
  const sessions: Buffer[] = options.maxVersion === "TLSv1.2" ? [socket.getSession() ?? Buffer.alloc(0)] : [];
  socket.on("session", (session) => sessions.push(session));
  socket.write(`GET / HTTP/1.1\r\nHost: ${options.servername}\r\n\r\n`);
  await once(socket, "data");
  socket.destroy();
  return sessions.at(-1) ?? assert.fail("no session");
}

async function isReused(port: number, options: ConnectionOptions): Promise<boolean> {
  const socket = await handshake(port, options);
  const reused = socket.isSessionReused();
  socket.destroy();
  return reused;
}
