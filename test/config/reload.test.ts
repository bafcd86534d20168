/** Reloads: which changes a running process applies, and which wait for its next start. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { loadConfig, reloadConfig } from "../../src/config/index.ts";
import { fieldName, keyMeta } from "../../src/config/schema/keys.ts";
import { globalKeys } from "../../src/config/schema/schema.ts";
import { TemporaryFolder } from "../support/child.ts";
import { base, config, cookieSecret, goodRoute, sharedSecret } from "./support.ts";

const text = base + goodRoute;
const reload = (next: string) => reloadConfig(config(text), config(next));

suite("takes effect at once", () => {
  const others: readonly (readonly [string, string])[] = [
    ["a policy", text.replace("authenticated_user: true", "accept: true")],
    ["a route", text.replace("app.example.com", "app2.example.com")],
    ["an upstream", text.replace("127.0.0.1:8091", "127.0.0.1:8092")],
    ["a header", `${text}    set_request_headers: {X-Key: a}\n`],
    ["a time-out", `${base}timeout_read: 7s\n${goodRoute}`],
    ["the drain time-out", `${base}drain_timeout: 7s\n${goodRoute}`],
    ["the identity provider", text.replace("idp.example.com", "idp2.example.com")],
    ["administrators", `${base}administrators: [group:ops]\n${goodRoute}`],
    ["the log level", `${base}log_level: debug\n${goodRoute}`],
    ["cookie_secret", text.replace(cookieSecret, Buffer.from(cookieSecret, "base64").reverse().toString("base64"))],
  ];
  for (const [name, next] of others) {
    test(name, () => {
      const { config: reloaded, waiting } = reload(next);
      assert.deepEqual([reloaded.hash, waiting], [config(next).hash, []]);
    });
  }
});

suite("keeps its value and is reported as waiting for a restart", () => {
  const others: readonly (readonly [string, string, readonly string[]])[] = [
    ["the address", text.replace("127.0.0.1:8443", "127.0.0.1:8444"), ["address"]],
    ["the cluster's secret", text.replace(sharedSecret, cookieSecret), ["shared_secret"]],
    ["the lease", `${base}broker: {lease: 9s}\n${goodRoute}`, ["broker.lease"]],
    [
      "the data folder",
      `${base}data_dir: elsewhere\n${goodRoute}`,
      ["data_dir", "databroker_storage_connection_string", "audit.spool_dir", "audit.sinks"],
    ],
    ["NATS", `${base}nats: {servers: [nats://127.0.0.1:4222]}\n${goodRoute}`, ["nats", "audit.sinks"]],
    ["the region", `${base}region: eu\n${goodRoute}`, ["region"]],
    ["the metrics password", `${base}metrics_basic_auth: YTpi\n${goodRoute}`, ["metrics_basic_auth"]],
    ["traces", `${base}otel_traces_exporter: otlp\n${goodRoute}`, ["otel_traces_exporter"]],
    [
      "the reload flag itself",
      `${base}runtime_flags: {config_hot_reload: false}\n${goodRoute}`,
      ["runtime_flags.config_hot_reload"],
    ],
    [
      "the address of the decision API",
      `${base}decision_api: {address: 127.0.0.1:9903}\n${goodRoute}`,
      ["decision_api"],
    ],
    ["the metrics address", `${base}metrics_address: off\n${goodRoute}`, ["metrics_address"]],
  ];
  for (const [name, next, keys] of others) {
    test(name, () => {
      const { config: reloaded, waiting } = reload(next);
      assert.deepEqual(waiting, keys);
      assert.equal(reloaded.hash, config(text).hash); // the hash of the configuration in force
    });
  }
  test("while other changes of the same file take effect", () => {
    const next = text.replace("127.0.0.1:8443", "127.0.0.1:8444").replace("app.example.com", "app2.example.com");
    const { config: reloaded } = reload(next);
    assert.equal(reloaded.hash, config(text.replace("app.example.com", "app2.example.com")).hash);
    assert.deepEqual([reloaded.address.port, reloaded.routes[0]?.host], [8443, "app2.example.com"]);
  });
});

test("the decision API keeps its address and applies new keys", () => {
  const api = (port: number, key: string) =>
    config(`${base}decision_api: {address: "127.0.0.1:${port}", keys: {todo: ${key}}}\n${goodRoute}`);
  const [one, other] = ["0123456789abcdefghijklmnopqrstuv", "vutsrqponmlkjihgfedcba9876543210"] as const;
  const { config: reloaded, waiting } = reloadConfig(api(9903, one), api(9904, other));
  assert.deepEqual(waiting, ["decision_api.address"]);
  assert.equal(reloaded.hash, api(9903, other).hash);
});

test("every key that needs a restart names a field of the configuration", () => {
  const running = config(text);
  const keys = Object.entries(globalKeys).filter(([, schema]) => keyMeta(schema).reload === "restart");
  assert.ok(keys.length > 20);
  for (const [key, schema] of keys) {
    const { configPaths } = keyMeta(schema);
    for (const path of configPaths.length === 0 ? [fieldName(key, schema)] : configPaths)
      assert.ok(Object.hasOwn(running, path.split(".")[0] ?? ""), `${key}: ${path}`);
  }
});

test("a configuration names every file that it depends on, including unreadable ones", () => {
  using folder = new TemporaryFolder("reload");
  const path = (name: string) => join(folder.path, name);
  writeFileSync(path("secret"), `${sharedSecret}\n`, { mode: 0o600 });
  const written = text.replace(/^shared_secret: .*$/m, `shared_secret_file: ${path("secret")}`);
  writeFileSync(path("cardea.yaml"), `${written}    tls_custom_ca_file: ${path("missing.pem")}\n`, { mode: 0o600 });
  const { ok, files } = loadConfig(path("cardea.yaml"), { env: {} });
  assert.equal(ok, false);
  assert.deepEqual(files, [path("cardea.yaml"), path("secret"), path("missing.pem")]);
});
