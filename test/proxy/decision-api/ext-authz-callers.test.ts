/** Callers of the decision API over gRPC, and over HTTP by certificate: by default none is permitted. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import { credentials } from "@grpc/grpc-js";
import type { DecisionApiConfig } from "../../../src/config/index.ts";
import type { DecisionApiDeps } from "../../../src/proxy/index.ts";
import type { Checked } from "../../support/envoy-client.ts";
import { Authority, type Issued } from "../../support/pki.ts";
import { decisionApiConfig, publicAccess, type Rig, routeTo, signedIn, startRig } from "../support.ts";
import { about, Started, statusOf } from "./ext-authz-support.ts";

const key = "a-key-of-at-least-32-characters-0123456789";
const started = new Started();
let authority: Authority;
let other: Authority;
let server: Issued;
let rig: Rig;

before(async () => {
  [authority, other] = [await Authority.root("one"), await Authority.root("two")];
  server = await authority.issue({ hosts: ["localhost"], addresses: ["127.0.0.1"] });
  rig = await startRig([routeTo(1, { ...publicAccess, match: { kind: "prefix", value: "/public" } }), routeTo(1)]);
  await rig.apply(signedIn(1));
});
after(async () => {
  await started.end();
  await rig.close();
});

const tlsOf = () => ({ cert: server.cert, key: server.key });
const trusting = (shown?: Issued) =>
  credentials.createSsl(
    Buffer.from(authority.pem),
    shown === undefined ? null : Buffer.from(shown.key),
    shown === undefined ? null : Buffer.from(shown.cert),
  );
const assertRefused = (answer: Checked): void => {
  assert.equal(statusOf(answer), 400);
  assert.deepEqual(answer.okResponse, undefined);
};

test("a configured caller is accepted: by address, or by key over TLS", async () => {
  const permitted = about({ session: 1 });
  const at = await started.serve(() => rig.deps, { tls: tlsOf(), trustedProxies: [], keys: { envoy: key } });
  const client = started.clientOf(at, trusting());
  const before = rig.records.length;
  assertRefused(await client.check(permitted));
  for (const authorization of [`Bearer ${key}x`, `Basic ${key}`, "Bearer"])
    assertRefused(await client.check(permitted, { metadata: { authorization } }));
  assert.equal(rig.records.length, before, "a refused caller leaves no record");
  assert.equal(statusOf(await client.check(permitted, { metadata: { authorization: `Bearer ${key}` } })), 200);
  const named = started.clientOf(await started.serve(() => rig.deps, { tls: tlsOf() }), trusting());
  assert.equal(statusOf(await named.check(permitted)), 200);
  await assert.rejects(
    started.clientOf(at).check(permitted, { options: { deadline: Date.now() + 5_000 } }),
    "plaintext is refused",
  );
});

test("a configured caller is accepted by a certificate of the configured authority, and then in no other way", async () => {
  const proxies = await Authority.root("proxies");
  const [envoys, foreign] = [
    await proxies.issue({ usage: "client", name: "envoy" }),
    await other.issue({ usage: "client", name: "envoy" }),
  ];
  const at = await started.serve(() => rig.deps, { tls: tlsOf(), clientCa: proxies.pem, keys: { envoy: key } });
  assert.equal(statusOf(await started.clientOf(at, trusting(envoys)).check(about({ session: 1 }))), 200);
  for (const shown of [foreign, undefined]) {
    const refusedCall = started.clientOf(at, trusting(shown)).check(about({ session: 1 }), {
      metadata: { authorization: `Bearer ${key}` },
      options: { deadline: Date.now() + 5_000 },
    });
    await assert.rejects(refusedCall, "the handshake fails");
  }
});

test("over HTTP a certificate is accepted from any address, and a resumed session without one is refused", async () => {
  const proxies = await Authority.root("proxies");
  const shown = async (from: Authority) => {
    const { cert, key: secret } = await from.issue({ usage: "client", name: "nginx" });
    return { cert, key: secret };
  };
  const address = { host: "127.0.0.1", port: 0 };
  const at = await started.serve(() => rig.deps, {
    address,
    grpcAddress: null,
    tls: tlsOf(),
    clientCa: proxies.pem,
    trustedProxies: [],
  });
  const to = { host: "127.0.0.1", port: at.address?.port ?? 0, servername: "localhost", ca: authority.pem };
  const forwarded = "x-forwarded-method: GET\r\nx-forwarded-proto: http\r\nx-forwarded-host: app.localhost\r\n";
  const question = `GET /forward-auth HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-forwarded-uri: /public\r\nx-forwarded-for: 203.0.113.9\r\n${forwarded}\r\n`;
  const sessions: Buffer[] = [];
  const statusWith = (own: ConnectionOptions): Promise<string> =>
    new Promise((resolve, reject) => {
      let answer = "";
      const socket = connectTls({ ...to, ...own }, () => socket.write(question));
      socket.on("session", (session) => sessions.push(session));
      socket.on("data", (chunk) => {
        answer += chunk;
      });
      socket.on("error", reject);
      socket.on("close", () => resolve(answer.slice(9, 12)));
    });
  assert.equal(await statusWith(await shown(proxies)), "200");
  assert.equal(await statusWith(await shown(other)), "403");
  sessions.length = 0;
  assert.equal(await statusWith({}), "403");
  for (const session of [...sessions])
    assert.equal(await statusWith({ session }), "403", "a resumed session does not replace a certificate");
});

test("a configured caller is accepted under the current configuration only", async () => {
  const config = { ...rig.deps.config, decisionApi: null as DecisionApiConfig | null };
  let ports: DecisionApiDeps = { ...rig.deps, config };
  const at = await started.serve(() => ports, { trustedProxies: [] });
  const client = started.clientOf(at);
  const check = () => client.check(about({ session: 1 }), { metadata: { authorization: `Bearer ${key}` } });
  assertRefused(await check());
  const named = decisionApiConfig({ grpcAddress: at.grpcAddress, keys: { envoy: key } });
  ports = { ...rig.deps, config: { ...config, decisionApi: named } };
  assert.equal(statusOf(await check()), 200);
  ports = { ...rig.deps, config: { ...config, decisionApi: { ...named, keys: {} } } };
  assertRefused(await check());
});
