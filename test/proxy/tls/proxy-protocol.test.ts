/** The PROXY protocol before plain HTTP, HTTP/2 and TLS: the caller's address, and malformed headers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { readProxyHeader } from "../../../src/proxy/tls/proxy-protocol.ts";
import { Authority } from "../../support/pki.ts";
import { fc } from "../../support/property.ts";
import { waitFor } from "../../support/wait-for.ts";
import { publicAccess, type Rig, routeTo, startRig, startUpstream, type Upstream, valuesOf } from "../support.ts";

const signature = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
type Binary = Readonly<{
  command?: number;
  family?: number;
  body?: readonly number[];
  length?: number;
  version?: number;
}>;
function binary({ version = 2, command = 1, family = 0x11, body = v4, length = body.length }: Binary = {}): Buffer {
  return Buffer.from([...signature, (version << 4) | command, family, length >> 8, length & 0xff, ...body]);
}
const v4 = [192, 0, 2, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
const v6 = [0x20, 1, 0xd, 0xb8, ...new Array(11).fill(0), 9, ...new Array(15).fill(0), 1, 0x12, 0x34, 0, 80];
const mapped = [...new Array(10).fill(0), 255, 255, 192, 0, 2, 9, ...new Array(16).fill(0), 0, 1, 0, 2];

describe("a header", () => {
  for (const [name, bytes, address] of [
    ["version 1, IPv4", "PROXY TCP4 192.0.2.9 10.0.0.1 5000 80\r\n", "192.0.2.9"],
    ["version 1, IPv6", "PROXY TCP6 2001:DB8::9 ::1 5000 80\r\n", "2001:db8::9"],
    ["version 1, UNKNOWN", "PROXY UNKNOWN\r\n", null],
    ["version 1, UNKNOWN with addresses", "PROXY UNKNOWN ff::1 ff::2 1 2\r\n", null],
    ["version 2, IPv4", binary(), "192.0.2.9"],
    ["version 2, IPv6", binary({ family: 0x21, body: v6 }), "2001:db8::9"],
    ["version 2, IPv4 in IPv6", binary({ family: 0x21, body: mapped }), "192.0.2.9"],
    ["version 2, with TLVs", binary({ body: [...v4, 4, 0, 2, 7, 7] }), "192.0.2.9"],
    ["version 2, LOCAL", binary({ command: 0 }), null],
    ["version 2, LOCAL without a body", binary({ command: 0, family: 0, body: [] }), null],
    ["version 2, unspecified family", binary({ family: 0, body: [] }), null],
    ["version 2, a Unix socket", binary({ family: 0x31, body: new Array(216).fill(0) }), null],
  ] as const)
    test(`${name}: ${address}; any prefix of it is incomplete, not an error`, () => {
      const whole = typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes;
      const expected = { type: "header", bytes: whole.length, address };
      assert.deepEqual(readProxyHeader(whole), expected);
      assert.deepEqual(readProxyHeader(Buffer.concat([whole, Buffer.from("GET /")])), expected);
      for (let length = 0; length < whole.length; length++)
        assert.deepEqual(readProxyHeader(whole.subarray(0, length)), { type: "more" });
    });

  for (const [name, bytes] of [
    ["none", "GET / HTTP/1.1\r\n"],
    ["TLS without one", Buffer.from([0x16, 3, 1])],
    ["an address of the other family", "PROXY TCP4 ::1 ::1 1 2\r\n"],
    ["no address", "PROXY TCP4 999.0.0.1 10.0.0.1 1 2\r\n"],
    ["a port out of range", "PROXY TCP4 192.0.2.9 10.0.0.1 70000 80\r\n"],
    ["two spaces", "PROXY TCP4  192.0.2.9 10.0.0.1 1 80\r\n"],
    ["another protocol", "PROXY UDP4 192.0.2.9 10.0.0.1 1 80\r\n"],
    ["a line that does not end", `PROXY UNKNOWN ${"x".repeat(100)}`],
    ["another version", binary({ version: 1 })],
    ["another command", binary({ command: 2 })],
    ["datagrams", binary({ family: 0x12 })],
    ["too short for its addresses", binary({ body: v4.slice(0, 11) })],
    ["above the length limit", binary({ length: 8_193 })],
  ] as const)
    test(`${name} is refused`, () =>
      assert.deepEqual(readProxyHeader(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes), {
        type: "bad",
      }));

  test("any bytes at all: the parser never consumes more than its limit", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), fc.boolean(), (tail, text, first) => {
        const front = first ? (text ? Buffer.from("PROXY TCP4 ") : signature) : Buffer.alloc(0);
        const answer = readProxyHeader(Buffer.concat([front, tail]));
        if (answer.type === "header") assert.ok(answer.bytes <= front.length + tail.length);
      }),
      { seed: 20261126, numRuns: 2_000 },
    );
  });
});

describe("a listener with use_proxy_protocol", () => {
  let [rig, tls, upstream]: [Rig?, Rig?, Upstream?] = [];
  let root: Authority;
  before(async () => {
    upstream = await startUpstream();
    root = await Authority.root();
    const pair = await root.issue({ hosts: ["app.localhost"] });
    const office = {
      ppl: { allow: { and: [{ source_ip: "192.0.2.0/24" }] } },
      location: { file: "c", line: 1, column: 1 },
    };
    const routes = [
      routeTo(upstream.port, publicAccess),
      routeTo(upstream.port, { host: "office.localhost", allowAnyAuthenticatedUser: false, policy: office }),
    ];
    rig = await startRig(routes, { config: { useProxyProtocol: true } });
    tls = await startRig(routes, {
      config: { useProxyProtocol: true, insecureServer: false, certificates: [pair] },
    });
  });
  after(async () => {
    await rig?.close();
    await tls?.close();
    await upstream?.close();
  });
  const of = <T>(made: T | undefined): T => {
    assert.ok(made !== undefined);
    return made;
  };
  /** Collects what arrives until the connection closes. */
  const raw = (text: string | Buffer): Promise<string> => of(rig).sendRaw(text, 20_000);
  const request = (host: string): string => `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  const statusOf = (answer: string): string => answer.slice(9, 12);

  test("uses the caller's address for policy, upstream and audit", async () => {
    const headerOf = (address: string) => `PROXY TCP4 ${address} 10.0.0.1 1 80\r\n`;
    const { records } = of(rig);
    assert.equal(statusOf(await raw(headerOf("192.0.2.9") + request("office.localhost"))), "200");
    assert.equal(records.at(-1)?.ip, "192.0.2.9");
    assert.deepEqual(valuesOf(of(upstream).seen.at(-1)?.rawHeaders ?? [], "x-forwarded-for"), ["192.0.2.9"]);
    assert.equal(statusOf(await raw(headerOf("198.51.100.1") + request("office.localhost"))), "403");
    assert.equal(statusOf(await raw(Buffer.concat([binary(), Buffer.from(request("office.localhost"))]))), "200");
  });

  test("uses the connection's own address for LOCAL and UNKNOWN headers", async () => {
    const { records } = of(rig);
    const local = binary({ command: 0, family: 0, body: [] });
    assert.equal(statusOf(await raw(Buffer.concat([local, Buffer.from(request("app.localhost"))]))), "200");
    assert.equal(records.at(-1)?.ip, "127.0.0.1");
    assert.equal(statusOf(await raw(`PROXY UNKNOWN\r\n${request("app.localhost")}`)), "200");
  });

  test("closes a connection without a header, without a response, and counts it", async () => {
    const { registry } = of(rig);
    assert.equal(await raw(request("app.localhost")), "");
    assert.equal(await raw(`PROXY TCP4 nowhere 10.0.0.1 1 80\r\n${request("app.localhost")}`), "");
    assert.match(await registry.metrics(), /proxy-protocol-bad/);
  });

  test("accepts a header in pieces, then keep-alive with a second request", async () => {
    const socket = connect(of(rig).port, "127.0.0.1");
    const pieces = [..."PROXY TCP4 192.0.2.77 10.0.0.1 1 80\r\n"];
    for (const piece of pieces) await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
    for (const round of [1, 2]) {
      socket.write("GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n");
      const [bytes] = await once(socket, "data");
      assert.match(String(bytes), /^HTTP\/1\.1 200 /, `request ${round}`);
    }
    socket.destroy();
    assert.equal(of(rig).records.at(-1)?.ip, "192.0.2.77");
  });

  test("accepts a header before HTTP/2 with prior knowledge, and before TLS with both protocols", async () => {
    const front = (port: number): Socket => {
      const socket = connect(port, "127.0.0.1");
      socket.write("PROXY TCP6 2001:db8::7 ::1 1 443\r\n");
      return socket;
    };
    const get = async (origin: string, createConnection: () => Socket): Promise<number> => {
      const session = connectHttp2(origin, { createConnection });
      const [headers] = await once(session.request({ ":path": "/" }), "response");
      session.destroy();
      return Number(headers[":status"]);
    };
    assert.equal(await get("http://app.localhost", () => front(of(rig).port)), 200);
    assert.equal(of(rig).records.at(-1)?.ip, "2001:db8::7");

    const secure = (protocol: string) =>
      connectTls({ socket: front(of(tls).port), servername: "app.localhost", ca: root.pem, ALPNProtocols: [protocol] });
    assert.equal(await get("https://app.localhost", () => secure("h2")), 200);
    assert.equal(of(tls).records.at(-1)?.ip, "2001:db8::7");
    const socket = secure("http/1.1");
    socket.write(request("app.localhost"));
    const [bytes] = await once(socket, "data");
    assert.equal(statusOf(String(bytes)), "200");
    assert.equal(of(tls).records.length, 2);
  });

  test("closes connections without a header when it stops", async () => {
    const one = await startRig([], { config: { useProxyProtocol: true } });
    const socket = connect(one.port, "127.0.0.1");
    await once(socket, "connect");
    socket.write("PROXY TC");
    socket.on("error", () => {}); // a reset is fine too
    await one.close();
    socket.resume();
    await waitFor("the connection to close", () => socket.destroyed);
  });
});
