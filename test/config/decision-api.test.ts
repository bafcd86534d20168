/** The keys of the decision API: their effect, and the refused values. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { canonicalConfig } from "../../src/config/hash.ts";
import { reloadConfig } from "../../src/config/reload.ts";
import { base, certificate, config, errors, goodRoute, parse, warnings } from "./support.ts";

const file = (lines: string): string => `${base}decision_api:\n${lines}\n${goodRoute}`;
const key = "k3y-of-a-service-0123456789-abcdefgh";

suite("decision_api", () => {
  test("is off without an address, and accepts no caller by default", () => {
    assert.equal(config(`${base}${goodRoute}`).decisionApi, null);
    const text = file("  address: 127.0.0.1:9180");
    assert.deepEqual(config(text).decisionApi, {
      ...{ address: { host: "127.0.0.1", port: 9180 }, grpcAddress: null, tls: null, clientCa: null },
      ...{ trustedProxies: [], keys: {}, listsPeople: [], subjectIssuer: null, resources: {} },
    });
    assert.match(warnings(text).join("\n"), /accepts no caller/);
  });
  test("names trusted proxies and services; the canonical configuration contains no key", () => {
    const parsed = config(
      file(`  address: 127.0.0.1:9180\n  trusted_proxies: [10.0.0.0/8, "::1"]\n  keys: {wiki: ${key}}`),
    );
    assert.deepEqual(parsed.decisionApi?.trustedProxies, ["10.0.0.0/8", "::1"]);
    assert.deepEqual(parsed.decisionApi?.keys, { wiki: key });
    assert.ok(!canonicalConfig(parsed).includes(key));
  });
  test("requires TLS where other machines can reach it", () => {
    const pair = certificate(["localhost"]);
    const files = { "cert.pem": pair.cert, "key.pem": pair.key };
    const open = "  address: 0.0.0.0:9180\n  trusted_proxies: [10.0.0.7]";
    assert.match(
      errors(file(open)).join("\n"),
      /decision_api\.address: is open to other machines and has no certificate/,
    );
    const secured = `${open}\n  certificate_file: cert.pem\n  certificate_key_file: key.pem`;
    assert.ok(config(file(secured), { files }).decisionApi?.tls);
  });
  test("serves gRPC at its own address, and accepts client certificates", () => {
    const pair = certificate(["localhost"]);
    const files = { "cert.pem": pair.cert, "key.pem": pair.key, "ca.pem": pair.cert };
    const lines = "  grpc_address: 0.0.0.0:9181\n  client_ca_file: ca.pem";
    const without = errors(file(lines), { files }).join("\n");
    assert.match(without, /decision_api\.grpc_address: is open to other machines and has no certificate/);
    assert.match(without, /decision_api\.client_ca_file: has no effect without TLS/);
    const secured = `${lines}\n  certificate_file: cert.pem\n  certificate_key_file: key.pem`;
    const parsed = config(file(secured), { files }).decisionApi;
    assert.deepEqual([parsed?.address, parsed?.grpcAddress], [null, { host: "0.0.0.0", port: 9181 }]);
    assert.equal(parsed?.clientCa, pair.cert);
    assert.deepEqual(warnings(file(secured), { files }), [], "a holder of a certificate may call");
  });
  test("a reload changes the allowed callers; a new address waits for a restart", () => {
    const at = (lines: string) => config(file(`  address: 127.0.0.1:9180\n${lines}`));
    const running = at(`  keys: {wiki: ${key}}`);
    const other = key.toUpperCase();
    const reloaded = reloadConfig(running, at(`  keys: {blog: ${other}}\n  trusted_proxies: [10.0.0.7]`));
    assert.deepEqual(reloaded.waiting, []);
    assert.deepEqual(reloaded.config.decisionApi?.keys, { blog: other });
    assert.deepEqual(reloaded.config.decisionApi?.trustedProxies, ["10.0.0.7"]);
    const moved = reloadConfig(running, config(file(`  grpc_address: 127.0.0.1:9181\n  keys: {blog: ${other}}`)));
    assert.deepEqual(moved.waiting, ["decision_api.address", "decision_api.grpc_address"]);
    assert.deepEqual(moved.config.decisionApi, { ...running.decisionApi, keys: { blog: other } });
    const off = reloadConfig(running, config(`${base}${goodRoute}`));
    assert.deepEqual([off.waiting, off.config.decisionApi], [["decision_api"], running.decisionApi]);
  });
  test("maps resources and actions to requests; a template never chooses the host", () => {
    const withTemplate = (text: string): string =>
      `  address: 127.0.0.1:9180\n  resources: {todo: {update: "${text}"}}`;
    const parsed = config(
      file(withTemplate("PUT https://app.example.com/todos{/resource.status}/{id}?soft={action.soft}")),
    );
    assert.deepEqual(parsed.decisionApi?.resources["todo"]?.["update"], {
      ...{ method: "PUT", scheme: "https", authority: "app.example.com" },
      parts: [
        "/todos",
        { of: "resource", name: "status", form: "segment" },
        "/",
        { of: "id", name: "", form: "value" },
        "?soft=",
        { of: "action", name: "soft", form: "value" },
      ],
    });
    for (const wrong of [
      "https://app.example.com/",
      "PUT /todos/{id}",
      "PUT ftp://app.example.com/",
      "PUT https://{id}/",
      "PUT https://user@app.example.com/",
      "PUT https://app.example.com/{subject.id}",
      "PUT https://app.example.com/{id.x}",
      "PUT https://app.example.com/{resource}",
      "PUT https://app.example.com/{id",
    ])
      assert.match(errors(file(withTemplate(wrong))).join("\n"), /decision_api\.resources\.todo\.update: /, wrong);
    assert.ok(!parse(file("  address: 127.0.0.1:9180\n  resources: [todo]")).ok);
  });
  test("lists_people accepts only the names of configured keys", () => {
    const lines = `  address: 127.0.0.1:9180\n  keys: {wiki: ${key}}\n`;
    assert.deepEqual(config(file(`${lines}  lists_people: [wiki]`)).decisionApi?.listsPeople, ["wiki"]);
    for (const name of ["blog", "constructor"])
      assert.match(errors(file(`${lines}  lists_people: [${name}]`)).join("\n"), /no key is named/);
  });
  test("refuses ranges that are malformed or match all, and malformed keys", () => {
    const address = "  address: 127.0.0.1:9180\n";
    for (const range of ["proxy.example.com", "10.0.0.0/33", "10.0.0/8", "0.0.0.0/0", "::/0"])
      assert.ok(!parse(file(`${address}  trusted_proxies: ["${range}"]`)).ok, range);
    for (const keys of ["{wiki: short}", `{wiki: "${"a".repeat(40)}"}`, `{wiki: ${key}, blog: ${key}}`]) {
      const problems = errors(file(`${address}  keys: ${keys}`)).join("\n");
      assert.match(problems, /is not a strong key|have the same key/);
      assert.ok(!problems.includes(key));
    }
  });
});
