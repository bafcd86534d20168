/**
 * Client certificates: the callers that each enforcement permits, over both protocols, and never by a resumed TLS
 * session.
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { after, before, describe, test } from "node:test";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import type { Config, DownstreamMtls, RouteConfig } from "../../../src/config/index.ts";
import { ClientTrust } from "../../../src/proxy/tls/client-trust.ts";
import { readPresented } from "../../../src/proxy/tls/presented-certificate.ts";
import { RevocationLists } from "../../../src/proxy/tls/revocation-lists.ts";
import { Authority, type CertificateOptions, type Issued } from "../../support/pki.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream, type Upstream, valuesOf } from "../support.ts";

const hour = 3_600_000;
const host = "app.localhost";
const cleanUps: (() => Promise<void>)[] = [];
let upstream: Upstream;
let root: Authority;
let other: Authority;
let server: Issued;
before(async () => {
  upstream = await startUpstream();
  [root, other] = [await Authority.root("one"), await Authority.root("two")];
  server = await root.issue({ hosts: [host, "*.localhost"] });
});
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
  await upstream.close();
});

const person = (wanted: CertificateOptions = {}): CertificateOptions => ({
  usage: "client",
  name: "alice",
  emails: ["alice@example.com"],
  ...wanted,
});

async function startWith(
  mtls: Partial<DownstreamMtls>,
  routes: readonly Partial<RouteConfig>[] = [{}],
  parts: Partial<Config> = {},
): Promise<Rig> {
  const all: DownstreamMtls = {
    ...{ ca: root.pem, crl: null, enforcement: "policy_with_default_deny" as const },
    ...{ matchSubjectAltNames: [], maxVerifyDepth: 1, ...mtls },
  };
  const rig = await startRig(
    routes.map((route) => {
      const clientCa = route.clientCa === undefined ? all.ca : route.clientCa;
      const requiresClientCertificate = clientCa !== null && all.enforcement !== "policy";
      return routeTo(upstream.port, { ...publicAccess, clientCa, requiresClientCertificate, ...route });
    }),
    { config: { certificates: [server], insecureServer: false, downstreamMtls: all, ...parts } },
  );
  cleanUps.push(() => rig.close());
  return rig;
}

function dial(port: number, shown: Pick<Issued, "cert" | "key"> | null, options: ConnectionOptions = {}): TLSSocket {
  const client = shown === null ? {} : { cert: shown.cert, key: shown.key };
  const socket = connect({ port, host: "127.0.0.1", servername: host, ca: root.pem, ...client, ...options });
  socket.on("error", () => {}); // seen as an end of the stream
  return socket;
}

/** The bytes received over HTTP/1.1 until the connection closes; empty: none arrived. */
async function answerOf(socket: TLSSocket, to = host, path = "/", head = ""): Promise<string> {
  let answer = "";
  socket.on("data", (bytes: Buffer) => {
    answer += bytes.toString("latin1");
  });
  socket.write(`GET ${path} HTTP/1.1\r\nHost: ${to}\r\nAccept: application/json\r\n${head}Connection: close\r\n\r\n`);
  await waitFor("the connection to close", () => socket.destroyed, { withinMs: 20_000 });
  return answer;
}
const statusOf = (answer: string): number => Number(answer.slice(9, 12));
async function get(rig: Rig, shown: Pick<Issued, "cert" | "key"> | null, to = host, path = "/"): Promise<number> {
  return statusOf(await answerOf(dial(rig.port, shown), to, path));
}
async function getHttp2(session: ClientHttp2Session, to = host): Promise<number> {
  const [headers] = await once(session.request({ ":authority": to, ":path": "/" }), "response");
  return Number(headers[":status"]);
}
const chain = (leaf: Issued, ...above: Authority[]): Pick<Issued, "cert" | "key"> => ({
  cert: leaf.cert + above.map(({ pem }) => pem).join(""),
  key: leaf.key,
});

