/** A process loads only the libraries of the services that it runs. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, globSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { TemporaryFolder } from "../support/child.ts";
import { mainFile } from "../support/program.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const loaded: string[] = [];
registerHooks({
  load(url, context, next) {
    if (url.startsWith("file:")) loaded.push(fileURLToPath(url));
    return next(url, context);
  },
});

const otherServices = {
  "a broker": /\/src\/broker\//,
  "the demo": /\/src\/dev\/|\/node_modules\/oidc-provider\//,
  "operators' commands": /\/src\/cli\/(commands|operator-client|policy-eval|snapshot)\.ts$/,
  NATS: /\/node_modules\/@nats-io\//,
  Postgres: /\/node_modules\/pg\//,
  "gRPC and its messages": /\/node_modules\/(@grpc|protobufjs)\//,
  "revocation lists": /\/node_modules\/@peculiar\//,
  "certificates by ACME": /\/node_modules\/acme-client\//,
  "the gateway to another process": /\/node_modules\/(@fastify\/http-proxy|ws)\//,
};

let formats = 0;
const { DateTimeFormat } = Intl;
Intl.DateTimeFormat = new Proxy(DateTimeFormat, {
  construct(target, args, newTarget) {
    formats++;
    return Reflect.construct(target, args, newTarget);
  },
});

const loadedMatching = (pattern: RegExp): readonly string[] => loaded.filter((path) => pattern.test(path));

test("a process that is only a proxy loads no library of other services", async () => {
  await import("../../src/cli/commands/run.ts");
  await import("../../src/cli/build/services.ts");
  assert.ok(loaded.includes(`${root}src/proxy/proxy-server.ts`));
  for (const [what, pattern] of Object.entries(otherServices))
    assert.deepEqual(loadedMatching(pattern).slice(0, 3), [], what);
  assert.equal(formats, 0, "the first format of dates takes 11 ms");
});

test("the built program does not load Node's own undici before it is used", (t) => {
  const list = 'process.on("exit", () => console.log(JSON.stringify(process.moduleLoadList)))';
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [
      ...["--no-warnings", "--import", `data:text/javascript,${encodeURIComponent(list)}`],
      ...[builtProgram(t), "run", "-c", "missing.yaml"],
    ],
    { encoding: "utf8" },
  );
  assert.match(stderr, /missing\.yaml/);
  const names = JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as readonly string[];
  assert.ok(names.some((name) => name.endsWith(" http")));
  assert.deepEqual(
    names.filter((name) => /undici/.test(name)),
    [],
  );
});

test("the built program starts with the code of a start, and without it if its text is another", (t) => {
  const main = builtProgram(t);
  const [code] = globSync("program.*.code", { cwd: dirname(main) });
  assert.ok(code !== undefined, "scripts/keep-code.ts kept none");
  const { rejected, outsideBytes } = helpOf(main);
  assert.equal(rejected, "false");
  const [textBytes, codeBytes] = ["program.cjs", code].map((name) => statSync(join(dirname(main), name)).size);
  // What was read of both, and less than another text of that size.
  const outsideMax = 2 * (textBytes ?? 0) + (codeBytes ?? 0);
  assert.ok(outsideBytes < outsideMax, `${outsideBytes} bytes are outside of V8's heap: a text there slows the start`);
  assert.equal(helpOf(main, "--single-threaded-gc").rejected, "false", "one file serves both ways to collect garbage");

  using folder = new TemporaryFolder("other-text");
  const other = join(folder.path, "dist");
  mkdirSync(other);
  copyFileSync(join(root, "package.json"), join(folder.path, "package.json"));
  symlinkSync(join(root, "node_modules"), join(folder.path, "node_modules"));
  for (const name of ["main.js", "gc-threads.cjs", code]) copyFileSync(join(dirname(main), name), join(other, name));
  const text = readFileSync(join(dirname(main), "program.cjs"), "latin1");
  assert.ok(
    !text.includes("se esperaba"),
    "zod is imported with `import * as z`, so its languages are not in the text",
  );
  const [title, otherTitle] = ["an identity-aware access proxy", "An Identity-Aware Access Proxy"];
  writeFileSync(join(other, "program.cjs"), text.replaceAll(title, otherTitle), "latin1");
  const changed = helpOf(join(other, "main.js"));
  assert.ok(changed.out.includes(otherTitle), changed.out);
  assert.equal(changed.rejected, "undefined", "there is no code for this text, which has the same length");
});

/**
 * `rejected`: what V8 says of the kept code; "undefined" if there was none. `outsideBytes`: what is in use outside of
 * V8's heap, by texts of Node's own modules too.
 */
function helpOf(
  main: string,
  ...flags: readonly string[]
): Readonly<{ out: string; rejected: string; outsideBytes: number }> {
  const url = JSON.stringify(pathToFileURL(main).href);
  const program = `const { script } = await import(${url});
    console.error(script.cachedDataRejected + " " + process.memoryUsage().external);`;
  const args = [...flags, "--input-type=module", "-e", program, "--", "help"];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  const [rejected = "", outsideBytes] = stderr.trim().split(" ");
  return { out: stdout, rejected, outsideBytes: Number(outsideBytes) };
}

function builtProgram(t: TestContext): string {
  if (mainFile.endsWith(".js")) return mainFile;
  const folder = new TemporaryFolder("built");
  t.after(() => folder[Symbol.dispose]());
  assert.equal(spawnSync(process.execPath, [`${root}scripts/build.ts`, folder.path]).status, 0);
  return join(folder.path, "dist", "main.js");
}

test("the libraries for NATS, Postgres and revocation lists are loaded on first use", async () => {
  const { natsJetstream, natsTransport } = await import("../../src/replication/fanout/index.ts");
  const { postgresDriver } = await import("../../src/replication/log/postgres/driver.ts");
  const { certificateReader } = await import("../../src/config/index.ts");
  assert.equal(typeof natsTransport().connect, "function");
  assert.equal(typeof natsJetstream().jetstream, "function");
  assert.equal(typeof postgresDriver().Client, "function");
  assert.equal(typeof certificateReader().X509Crl, "function");
  for (const what of ["NATS", "Postgres", "revocation lists"] as const)
    assert.notEqual(loadedMatching(otherServices[what]).length, 0, what);
});

test("a Fastify without JSON schemas loads no schema compiler, and refuses a route with a schema", async () => {
  const { withoutJsonSchemas } = await import("../../src/replication/runtime/index.ts");
  const { default: Fastify } = await import("fastify");
  const app = Fastify({ schemaController: withoutJsonSchemas });
  app.get("/without", async () => ({ well: true }));
  assert.deepEqual((await app.inject("/without")).json(), { well: true });
  assert.deepEqual(loadedMatching(/\/node_modules\/@fastify\/(ajv-compiler|fast-json-stringify-compiler)\//), []);
  await app.close();
  const other = Fastify({ schemaController: withoutJsonSchemas });
  other.post("/with", { schema: { body: { type: "object" } } }, async () => ({}));
  await assert.rejects(Promise.resolve(other.ready()), /must not have JSON schemas/);
});
