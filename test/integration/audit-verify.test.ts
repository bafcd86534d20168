/**
 * `cardea audit verify` over what a whole process has stored: its log in Postgres, its records in Postgres, in object
 * storage, and in the spool that it left because one sink was down. In each store, one record is altered, one removed,
 * and two change places.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { frameAt, frameHeadOf, frameSeed, type SpoolFrame } from "../../src/audit/spool/frame.ts";
import { type CommandOutput, run } from "../cli/support.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { startPostgres } from "../support/postgres.ts";
import { withClient } from "../support/postgres-client.ts";
import { mainFile } from "../support/program.ts";
import { S3Server, s3Credentials } from "../support/s3-server.ts";
import type { PostgresServer } from "../support/service.ts";
import { waitFor } from "../support/wait-for.ts";

const patience = { withinMs: 30_000 };
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");
const recordsCount = 60;

const folder = new TemporaryFolder("audit-verify");
const file = join(folder.path, "cardea.yaml");
const spool = join(folder.path, "data", "audit", "spool", "node-1");
const store = new S3Server();
const upstream = createServer((_request, response) => void response.end("hello"));
let postgres: PostgresServer;
let logUrl: string;
let auditUrl: string;

const verify = (...args: readonly string[]): Promise<CommandOutput> =>
  run(["audit", "verify", "-c", file, "--require-sealed", ...args]);

before(async () => {
  postgres = await startPostgres();
  await store.start();
  await new Promise<void>((done) => upstream.listen(0, "127.0.0.1", done));
  [logUrl, auditUrl] = [await postgres.newDatabase(), await postgres.newDatabase()];
  const [port = 0, broker = 0, metrics = 0, down = 0] = await freePorts(4);
  writeFileSync(join(folder.path, "s3"), s3Credentials.secretAccessKey, { mode: 0o600 });
  writeFileSync(join(folder.path, "url"), auditUrl, { mode: 0o600 });
  writeFileSync(join(folder.path, "hook"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", { mode: 0o600 });
  const config = {
    ...{ services: ["proxy", "databroker"], address: `127.0.0.1:${port}`, insecure_server: true, node_name: "node-1" },
    ...{ broker: { listen: `127.0.0.1:${broker}` }, metrics_address: `127.0.0.1:${metrics}` },
    ...{ databroker_storage_type: "postgres", databroker_storage_connection_string: logUrl },
    ...{ data_dir: join(folder.path, "data"), shared_secret: secret(3), cookie_secret: secret(5) },
    audit: {
      seal_interval: "1s",
      sinks: [
        { postgres: true, url_file: join(folder.path, "url") },
        {
          ...{ s3: store.bucket, endpoint: store.url.origin, region: store.region, batch_wait: "50ms" },
          ...{ access_key_id: s3Credentials.accessKeyId, secret_access_key_file: join(folder.path, "s3") },
        },
        { webhook: `http://127.0.0.1:${down}/`, secret_files: [join(folder.path, "hook")], timeout: "1s" },
      ],
    },
    routes: [
      {
        ...{ from: `http://app.localhost:${port}`, to: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}` },
        allow_public_unauthenticated_access: true,
      },
    ],
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  const args = ["--no-warnings", mainFile, "run", "-c", file];
  const child = await Child.start({ command: process.execPath, args, logFile: join(folder.path, "log") });
  const measured = async (path: string): Promise<string> => {
    assert.ok(child.running, child.log());
    const answer = await fetch(`http://127.0.0.1:${metrics}${path}`);
    return answer.ok ? await answer.text() : "";
  };
  await waitFor("the process to be ready", async () => (await measured("/readyz")) !== "", patience);
  const ask = (path: string): Promise<void> =>
    new Promise((resolve, reject) => {
      get({ port, host: "127.0.0.1", path, headers: { host: `app.localhost:${port}` } }, (response) => {
        response.resume().on("end", resolve);
      }).on("error", reject);
    });
  for (let n = 1; n <= recordsCount; n++) {
    await ask(`/p/${n}`);
    if (n === 40)
      await waitFor("a seal", async () => /^cardea_audit_sealed\S* [1-9]/m.test(await measured("/metrics")), patience);
  }
  const isSealed = async (): Promise<boolean> => {
    const { code, out } = await verify("--kept", "postgres");
    return code === 0 && out.includes(` ${recordsCount} numbers match`);
  };
  await waitFor("every record to be stored, and sealed in what the log has made durable", isSealed, patience);
  await child.end("SIGTERM");
});

after(async () => {
  upstream.closeAllConnections();
  upstream.close();
  await store.stop();
  await postgres.stop();
  folder.remove();
});

/** Lines of JSON: the fifth is altered, the twelfth removed, and the twentieth comes after the twenty-first. */
function tamper(lines: readonly string[]): readonly string[] {
  const at = (seq: number): number => lines.findIndex((line) => (JSON.parse(line) as { seq: number }).seq === seq);
  const altered = lines.with(at(5), (lines[at(5)] ?? "").replace("/p/5", "/p/6"));
  const swapped = altered.with(at(20), lines[at(21)] ?? "").with(at(21), lines[at(20)] ?? "");
  return swapped.filter((_, index) => index !== at(12));
}

