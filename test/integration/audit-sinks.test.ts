/**
 * A whole proxy with every sink that sends over HTTP, killed while answers of the receivers are lost: each sink has
 * every record of a strict route, and a batch that is sent again has the same name and the same content.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { Webhook } from "standardwebhooks";
import { parseLine } from "../../src/audit/index.ts";
import { TestReceiver } from "../audit/sinks/test-receiver.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { mainFile } from "../support/program.ts";
import { S3Server, s3Credentials } from "../support/s3-server.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 30_000 };
const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

async function startUpstream(t: TestContext): Promise<number> {
  const server = createServer((_request, response) => void response.end("hello"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const pathsIn = (text: string): string[] =>
  text.split("\n").flatMap((line) => {
    const record = parseLine(line);
    return record?.kind === "decision" ? [record.path] : [];
  });

test("kill -9 while answers are lost: every sink has every strict record, and batches keep their names", async (t) => {
  using folder = new TemporaryFolder("audit-sinks");
  const upstream = await startUpstream(t);
  const [hook, collector, store] = [
    await new TestReceiver().start(),
    await new TestReceiver().start(),
    await new S3Server().start(),
  ];
  for (const server of [hook, collector, store]) t.after(() => server.stop());
  collector.answer = (_, response) => {
    response.writeHead(200).end("{}");
    return undefined;
  };
  const [port = 0, broker = 0, metrics = 0] = await freePorts(3);
  const [file, audit] = [join(folder.path, "cardea.yaml"), join(folder.path, "decisions.jsonl")];
  writeFileSync(join(folder.path, "hook"), `${hookSecret}\n`, { mode: 0o600 });
  writeFileSync(join(folder.path, "s3"), s3Credentials.secretAccessKey, { mode: 0o600 });
  const batch = { batch_wait: "50ms", timeout: "2s" };
  const config = {
    ...{ services: ["proxy", "databroker"], address: `127.0.0.1:${port}`, insecure_server: true, node_name: "node-1" },
    ...{ broker: { listen: `127.0.0.1:${broker}` }, metrics_address: `127.0.0.1:${metrics}` },
    ...{ data_dir: join(folder.path, "data"), databroker_storage_type: "file" },
    ...{ shared_secret: secret(3), cookie_secret: secret(5) },
    audit: {
      mode: "strict",
      sinks: [
        { file: audit, rotate: { every: "1h" } },
        { webhook: hook.url.href, secret_files: [join(folder.path, "hook")], body: "array", ...batch },
        { otlp: collector.url.href, encoding: "json", ...batch },
        {
          ...{ s3: store.bucket, endpoint: store.url.origin, region: store.region, ...batch },
          ...{ access_key_id: s3Credentials.accessKeyId, secret_access_key_file: join(folder.path, "s3") },
        },
      ],
    },
    routes: [
      {
        ...{ from: `http://app.localhost:${port}`, to: `http://127.0.0.1:${upstream}` },
        allow_public_unauthenticated_access: true,
      },
    ],
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  const start = async (): Promise<Child> => {
    const args = ["--no-warnings", mainFile, "run", "-c", file];
    const child = await Child.start({ command: process.execPath, args, logFile: join(folder.path, "log") });
    t.after(() => child.end("SIGKILL"));
    const isReady = async (): Promise<boolean> => {
      assert.ok(child.running, child.log());
      return (await fetch(`http://127.0.0.1:${metrics}/readyz`)).ok;
    };
    await waitFor("the process to be ready", isReady, patience);
    return child;
  };
  let asked = 0;
  const request = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const path = `/p/${++asked}`;
      get({ port, host: "127.0.0.1", path, headers: { host: `app.localhost:${port}` } }, (response) => {
        response.resume().on("end", resolve);
        if (response.statusCode !== 200) reject(new Error(`${response.statusCode}`));
      }).on("error", reject);
    });

  const first = await start();
  for (let i = 0; i < 20; i++) await request();
  await waitFor(
    "a delivery to each",
    () => hook.got.length > 0 && collector.got.length > 0 && store.puts.length > 0,
    patience,
  );
  // From here on, what is accepted is not answered.
  hook.answer = (_, response) => {
    response.destroy();
    return undefined;
  };
  collector.answer = hook.answer;
  store.after = (_, response) => {
    response.destroy();
    return true;
  };
  const before = [hook.got.length, collector.got.length, store.puts.length];
  for (let i = 0; i < 20; i++) await request();
  const sent = (): number[] => [hook.got.length, collector.got.length, store.puts.length];
  await waitFor("unanswered deliveries", () => sent().every((count, i) => count > (before[i] ?? 0)), patience);
  await first.end("SIGKILL");
  hook.answer = () => 204;
  collector.answer = (_, response) => {
    response.writeHead(200).end("{}");
    return undefined;
  };
  store.after = () => false;

  const second = await start();
  for (let i = 0; i < 5; i++) await request();
  await second.end("SIGTERM");

  const all = Array.from({ length: asked }, (_, i) => `/p/${i + 1}`);
  const bodies = new Map<string, string>();
  for (const got of hook.got) {
    const text = got.body.toString();
    new Webhook(hookSecret).verify(text, got.headers as Record<string, string>);
    const id = String(got.headers["webhook-id"]);
    assert.equal(bodies.get(id) ?? text, text, `${id} is always the same batch`);
    bodies.set(id, text);
  }
  const hooked = [...bodies.values()].flatMap((body) => JSON.parse(body) as { path?: string }[]);
  assert.deepEqual(
    hooked.flatMap(({ path }) => path ?? []),
    all,
    "by its id, every record once",
  );
  assert.ok(hook.got.length > bodies.size, "something was sent again");

  const logs = collector.got.flatMap(({ body }) => [
    ...gunzipSync(body)
      .toString()
      .matchAll(/"url\.path","value":\{"stringValue":"([^"]+)"/g),
  ]);
  assert.deepEqual(new Set(logs.map(([, path]) => path)), new Set(all));

  const objects = [...store.objects.values()].flatMap(({ body }) => pathsIn(gunzipSync(body).toString()));
  assert.deepEqual(objects.toSorted(), all.toSorted(), "by its key, every record once");
  assert.ok(
    [...store.objects.keys()].every((key) => /^node=node-1\/date=[\d-]+\/hour=\d\d\/.+\.ndjson\.gz$/.test(key)),
  );
  assert.deepEqual(store.complaints, []);

  const files = readdirSync(folder.path).filter((name) => name.startsWith("decisions"));
  assert.deepEqual(
    new Set(pathsIn(files.map((name) => readFileSync(join(folder.path, name), "utf8")).join(""))),
    new Set(all),
  );
});