describe("by default, every route denies a caller without a valid certificate", () => {
  let rig: Rig;
  before(async () => {
    rig = await startWith({});
  });

  test("a valid one is accepted, over both protocols", async () => {
    const alice = await root.issue(person());
    assert.equal(await get(rig, alice), 200);
    const session = connectHttp2(`https://127.0.0.1:${rig.port}`, { servername: host, ca: root.pem, ...alice });
    assert.equal(await getHttp2(session), 200);
    session.destroy();
  });

  test("without one a caller gets 495 with Pomerium's text, never sign-in, over both protocols", async () => {
    const answer = await answerOf(dial(rig.port, null));
    assert.match(answer, /^HTTP\/1\.1 495 /);
    assert.match(answer, /"error":"[^"]*certificate/i);
    assert.deepEqual(rig.records.at(-1)?.reasons, ["client-certificate-required"]);
    const session = connectHttp2(`https://127.0.0.1:${rig.port}`, { servername: host, ca: root.pem });
    assert.equal(await getHttp2(session), 495);
    session.destroy();
  });

  for (const [name, make] of [
    ["of another authority", () => other.issue(person())],
    [
      "that has expired",
      () => root.issue(person({ notBefore: new Date(Date.now() - 2 * hour), notAfter: new Date(Date.now() - hour) })),
    ],
    ["that is not valid yet", () => root.issue(person({ notBefore: new Date(Date.now() + hour) }))],
    ["for servers", () => root.issue(person({ usage: "server" }))],
  ] as const)
    test(`one ${name} is 495`, async () => {
      assert.equal(await get(rig, await make()), 495);
      assert.deepEqual(rig.records.at(-1)?.reasons, ["invalid-client-certificate"]);
    });

  test("one issued by an intermediate exceeds the default depth, unless max_verify_depth is raised", async () => {
    const between = await root.intermediate("between");
    const lower = await between.intermediate("lower");
    const near = chain(await between.issue(person()), between);
    const far = chain(await lower.issue(person()), lower, between);
    const deeper = await startWith({ maxVerifyDepth: 2 });
    const bottomless = await startWith({ maxVerifyDepth: 0 });
    assert.deepEqual([await get(rig, near), await get(deeper, near), await get(deeper, far)], [495, 200, 495]);
    assert.equal(await get(bottomless, far), 200);
    // The intermediate itself may be the trusted authority.
    const only = await startWith({ ca: between.pem });
    assert.equal(await get(only, near), 200);
    assert.equal(await get(only, await root.issue(person())), 495);
  });

  test("a leaf is not accepted as an authority, and a matching name does not replace a signature", async () => {
    const leaf = await root.issue(person({ name: "no authority" }));
    const namesake = await Authority.root("one"); // the trusted authority's name with another key
    assert.equal(await get(rig, await namesake.issue(person())), 495);
    assert.equal(await get(rig, chain(await namesake.issue(person()), namesake)), 495);
    assert.equal(
      await get(await startWith({ maxVerifyDepth: 0 }), chain({ ...(await other.issue(person())) }, other)),
      495,
    );
    assert.equal(await get(rig, leaf), 200);
  });

  test("reserved paths need none", async () => {
    assert.equal(await get(rig, null, host, "/healthz"), 200);
    assert.equal(await get(rig, null, host, "/.well-known/pomerium"), 200);
  });
});

test("policy: no caller is denied for its certificate alone; policy criteria decide", async () => {
  const alice = await root.issue(person());
  const bob = await root.issue(person({ name: "bob", emails: ["bob@example.com"] }));
  const stranger = await other.issue(person());
  const policy = (ppl: unknown): Partial<RouteConfig> => ({
    allowPublicUnauthenticatedAccess: false,
    policy: { ppl, location: { file: "c.yaml", line: 1, column: 1 } },
  });
  const rig = await startWith({ enforcement: "policy" }, [
    {},
    {
      host: "named.localhost",
      ...policy({ allow: { and: [{ client_certificate: { san_email: { is: "alice@example.com" } } }] } }),
    },
    {
      host: "guarded.localhost",
      ...policy([{ allow: { and: [{ accept: true }] } }, { deny: { or: [{ invalid_client_certificate: true }] } }]),
    },
  ]);
  const statuses = async (to: string): Promise<number[]> => {
    const statuses: number[] = [];
    for (const shown of [alice, bob, stranger, null]) statuses.push(await get(rig, shown, to));
    return statuses;
  };
  assert.deepEqual(await statuses(host), [200, 200, 200, 200]);
  assert.deepEqual(await statuses("named.localhost"), [200, 403, 403, 403]);
  assert.deepEqual(await statuses("guarded.localhost"), [200, 200, 495, 495]);
});

