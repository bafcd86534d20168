/** Addresses of an upstream's name: the one that is connected to, by dns_lookup_family. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo, LookupFunction } from "node:net";
import { after, suite, test } from "node:test";
import { createUpstreamLookups, type LookupFamily } from "../../../src/proxy/upstream/lookup.ts";
import { publicAccess, routeTo, startRig } from "../support.ts";

const families: readonly LookupFamily[] = ["V4_PREFERRED", "V4_ONLY", "V6_ONLY", "AUTO", "ALL"];

/** A resolver that knows three names, IPv6 addresses first. */
const system: LookupFunction = (hostname, _options, callback) => {
  if (hostname === "six.example") return callback(null, [{ address: "2001:db8::6", family: 6 }]);
  if (hostname === "four.example") return callback(null, [{ address: "192.0.2.4", family: 4 }]);
  if (hostname !== "both.example") return callback(Object.assign(new Error("no"), { code: "ENOTFOUND" }), "", 0);
  callback(null, [
    { address: "2001:db8::1", family: 6 },
    { address: "192.0.2.1", family: 4 },
  ]);
};

async function addressesOf(hostname: string, family: LookupFamily, all: boolean): Promise<string> {
  const lookup = createUpstreamLookups(system)(family);
  return new Promise((resolve) =>
    lookup(hostname, { all }, (error, address) => {
      if (error !== null) resolve(String(error.code));
      else resolve(typeof address === "string" ? address : address.map((one) => one.address).join(" "));
    }),
  );
}

suite("a name with addresses of both families", () => {
  const expected: Readonly<Record<LookupFamily, string>> = {
    V4_PREFERRED: "192.0.2.1",
    V4_ONLY: "192.0.2.1",
    V6_ONLY: "2001:db8::1",
    AUTO: "2001:db8::1",
    ALL: "2001:db8::1 192.0.2.1",
  };
  for (const family of families)
    test(`${family}: ${expected[family]}`, async () => {
      assert.equal(await addressesOf("both.example", family, true), expected[family]);
      assert.equal(await addressesOf("both.example", family, false), expected[family].split(" ", 1)[0]);
    });
});

test("a name with addresses of one family: a mere preference uses that family", async () => {
  for (const family of ["V4_PREFERRED", "AUTO", "ALL"] as const) {
    assert.equal(await addressesOf("six.example", family, true), "2001:db8::6");
    assert.equal(await addressesOf("four.example", family, true), "192.0.2.4");
  }
  assert.equal(await addressesOf("six.example", "V4_ONLY", true), "ENOTFOUND");
  assert.equal(await addressesOf("four.example", "V6_ONLY", true), "ENOTFOUND");
});

test("an address needs no lookup, localhost is loopback, and an unknown name is an error", async () => {
  for (const family of families) {
    assert.equal(await addressesOf("192.0.2.9", family, true), "192.0.2.9");
    assert.equal(await addressesOf("2001:db8::9", family, false), "2001:db8::9");
    assert.equal(await addressesOf("nowhere.example", family, true), "ENOTFOUND");
  }
  assert.equal(await addressesOf("app.localhost", "V4_PREFERRED", true), "127.0.0.1 ::1");
  assert.equal(await addressesOf("app.localhost", "AUTO", true), "::1 127.0.0.1");
  assert.equal(await addressesOf("app.localhost", "V4_ONLY", true), "127.0.0.1");
  assert.equal(await addressesOf("app.localhost", "V6_ONLY", true), "::1");
});

suite("an upstream that listens on one family only", () => {
  const server = createServer((_req, res) => res.end("here"));
  after(() => server.close());
  for (const [family, status] of [
    ["V4_PREFERRED", 200],
    ["AUTO", 200],
    ["V4_ONLY", 200],
    ["V6_ONLY", 503],
  ] as const)
    test(`${family}: ${status}`, async (t) => {
      if (!server.listening) {
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
      }
      const { port } = server.address() as AddressInfo;
      const to = [{ url: new URL(`http://upstream.localhost:${port}`), weight: null }];
      const rig = await startRig([routeTo(0, { ...publicAccess, to })], { config: { dnsLookupFamily: family } });
      t.after(() => rig.close());
      assert.equal((await rig.request({})).status, status);
    });
});
