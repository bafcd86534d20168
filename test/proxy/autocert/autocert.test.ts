/**
 * Certificates by ACME, from a real authority (Pebble): ordered, served, stored and renewed, by one process at a time.
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type ConnectionOptions, connect } from "node:tls";
import type { AutocertConfig } from "../../../src/config/index.ts";
import { tryOrderLock } from "../../../src/proxy/autocert/autocert-folder.ts";
import { type Autocert, renewalDue, retryWait, startAutocert } from "../../../src/proxy/autocert/autocert-timer.ts";
import { lookForQuestion } from "../../../src/proxy/tls/acme-challenge-listener.ts";
import { type RedirectListener, startRedirectListener } from "../../../src/proxy/tls/redirect-listener.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { findPebble, type Pebble, startPebble } from "../../support/pebble.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream, type Upstream } from "../support.ts";

const day = 86_400_000;

test("a certificate is renewed with a third of its life left, or a little earlier", () => {
  const dates = { validFromDate: new Date(0), validToDate: new Date(90 * day) };
  assert.equal(renewalDue(dates, 0), 60 * day);
  assert.equal(renewalDue(dates, 1), 55 * day);
  assert.equal(renewalDue({ validFromDate: new Date(0), validToDate: new Date(6 * day) }, 0), 4 * day);
});

test("a failed order is tried again after growing waits, never at once", () => {
  const waits = [1, 2, 3, 4, 8, 100].map((failures) => retryWait(failures, 60_000, 0) / 60_000);
  assert.deepEqual(waits, [1, 2, 5, 15, 360, 360]);
  assert.equal(retryWait(1, 60_000, 1), 72_000);
});

test("only the first record of a handshake is searched for a challenge", () => {
  const hello = (text: string): Buffer =>
    Buffer.from(`\x16\x03\x01\x00${String.fromCharCode(text.length)}${text}`, "latin1");
  const question = hello("..\nacme-tls/1..");
  assert.deepEqual(lookForQuestion(question), { type: "found", own: 0, found: true });
  for (let length = 1; length < question.length; length++)
    assert.deepEqual(lookForQuestion(question.subarray(0, length)), { type: "more" });
  for (const other of [hello("..h2.."), Buffer.from("GET / HTTP/1.1\r\n"), Buffer.concat([hello("x"), question])])
    assert.deepEqual(lookForQuestion(other), { type: "found", own: 0, found: false });
});

test("only one process at a time holds the lock", () => {
  using folder = new TemporaryFolder("autocert-lock");
  const release = tryOrderLock(folder.path);
  assert.ok(release !== undefined);
  assert.equal(tryOrderLock(folder.path), undefined);
  release();
  tryOrderLock(folder.path)?.();
  assert.equal(statSync(join(folder.path, "ordering.sqlite")).mode & 0o077, 0);
});

describe("with a real authority", { skip: findPebble() === undefined ? "Pebble is not installed" : false }, () => {
  let [pebble, upstream, folder]: [Pebble?, Upstream?, TemporaryFolder?] = [];
  let [httpPort, tlsPort] = [0, 0];
  const cleanUps: (() => Promise<unknown>)[] = [];
  const eab = { "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" };
  before(async () => {
    [httpPort = 0, tlsPort = 0] = await freePorts(2);
    pebble = await startPebble({ http: httpPort, tls: tlsPort }, { eab });
    upstream = await startUpstream();
    folder = new TemporaryFolder("autocert");
  });
  after(async () => {
    for (const cleanUp of cleanUps.reverse()) await cleanUp();
    await upstream?.close();
    await pebble?.stop();
    folder?.remove();
  });

  const failures: object[] = [];
  const logger = { debug() {}, info() {}, warn() {}, error: (fields: object) => void failures.push(fields) };
  function settings(name: string, hosts: readonly string[], parts: Partial<AutocertConfig> = {}): AutocertConfig {
    assert.ok(pebble !== undefined && folder !== undefined);
    return {
      ...{ directory: pebble.directory, email: "ops@example.com", trustedCa: pebble.ca },
      eab: { keyId: "kid-1", macKey: eab["kid-1"] },
      ...{ folder: join(folder.path, name), hosts, challenges: ["tls-alpn-01"] },
      ...parts,
    };
  }
  /** A proxy on the port that the authority connects to. */
  async function startAt(
    config: AutocertConfig,
    clock: { ahead: number } = { ahead: 0 },
  ): Promise<{ rig: Rig; autocert: Autocert }> {
    const autocert = startAutocert({
      ...{ config, logger, events: { onOrdered() {} } },
      ...{ wall: () => Date.now() + clock.ahead, random: () => 0, lookEveryMs: 3_600_000, retryMs: 1_000 },
    });
    cleanUps.push(async () => autocert.close());
    const routes = config.hosts.map((host) => routeTo(upstream?.port ?? 0, { ...publicAccess, host }));
    const rig = await startRig(routes, {
      config: {
        insecureServer: false,
        certificates: [],
        autocert: config,
        address: { host: "127.0.0.1", port: tlsPort },
      },
      acme: autocert,
    });
    cleanUps.push(() => rig.close());
    return { rig, autocert };
  }
  async function served(servername: string, options: ConnectionOptions = {}): Promise<X509Certificate> {
    const socket = connect({
      port: tlsPort,
      host: "127.0.0.1",
      servername,
      ca: (await pebble?.issuer()) ?? "",
      ...options,
    });
    await once(socket, "secureConnect");
    const certificate = socket.getPeerX509Certificate();
    socket.destroy();
    assert.ok(certificate !== undefined);
    return certificate;
  }
  const failureOf = async (servername: string): Promise<string> =>
    served(servername).then(
      () => "served",
      (error: Error & { code: string }) => error.code,
    );

  test("TLS-ALPN-01: the first certificate is ordered, served and stored, and is renewed when it is due", async () => {
    const clock = { ahead: 0 };
    const { rig, autocert } = await startAt(settings("alpn", ["a.example"]), clock);
    assert.match(await failureOf("a.example"), /HANDSHAKE_FAILURE|ECONNRESET/);
    await autocert.look();
    assert.deepEqual(failures, []);
    const first = await served("a.example");
    assert.equal(first.subjectAltName, "DNS:a.example");
    const storedIn = join(folder?.path ?? "", "alpn");
    for (const entry of readdirSync(storedIn, { recursive: true, withFileTypes: true }))
      assert.equal(statSync(join(entry.parentPath, entry.name)).mode & 0o077, 0, entry.name);

    await autocert.look();
    assert.equal((await served("a.example")).serialNumber, first.serialNumber, "renewal is not due");
    clock.ahead = 61 * day;
    await autocert.look();
    assert.notEqual((await served("a.example")).serialNumber, first.serialNumber);
    autocert.close();
    await rig.close();

    const restarted = await startAt(settings("alpn", ["a.example"]));
    assert.equal(
      (await served("a.example")).subjectAltName,
      "DNS:a.example",
      "loaded from the folder, without an order",
    );
    await restarted.rig.close();
  });

  test("TLS-ALPN-01: any process that shares the folder answers the challenge, as workers do, only while it is pending", async () => {
    const config = settings("alpn-shared", ["f.example"]);
    mkdirSync(join(config.folder, "questions"), { recursive: true, mode: 0o700 }); // left by a process that was killed
    const neighbour = await startAt({ ...config, eab: null }); // cannot order by itself, without its account
    await neighbour.autocert.look();
    assert.equal(failures.splice(0).length, 1);
    const orderer = startAutocert({
      ...{ config, logger, events: { onOrdered() {} } },
      ...{ wall: Date.now, random: () => 0, lookEveryMs: 3_600_000 },
    });
    cleanUps.push(async () => orderer.close());
    await orderer.look();
    assert.deepEqual(failures, []);
    assert.equal(orderer.certificates().length, 1);
    assert.equal(neighbour.autocert.isAsked(), false);
    assert.equal(neighbour.autocert.challengeCertificate("f.example"), undefined);
    await neighbour.autocert.look();
    assert.equal((await served("f.example")).subjectAltName, "DNS:f.example");
    await neighbour.rig.close();
  });

  test("HTTP-01: the redirect listener of any process that shares the folder answers the challenge", async () => {
    const config = settings("http", ["c.example"], { challenges: ["http-01"] });
    const [orderer, neighbour] = [1, 2].map(() =>
      startAutocert({ ...{ config: null, logger, events: { onOrdered() {} } }, wall: Date.now, random: () => 0 }),
    ) as [Autocert, Autocert];
    neighbour.follow({ ...config, hosts: [] });
    orderer.follow(config);
    const redirect: RedirectListener = await startRedirectListener({
      ...{ listen: { host: "127.0.0.1", port: httpPort }, useProxyProtocol: false, portOf: () => null },
      ...{ challengeAnswer: neighbour.challengeAnswer, onRefused() {} },
    });
    cleanUps.push(() => redirect.close());
    await orderer.look();
    assert.deepEqual(failures, []);
    assert.equal(new X509Certificate(orderer.certificates()[0]?.cert ?? "").subjectAltName, "DNS:c.example");
    assert.deepEqual(readdirSync(join(config.folder, "challenges")), []);
    neighbour.follow(config);
    assert.equal(neighbour.certificates().length, 1, "each process serves what the other has ordered");
    orderer.close();
    neighbour.close();
  });

  test("a failed order is logged and tried later with the other challenge; the current certificate stays", async () => {
    const clock = { ahead: 0 };
    const config = settings("fails", ["d.example"], { challenges: ["http-01", "tls-alpn-01"] });
    // Nothing answers HTTP-01 for this folder.
    const { rig, autocert } = await startAt(config, clock);
    await autocert.look();
    assert.match(JSON.stringify(failures.splice(0)), /"host":"d\.example","type":"http-01"/);
    await autocert.look();
    assert.deepEqual(failures, [], "too early to try again");
    clock.ahead = 10_000;
    await autocert.look();
    assert.deepEqual(failures.splice(0), []);
    assert.equal((await served("d.example")).subjectAltName, "DNS:d.example");

    autocert.follow({ ...config, eab: null, challenges: ["http-01"] });
    clock.ahead = 89 * day;
    await autocert.look();
    assert.equal(failures.splice(0).length, 1);
    assert.equal((await served("d.example")).subjectAltName, "DNS:d.example");
    await rig.close();
  });

  test("a process that does not get the lock orders nothing, and serves what the other process ordered", async () => {
    const config = settings("locked", ["e.example"]);
    mkdirSync(config.folder);
    const release = tryOrderLock(config.folder);
    const { rig, autocert } = await startAt(config);
    await autocert.look();
    assert.deepEqual([autocert.certificates().length, failures.length], [0, 0]);
    release?.();
    await autocert.look();
    assert.equal(autocert.certificates().length, 1);
    await rig.close();
  });
});