test("reject_connection: a caller without a valid certificate cannot send a request, not even to a reserved path", async () => {
  const lines: unknown[] = [];
  const logger = {
    debug() {},
    info() {},
    error() {},
    warn: (fields: object, text: string) => lines.push({ ...fields, text }),
  };
  const rig = await startRig(
    [routeTo(upstream.port, { ...publicAccess, clientCa: root.pem, requiresClientCertificate: true })],
    {
      config: {
        ...{ certificates: [server], insecureServer: false },
        downstreamMtls: {
          ca: root.pem,
          crl: null,
          enforcement: "reject_connection",
          matchSubjectAltNames: [],
          maxVerifyDepth: 1,
        },
      },
      deps: { logger },
    },
  );
  cleanUps.push(() => rig.close());
  assert.equal(await get(rig, await root.issue(person())), 200);
  const before = rig.records.length;
  for (const shown of [null, await other.issue(person())]) {
    assert.equal(await answerOf(dial(rig.port, shown)), "");
    assert.equal(await answerOf(dial(rig.port, shown), host, "/healthz"), "");
  }
  assert.equal(rig.records.length, before);
  assert.match(JSON.stringify(lines), /listener connection failure/);
  assert.match(await rig.registry.metrics(), /client-certificate-required/);
});

describe("revocation lists and names", () => {
  test("a revocation list applies to its own issuer's certificates, and only with that issuer's signature", async () => {
    const [good, bad, foreign] = [await root.issue(person()), await root.issue(person()), await other.issue(person())];
    const both = root.pem + other.pem;
    const rig = await startWith({ ca: both, crl: await root.revoking([bad.serial, foreign.serial]) });
    assert.deepEqual([await get(rig, good), await get(rig, bad), await get(rig, foreign)], [200, 495, 200]);
    const namesake = await Authority.root("one");
    const forged = await startWith({ crl: await namesake.revoking([]) });
    assert.equal(await get(forged, good), 495, "a list that its issuer has not signed");
  });

  const names = (shown: Issued, pattern: DownstreamMtls["matchSubjectAltNames"]): boolean => {
    const settings = { matchSubjectAltNames: pattern, maxVerifyDepth: 1, revoked: new RevocationLists(null) };
    const presented = readPresented(new X509Certificate(shown.cert), true);
    return new ClientTrust([root.pem], settings).judge(presented, Date.now()).valid;
  };
  test("one of the names must match in full", async () => {
    const shown = await root.issue({
      ...{ usage: "client", hosts: ["a.example.com"], addresses: ["10.1.2.3", "2001:db8::1"] },
      ...{ emails: ["a@example.com"], uris: ["spiffe://example/a"] },
    });
    for (const [type, pattern, fits] of [
      ["dns", "a\\.example\\.com", true],
      ["dns", "example\\.com", false],
      ["dns", "a", false],
      ["email", ".*@example\\.com", true],
      ["email", ".*@example", false],
      ["ip_address", "10\\..*", true],
      ["ip_address", "2001:db8::1", true],
      ["uri", "spiffe://example/.*", true],
      ["user_principal_name", ".*", false],
    ] as const)
      assert.equal(names(shown, [{ type, pattern }]), fits, `${type} ${pattern}`);
    assert.ok(
      names(shown, [
        { type: "dns", pattern: "no" },
        { type: "email", pattern: "a@.*" },
      ]),
    );
    assert.ok(!names(await root.issue({ usage: "client" }), [{ type: "dns", pattern: ".*" }]));
    const principal = await root.issue({ usage: "client", others: [{ type: "upn", value: "alice@corp" }] });
    assert.ok(names(principal, [{ type: "user_principal_name", pattern: "alice@corp" }]));
    assert.ok(!names(principal, [{ type: "user_principal_name", pattern: "alice" }]));
  });
});

test("a route's own authority is the only one for that route; routes without one request no certificate", async () => {
  const rig = await startWith({ ca: null }, [
    { clientCa: null },
    { host: "one.localhost", clientCa: root.pem },
    { host: "two.localhost", clientCa: other.pem },
  ]);
  const [one, two] = [await root.issue(person()), await other.issue(person())];
  const hosts = [host, "one.localhost", "two.localhost"];
  const statuses = async (shown: Issued | null): Promise<number[]> => {
    const session = connectHttp2(`https://127.0.0.1:${rig.port}`, { servername: host, ca: root.pem, ...shown });
    const statuses: number[] = [];
    for (const to of hosts) statuses.push(await getHttp2(session, to)); // one connection for all of them
    session.destroy();
    return statuses;
  };
  assert.deepEqual(await statuses(one), [200, 200, 495]);
  assert.deepEqual(await statuses(two), [200, 495, 200]);
  assert.deepEqual(await statuses(null), [200, 495, 495]);
});

