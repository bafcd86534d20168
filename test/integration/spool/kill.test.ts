/**
 * A whole proxy, killed under load: the callers' own histories against the records. Every answered request on a strict
 * route has its record, and every other one has a record or is declared lost.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type AuditRecord, parseLine } from "../../../src/audit/index.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";

const patience = { withinMs: 30_000 };
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

async function startUpstream(t: TestContext): Promise<number> {
  const server = createServer((_request, response) => void response.end("hello")).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Asks again and again; `answered` has the paths of complete answers. */
function startLoad(port: number, answered: Set<string>): () => void {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  let asked = 0;
  let stopped = false;
  function ask(): void {
    if (stopped) return;
    const host = asked % 4 === 0 ? "strict.localhost" : "best.localhost";
    const path = `/${host[0]}/${++asked}`;
    get({ port, host: "127.0.0.1", path, agent, headers: { host: `${host}:${port}` } }, (response) => {
      response.on("error", () => undefined);
      response.on("end", () => {
        if (response.complete && response.statusCode === 200) answered.add(path);
        ask();
      });
      response.resume();
    }).on("error", () => setTimeout(ask, 20));
  }
  for (let i = 0; i < 8; i++) ask();
  return () => {
    stopped = true;
    agent.destroy();
  };
}

test("kill -9 of a proxy under load loses no answer without a gap, and no strict one at all", async (t) => {
  using folder = new TemporaryFolder("killed-proxy");
  const upstream = await startUpstream(t);
  const [port = 0, broker = 0, metrics = 0] = await freePorts(3);
  const file = join(folder.path, "cardea.yaml");
  const audit = join(folder.path, "decisions.jsonl");
  const route = (name: string, mode: string) => ({
    ...{ from: `http://${name}.localhost:${port}`, to: `http://127.0.0.1:${upstream}`, audit: mode },
    allow_public_unauthenticated_access: true,
  });
  const config = {
    ...{ services: ["proxy", "databroker"], address: `127.0.0.1:${port}`, insecure_server: true, node_name: "node-1" },
    ...{ broker: { listen: `127.0.0.1:${broker}` }, metrics_address: `127.0.0.1:${metrics}` },
    ...{ data_dir: join(folder.path, "data"), databroker_storage_type: "file" },
    ...{ shared_secret: secret(3), cookie_secret: secret(5) },
    audit: { sinks: [{ file: audit }] },
    routes: [route("strict", "strict"), route("best", "best_effort")],
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
  const answered = new Set<string>();
  for (let round = 1; round <= 3; round++) {
    const child = await start();
    const stop = startLoad(port, answered);
    const before = answered.size;
    await waitFor("answers", () => answered.size > before + 300 * round, patience);
    await child.end("SIGKILL");
    stop();
  }
  const last = await start();
  await last.end("SIGTERM");
  const records = readFileSync(audit, "utf8")
    .split("\n")
    .flatMap((line): AuditRecord[] => {
      const record = parseLine(line);
      return record === undefined ? [] : [record];
    });
  const paths = new Set(records.flatMap((record) => (record.kind === "decision" ? [record.path] : [])));
  const missing = [...answered].filter((path) => !paths.has(path));
  assert.deepEqual(
    missing.filter((path) => path.startsWith("/s/")),
    [],
    "strict records are on disk before the answer",
  );
  const ids = new Set(records.map(({ boot, seq }) => `${boot}:${seq}`));
  const declared = new Set<string>();
  for (const record of records) {
    if (record.kind !== "gap") continue;
    for (let seq = record.first; seq <= record.last; seq++) declared.add(`${record.boot}:${seq}`);
  }
  assert.ok(missing.length <= declared.size, `${missing.length} answers without a record, ${declared.size} declared`);
  const boots = new Set(records.map(({ boot }) => boot));
  assert.equal(boots.size, 3, "each killed boot; the last one decided nothing");
  for (const boot of boots) {
    const newest = Math.max(...records.filter((record) => record.boot === boot).map(({ seq }) => seq));
    for (let seq = 1; seq <= newest; seq++) {
      const id = `${boot}:${seq}`;
      assert.ok(ids.has(id) || declared.has(id), `${id} has neither a record nor a gap`);
    }
  }
});