async function assertSound(kept: string): Promise<void> {
  const { code, out, err } = await verify("--kept", kept);
  assert.equal(code, 0, `${kept}: ${out}${err}`);
  assert.match(out, /^\d+ events of the log verified, up to /, kept);
  assert.match(out, new RegExp(`nothing is wrong: ${recordsCount} records; ${recordsCount} numbers match the [2-9] `));
}

async function assertFound(kept: string): Promise<void> {
  const { code, out, err } = await verify("--kept", kept, "--json");
  assert.equal(code, 1, `${kept}: ${out}${err}`);
  const { findings } = JSON.parse(out) as { findings: { kind: string; first: number; last: number }[] };
  assert.deepEqual(
    findings.map(({ kind, first, last }) => [kind, first, last]),
    [
      ["altered", 5, 5],
      ["missing", 12, 12],
      ["reordered", 20, 20],
    ],
    kept,
  );
}

test("records in Postgres are checked against the log in Postgres", async () => {
  await assertSound("postgres");
  await withClient(auditUrl, async (client) => {
    await client.query(`update audit.records set line = replace(line, '/p/5"', '/p/6"') where seq = 5`);
    await client.query("delete from audit.records where seq = 12");
    await client.query(
      `update audit.records r set line = (select line from audit.records where seq = 41 - r.seq) where seq in (20, 21)`,
    );
  });
  await assertFound("postgres");
});

test("records in object storage are", async () => {
  await assertSound("s3");
  const keys = [...store.objects.keys()].sort();
  const linesOf = (key: string): string[] =>
    gunzipSync(store.objects.get(key)?.body ?? "")
      .toString()
      .split("\n")
      .slice(0, -1);
  const counts = keys.map((key) => linesOf(key).length);
  const all = keys.flatMap(linesOf);
  const sequence = all.map((line) => (JSON.parse(line) as { seq: number }).seq);
  assert.deepEqual(
    sequence,
    sequence.toSorted((a, b) => a - b),
  );
  const changed = [...tamper(all)];
  for (const [index, key] of keys.entries()) {
    const lines = changed.splice(0, counts[index]);
    store.objects.set(key, { body: gzipSync(lines.map((line) => `${line}\n`).join("")), headers: {} });
  }
  await assertFound("s3");
});

test("records in the spool of a stopped node are", async () => {
  await assertSound("spool");
  const name = readdirSync(spool).find((each) => each.endsWith(".records")) ?? "";
  const path = join(spool, name);
  const [bytes, seed] = [readFileSync(path), frameSeed(name)];
  const frames: SpoolFrame[] = [];
  for (let at = 0, frame = frameAt(bytes, at, seed); frame !== undefined; frame = frameAt(bytes, at, seed)) {
    frames.push(frame);
    at += frame.bytes;
  }
  const linesIn = ({ kind, payload }: SpoolFrame): string[] =>
    kind === "records" ? payload.toString().split("\n").slice(0, -1) : [];
  const changed = [...tamper(frames.flatMap(linesIn))];
  // Frames that a person writes who knows the form: their checks are right. One of them for each number.
  const forged = frames.flatMap((frame) => {
    if (frame.kind !== "records") return [{ ...frame }];
    const numbers = linesIn(frame).map((_, index) => frame.first + index);
    return numbers
      .filter((seq) => seq !== 12)
      .map((seq) => ({ ...frame, first: seq, last: seq, payload: Buffer.from(`${changed.shift()}\n`) }));
  });
  writeFileSync(
    path,
    Buffer.concat(forged.flatMap(({ payload, ...head }) => [frameHeadOf(head, payload, seed), payload])),
  );
  await assertFound("spool");
});

test("a log in Postgres whose events were altered, removed or reordered is refused, whatever the records are", async () => {
  const query = (text: string) => withClient(logUrl, (client) => client.query(text));
  await query("create table public.kept as select * from cardea.event");
  const { rows } = await query("select min(pos)::int as seal from cardea.event where type = 'AuditSegmentSealed'");
  const { seal } = rows[0] as { seal: number };
  const byte = "octet_length(bytes) - 10";
  const changes: readonly (readonly [string, string])[] = [
    [
      `position ${seal}: the event there is not the one that was written`,
      `update cardea.event set bytes = set_byte(bytes, ${byte}, get_byte(bytes, ${byte}) # 1) where pos = ${seal}`,
    ],
    [`position ${seal}: the event there is missing`, `delete from cardea.event where pos = ${seal}`],
    [
      `position ${seal - 1}: the event there is not the one that was written`,
      `update cardea.event e set bytes = k.bytes, hash = k.hash from public.kept k
        where e.pos in (${seal - 1}, ${seal}) and k.pos = ${2 * seal - 1} - e.pos`,
    ],
  ];
  for (const [problem, change] of changes) {
    await query(change);
    const { code, err } = await verify("--kept", "postgres");
    assert.equal(code, 3, problem);
    assert.ok(err.startsWith("cardea audit verify: cannot read the seals: the log in schema cardea"), err);
    assert.ok(err.includes(problem), err);
    await query("delete from cardea.event");
    await query("insert into cardea.event select * from public.kept");
  }
  assert.equal((await verify("--kept", "postgres")).code, 1, "the log is whole again, and the records are not");
});