for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const)
  test(`a ${maxVersion} session cannot be resumed, so no verdict outlives its handshake`, async () => {
    const rig = await startWith({});
    const alice = await root.issue(person());
    const first = dial(rig.port, alice, { maxVersion });
    const sessions: Buffer[] = [];
    first.on("session", (session) => sessions.push(session));
    assert.equal(statusOf(await answerOf(first)), 200);
    assert.ok(maxVersion === "TLSv1.2" || sessions.length > 0, "the server issues session tickets, and accepts none");
    for (const session of sessions) {
      const again = dial(rig.port, null, { maxVersion, session });
      await once(again, "secureConnect");
      assert.equal(again.isSessionReused(), false);
      assert.equal(statusOf(await answerOf(again)), 495);
    }
  });

test("the upstream learns of a valid certificate, and of no other", async () => {
  const headers = {
    // biome-ignore-start lint/suspicious/noTemplateCurlyInString: templates of the configuration
    "x-fingerprint": "${pomerium.client_cert_fingerprint}",
    "x-names": "${pomerium.client_cert_san_dns}|${pomerium.client_cert_san_email}",
    // biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above
  };
  const rig = await startWith({ enforcement: "policy" }, [{ setRequestHeaders: headers }]);
  const wanted = person({ hosts: ["a.example", "b.example"], emails: ["a@example.com"] });
  const alice = await root.issue(wanted);
  const seen = (name: string): string[] => valuesOf(upstream.seen.at(-1)?.rawHeaders ?? [], name);
  await get(rig, alice);
  const fingerprint = new X509Certificate(alice.cert).fingerprint256.replaceAll(":", "").toLowerCase();
  assert.deepEqual([seen("x-fingerprint"), seen("x-names")], [[fingerprint], ["a.example,b.example|a@example.com"]]);
  for (const shown of [null, await other.issue(wanted)]) {
    await get(rig, shown);
    assert.deepEqual([seen("x-fingerprint"), seen("x-names")], [[""], ["|"]]);
  }
});

test("a certificate that is revoked while its connection is open is no longer valid, and open exchanges are cut", async () => {
  const alice = await root.issue(person());
  const stream = await startUpstream((_req, res) => {
    res.writeHead(200);
    res.write("begun");
  });
  cleanUps.push(stream.close);
  const mtls = {
    ca: root.pem,
    crl: null,
    enforcement: "policy_with_default_deny" as const,
    matchSubjectAltNames: [],
    maxVerifyDepth: 1,
  };
  const routes = [routeTo(stream.port, { ...publicAccess, clientCa: root.pem, requiresClientCertificate: true })];
  const config = { certificates: [server], insecureServer: false };
  const rig = await startRig(routes, { config: { ...config, downstreamMtls: mtls } });
  cleanUps.push(() => rig.close());
  const socket = dial(rig.port, alice);
  socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await once(socket, "data");
  const idle = dial(rig.port, alice);
  await once(idle, "secureConnect");
  await rig.activate(routes, { ...config, downstreamMtls: { ...mtls, crl: await root.revoking([alice.serial]) } });
  await waitFor("the open exchange to be cut", () => socket.destroyed);
  assert.equal(statusOf(await answerOf(idle)), 495, "on the same connection, without a new handshake");
  assert.equal(await get(rig, alice), 495);
});

test("a reload that changes the authorities changes which certificates the same server certificate accepts", async () => {
  const [alice, bob] = [await root.issue(person()), await other.issue(person({ name: "bob" }))];
  const mtlsOf = (ca: string | null): DownstreamMtls => ({
    ...{ ca, crl: null, enforcement: "policy_with_default_deny", matchSubjectAltNames: [], maxVerifyDepth: 1 },
  });
  const routesOf = (ca: string | null) => [
    routeTo(upstream.port, { ...publicAccess, clientCa: ca, requiresClientCertificate: ca !== null }),
  ];
  const config = { certificates: [server], insecureServer: false };
  const rig = await startRig(routesOf(null), { config: { ...config, downstreamMtls: mtlsOf(null) } });
  cleanUps.push(() => rig.close());
  const answers = async (): Promise<readonly number[]> => [
    await get(rig, alice),
    await get(rig, bob),
    await get(rig, null),
  ];
  assert.deepEqual(await answers(), [200, 200, 200]);
  await rig.activate(routesOf(root.pem), { ...config, downstreamMtls: mtlsOf(root.pem) });
  assert.deepEqual(await answers(), [200, 495, 495]);
  await rig.activate(routesOf(other.pem), { ...config, downstreamMtls: mtlsOf(other.pem) });
  assert.deepEqual(await answers(), [495, 200, 495]);
  await rig.activate(routesOf(null), { ...config, downstreamMtls: mtlsOf(null) });
  assert.deepEqual(await answers(), [200, 200, 200]);
});
