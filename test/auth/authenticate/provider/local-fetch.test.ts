/** Local fetch: resolution of localhost names and configured host aliases. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo, LookupFunction } from "node:net";
import { test } from "node:test";
import { createLocalFetch, createLocalLookup } from "../../../../src/auth/authenticate/provider/local-fetch.ts";

const queries: string[] = [];
/** A DNS that knows one name and records its queries. */
const dns: LookupFunction = (hostname, _options, callback) => {
  queries.push(hostname);
  if (hostname === "load-balancer") callback(null, "192.0.2.7", 4);
  else callback(Object.assign(new Error(`no such host ${hostname}`), { code: "ENOTFOUND" }), "", 0);
};

function find(name: string, hosts: Readonly<Record<string, string>> = {}): Promise<string | readonly unknown[]> {
  return new Promise((resolve, reject) =>
    createLocalLookup(hosts, dns)(name, {}, (error, address) => (error === null ? resolve(address) : reject(error))),
  );
}

test("localhost names resolve to loopback without a DNS query", async () => {
  queries.length = 0;
  for (const name of ["localhost", "idp.localhost", "IDP.LocalHost", "idp.localhost."])
    assert.equal(await find(name), "127.0.0.1");
  assert.deepEqual(queries, []);
});

test("an alias that is an address resolves to it, with its address family", async () => {
  queries.length = 0;
  assert.equal(await find("idp.localhost", { "idp.localhost": "192.0.2.1" }), "192.0.2.1");
  createLocalLookup({ "idp.localhost": "2001:db8::1" }, dns)("idp.localhost", { all: true }, (_error, found) =>
    assert.deepEqual(found, [{ address: "2001:db8::1", family: 6 }]),
  );
  assert.deepEqual(queries, []);
});

test("an alias that is a name is resolved by DNS, and the original name is not", async () => {
  queries.length = 0;
  assert.equal(await find("idp.localhost", { "idp.localhost": "load-balancer" }), "192.0.2.7");
  assert.deepEqual(queries, ["load-balancer"]);
});

test("every other name is resolved by DNS", async () => {
  await assert.rejects(find("example.com", { "idp.localhost": "load-balancer" }), { code: "ENOTFOUND" });
  await assert.rejects(find("constructor"), { code: "ENOTFOUND" });
});

test("a call to an alias keeps the Host of its URL", async () => {
  const server = createServer((request, response) => response.end(request.headers.host));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const local = createLocalFetch({ hosts: { "idp.example.com": "127.0.0.1" }, timeoutMs: 2_000 });
  try {
    const response = await local.fetch(`http://idp.example.com:${port}/`);
    assert.equal(await response.text(), `idp.example.com:${port}`);
  } finally {
    await local.close();
    server.close();
    server.closeAllConnections();
  }
});
