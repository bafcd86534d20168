/**
 * Reading a configuration from disk: the file, the files that it names, generated secrets, and the file of `cardea
 * dev`.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { formatProblem, type LoadOptions, loadConfig } from "../../src/config/index.ts";
import { base, goodRoute, sharedSecret } from "./support.ts";

const folder = mkdtempSync(join(tmpdir(), "cardea-config-"));
after(() => rmSync(folder, { recursive: true, force: true }));

function createFile(name: string, text: string, mode = 0o600): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}
function problemsOf(path: string | null, options: Partial<LoadOptions> = {}): readonly string[] {
  const result = loadConfig(path, { env: {}, ...options });
  return (result.ok ? result.warnings : result.problems).map((problem) =>
    formatProblem(problem).replace(`: ${problem.severity}: `, ": ").replaceAll(`${folder}/`, ""),
  );
}
const withoutSecrets = `${base.replace(/^(shared_secret|cookie_secret):.*$/gm, "#")}${goodRoute}`;

suite("the configuration file", () => {
  test("loads without a warning", () => assert.deepEqual(problemsOf(createFile("good.yaml", base + goodRoute)), []));
  test("may be JSON", () => {
    const json = JSON.stringify({ address: "x" }, null, 2);
    assert.match(problemsOf(createFile("c.json", json))[0] ?? "", /^c\.json:/);
  });
  test("that does not exist is an error with a remedy", () => {
    assert.deepEqual(problemsOf(join(folder, "gone.yaml")), [
      "gone.yaml: (file): cannot be read: it does not exist; name the configuration file with -c",
    ]);
  });
  test("with a key that names a pipe, a device or a folder is refused, and the pipe or device is not opened", () => {
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    for (const path of [pipe, "/dev/zero", folder]) {
      const file = createFile("special.yaml", `shared_secret_file: ${path}\n`);
      // Opening a pipe without a writer would never return.
      assert.match(problemsOf(file).join(), /shared_secret_file: .*cannot be read: it is (not a file|a folder)/);
    }
  });
  test("must not be a folder", () => {
    assert.match(problemsOf(folder).join(), /cannot be read: it is a folder/);
  });
  test("in TOML is refused", () => {
    assert.deepEqual(problemsOf(createFile("c.toml", "a = 1")), [
      "c.toml: (file): is TOML, which is not supported; write it as YAML",
    ]);
  });
  test("with secrets that every user can read is a warning", () => {
    assert.match(
      problemsOf(createFile("open.yaml", base + goodRoute, 0o644)).join(),
      /^open\.yaml:4:1: shared_secret: every user of this machine can read/,
    );
  });
  test("is optional: all keys may come from the environment", () => {
    const lines = base
      .trim()
      .split("\n")
      .map((line) => line.split(": "));
    const env = Object.fromEntries(lines.map(([key = "", value = ""]) => [key.toUpperCase(), value]));
    const result = loadConfig(null, { env });
    assert.equal(result.ok && result.config.file, "environment");
  });
});

suite("files named by keys", () => {
  test("are read, and their mode is checked", () => {
    const secret = createFile("secret", `${sharedSecret}\n`, 0o644);
    const path = createFile(
      "named.yaml",
      `${base.replace(/^shared_secret:.*$/m, `shared_secret_file: ${secret}`)}${goodRoute}`,
    );
    assert.deepEqual(problemsOf(path), [
      "named.yaml:4:21: shared_secret_file: every user of this machine can read secret; chmod 600 secret",
    ]);
  });
  test("that are devices are refused", () => {
    const path = createFile(
      "device.yaml",
      `${base.replace(/^shared_secret:.*$/m, "shared_secret_file: /dev/zero")}${goodRoute}`,
    );
    assert.match(problemsOf(path).join(), /\/dev\/zero cannot be read: it is not a file/);
  });
});

suite("generated secrets", () => {
  const load = (dataDir: string, options: Partial<LoadOptions> = {}) =>
    loadConfig(createFile("none.yaml", withoutSecrets), { env: {}, dataDir, ...options });
  const secretsOf = (result: ReturnType<typeof load>) =>
    result.ok ? [result.config.sharedSecret, result.config.cookieSecret] : [];

  test("are stored in the data folder, readable only by the process's user, and reused", () => {
    const dataDir = join(folder, "kept/deep");
    const first = load(dataDir);
    assert.equal(first.ok, true);
    assert.equal(statSync(join(dataDir, "secrets.json")).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(dataDir), ["secrets.json"]);
    assert.deepEqual(secretsOf(load(dataDir)), secretsOf(first));
    assert.notDeepEqual(...(secretsOf(first) as [Uint8Array, Uint8Array]));
  });
  test("are not stored when the configuration is only checked", () => {
    const dataDir = join(folder, "checked");
    assert.equal(load(dataDir, { missingSecrets: "forget" }).ok, true);
    assert.throws(() => statSync(dataDir));
  });
  test("are refused where they must be configured", () => {
    const result = load(join(folder, "refused"), { missingSecrets: "refuse" });
    assert.deepEqual(result.ok ? [] : result.problems.map(({ key }) => key), ["shared_secret", "cookie_secret"]);
  });
  test("include the identity provider's client secret only on request", () => {
    const text = withoutSecrets.replace(/^idp_client_secret:.*$/m, "#");
    const path = createFile("demo.yaml", text);
    const dataDir = join(folder, "demo");
    assert.equal(loadConfig(path, { env: {}, dataDir }).ok, false);
    const result = loadConfig(path, {
      env: {},
      dataDir,
      generate: ["shared_secret", "cookie_secret", "idp_client_secret"],
    });
    assert.equal(result.ok && (result.config.idp?.clientSecret.length ?? 0) >= 43, true);
  });
  test("that other users can read are not used", () => {
    const dataDir = join(folder, "open");
    load(dataDir);
    chmodSync(join(dataDir, "secrets.json"), 0o644);
    assert.match(
      problemsOf(createFile("none.yaml", withoutSecrets), { dataDir }).join(),
      /data_dir: generated secrets cannot be stored there: other users can read/,
    );
  });
  test("that are damaged are not replaced silently", () => {
    const dataDir = join(folder, "damaged");
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, "secrets.json"), "{", { mode: 0o600 });
    assert.match(
      problemsOf(createFile("none.yaml", withoutSecrets), { dataDir }).join(),
      /does not contain the three secrets/,
    );
    assert.equal(readFileSync(join(dataDir, "secrets.json"), "utf8"), "{");
  });
  test("are not written through a dangling symbolic link", () => {
    const dataDir = join(folder, "linked");
    mkdirSync(dataDir);
    symlinkSync(join(folder, "elsewhere"), join(dataDir, "secrets.json"));
    assert.equal(load(dataDir).ok, false);
    assert.throws(() => statSync(join(folder, "elsewhere")));
  });
  test("in a folder that cannot be created are a problem, not a crash", () => {
    const path = createFile("none.yaml", withoutSecrets);
    assert.match(
      problemsOf(path, { dataDir: join(path, "below") }).join(),
      /data_dir: generated secrets cannot be stored there: a part of its path is not a folder/,
    );
  });
});

suite("cardea.dev.yaml", () => {
  const path = new URL("../../cardea.dev.yaml", import.meta.url).pathname;
  const dev = {
    env: {},
    missingSecrets: "forget",
    generate: ["shared_secret", "cookie_secret", "idp_client_secret"],
  } as const;
  test("is read without a warning", () => assert.deepEqual(problemsOf(path, dev), []));
  test("moves completely to other ports", () => {
    const result = loadConfig(path, {
      ...dev,
      overrides: { ports: { 8080: 9000, 8091: 9011, 8092: 9012, 8093: 9013 } },
    });
    assert.ok(result.ok);
    const { config } = result;
    assert.equal(JSON.stringify(config).match(/80(80|91|92|93)/), null);
    assert.deepEqual(
      [config.address.port, config.metricsAddress?.port, config.authenticateServiceUrl.port, config.idp?.url.port],
      [9000, 9013, "9000", "9000"],
    );
    assert.deepEqual(
      config.routes.map(({ host, port, to }) => [host, port, to[0]?.url.port]),
      [
        ["start.localhost", 9000, "9011"],
        ["app.localhost", 9000, "9011"],
        ["eng.localhost", 9000, "9011"],
        ["public.localhost", 9000, "9011"],
        ["idp.localhost", 9000, "9012"],
      ],
    );
  });
  test("moves to the memory store and another data folder", () => {
    const result = loadConfig(path, {
      ...dev,
      dataDir: "/elsewhere",
      overrides: { values: { databroker_storage_type: "memory" } },
    });
    assert.deepEqual(result.ok && [result.config.store, result.config.dataDir], [{ type: "memory" }, "/elsewhere"]);
  });
});
