/** `cardea audit query`: its sources, formats and exit codes, and what it leaves when it is stopped. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { type AuditRecord, toLine } from "../../../../src/audit/index.ts";
import { auditQuery } from "../../../../src/cli/commands/audit/audit-query.ts";
import { UsageError } from "../../../../src/cli/terminal/command.ts";
import { writeWhole } from "../../../../src/cli/terminal/text-output.ts";
import type { BootId } from "../../../../src/events/index.ts";
import { newAuditDatabase } from "../../../audit/postgres/audit-database.ts";
import { samples } from "../../../audit/samples.ts";
import { batchOf, decision } from "../../../audit/support.ts";
import { base, goodRoute } from "../../../config/support.ts";
import { TemporaryFolder } from "../../../support/child.ts";
import { startPostgres } from "../../../support/postgres.ts";
import type { PostgresServer } from "../../../support/service.ts";
import { waitFor } from "../../../support/wait-for.ts";

const folder = new TemporaryFolder("audit-query");
after(() => folder.remove());
const path = join(folder.path, "decisions.jsonl");
const start = Date.parse("2026-11-20T00:00:00Z");
const one = (seq: number, more: object = {}): AuditRecord =>
  ({ kind: "decision", seq, ...decision("/", { at: (start + seq * 3_600_000) as never }), ...more }) as AuditRecord;
const records: readonly AuditRecord[] = [
  one(1),
  one(2, { result: "deny", userId: "u-1", reasons: ["user-unauthorized"] }),
  one(3, { result: "deny", userId: "u-2", requestId: "request-3" }),
  {
    ...samples["gap"],
    seq: 9,
    first: 4,
    last: 9,
    atLeast: 2,
    at: start + 5 * 3_600_000,
    fromMs: start + 4 * 3_600_000,
  } as never,
  one(10, { userId: "u-1", path: "=cmd" }),
];
writeFileSync(path, records.map(toLine).join(""));

type Ran = Readonly<{ code: number; out: string; err: string }>;
async function run(...args: readonly string[]): Promise<Ran> {
  let [out, err] = ["", ""];
  const code = await auditQuery.run(args, {
    out(text) {
      out += text;
    },
    err(text) {
      err += text;
    },
    interactive: false,
    env: {},
  });
  return { code, out, err };
}
const query = (...args: readonly string[]): Promise<Ran> => run("--input", path, ...args);
const countOf = (text: string): number => text.split("\n").length - 1;

test("a table has a line per record and gap, and the end says what is missing", async () => {
  const { code, out, err } = await query();
  assert.equal(countOf(out), 5);
  assert.match(out, /GAP .*at least 2 of the records 4 to 9 were lost/);
  assert.match(err, /^4 records found, 5 read\n1 gap in this time: at least 2, at most 6 records are missing/);
  assert.equal(code, 1, "an answer with a gap is incomplete");
});

test("filters, times and a limit choose records; a time without a gap is complete", async () => {
  const found = async (...args: readonly string[]): Promise<number[]> =>
    (await query("--format", "ndjson", ...args)).out
      .split("\n")
      .flatMap((line) => (line === "" ? [] : [JSON.parse(line).seq]));
  assert.deepEqual(await found("--user", "u-1"), [2, 9, 10]);
  assert.deepEqual(await found("--result", "deny,permit", "--until", "2026-11-20T03:30Z"), [1, 2, 3]);
  assert.deepEqual(await found("--reason", "user-unauthorized", "--until", "2026-11-20T03:30Z"), [2]);
  assert.deepEqual(await found("--request", "request-3", "--until", "2026-11-20T03:30Z"), [3]);
  assert.deepEqual(await found("--id", "boot-1:10"), [10]);
  assert.deepEqual(await found("--id", "boot-1:5"), [9], "the gap that has the number");
  assert.deepEqual(await found("--since", "2026-11-20T10:00+01:00"), [10]);
  assert.deepEqual(await found("--since", "2026-11-21"), []);
  assert.deepEqual(await found("--node", "other"), []);
  const limited = await query("--limit", "2");
  assert.deepEqual([limited.code, countOf(limited.out)], [0, 2]);
  assert.match(limited.err, /stopped at the limit of 2/);
  assert.doesNotMatch((await query("--limit", "4")).err, /stopped/);
});

test("NDJSON has the exact lines, and CSV no formula", async () => {
  assert.equal((await query("--format", "ndjson")).out, readFileSync(path, "utf8"));
  assert.equal((await query("--json")).out, readFileSync(path, "utf8"));
  const { out } = await query("--format", "csv");
  assert.match(out, /^id,at,kind,.*\r\n"boot-1:1",/);
  assert.match(out, /"'=cmd"/);
});

test("lines that are no records are counted, not hidden", async () => {
  const other = join(folder.path, "other.jsonl");
  writeFileSync(other, `${toLine(one(1))}{"class_uid":6003}\nhalf`);
  const { code, err } = await run("--input", other);
  assert.equal(code, 1);
  assert.match(err, /2 lines are no audit records/);
});

test("wrong use says what to write", async () => {
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [["--limit", "0"], /from 1/],
    [["--format", "xml"], /table, csv, ndjson/],
    [["--since", "yesterday"], /--since yesterday: write an age/],
    [["--since", "2026-11-20T10:00"], /with its zone/],
    [["--since", "1h", "--until", "2h"], /before --until/],
    [["--id", "x"], /<boot>:<number>/],
    [["--user", "a,,b"], /empty/],
    [["--input", join(folder.path, "none")], /no such file/],
    [["--kept", "files"], /exclude each other/],
    [["--output", folder.path], /that is no file/],
    [["--output", join(folder.path, "no/folder")], /cannot be written/],
  ];
  for (const [args, message] of wrong) await assert.rejects(query(...args), message, args.join(" "));
  await assert.rejects(run(), UsageError);
});

test("a file of results appears as a whole, replaces the old one, and is for its owner alone", async () => {
  const target = join(folder.path, "out.csv");
  writeFileSync(target, "old");
  symlinkSync(target, join(folder.path, "link.csv"));
  const { out } = await query("--format", "csv", "--output", join(folder.path, "link.csv"));
  assert.equal(out, "");
  assert.equal(readFileSync(target, "utf8"), (await query("--format", "csv")).out);
  assert.equal(statSync(target).mode & 0o777, 0o600);
  assert.deepEqual(
    readdirSync(folder.path).filter((name) => name.endsWith(".part")),
    [],
  );
});

suite("as a process", () => {
  const many = join(folder.path, "many.jsonl");
  const size = 120_000;
  before(() => writeFileSync(many, Array.from({ length: size }, (_, i) => toLine(one(i + 1))).join("")));

  function start(...args: readonly string[]) {
    const child = spawn(process.execPath, [
      "src/main.ts",
      "audit",
      "query",
      "--input",
      many,
      "--format",
      "ndjson",
      ...args,
    ]);
    let err = "";
    child.stderr.on("data", (chunk) => {
      err += chunk;
    });
    return { child, err: () => err };
  }

  test("a reader that is slow makes it wait, and one that ends makes it end, without an error", async () => {
    const { child, err } = start();
    await once(child.stdout, "data");
    child.stdout.pause();
    const rss = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]);
    await new Promise((resolve) => setTimeout(resolve, 700));
    assert.ok(rss() < 300_000, `${rss()} KB`);
    child.stdout.destroy();
    const [code] = await once(child, "close");
    assert.deepEqual([code, err()], [0, ""]);
  });

  test("an interrupt leaves neither the file nor a part of it", async () => {
    const target = join(folder.path, "interrupted.ndjson");
    const { child, err } = start("--output", target);
    await waitFor("the part", async () => readdirSync(folder.path).some((name) => name.endsWith(".part")));
    child.kill("SIGINT");
    const [code] = await once(child, "close");
    assert.equal(code, 1);
    assert.match(err(), /interrupted; .* was not written/);
    assert.deepEqual(
      readdirSync(folder.path).filter((name) => name.includes("interrupted")),
      [],
    );
  });
});

suite("Postgres and the spool, by the configuration", () => {
  let server: PostgresServer;
  const config = join(folder.path, "c.yaml");
  before(async () => {
    server = await startPostgres();
    const database = await newAuditDatabase(server);
    const sink = database.sink({ schema: "audit", cluster: "main" });
    await sink.write(batchOf(...records.slice(0, 3)));
    await sink.write(batchOf(...records.slice(3, 4)));
    await sink.write(batchOf(...records.slice(4)));
    await sink.close();
    writeFileSync(join(folder.path, "address"), `${database.url}\n`);
    const sinks = `[{file: ${path}}, {postgres: true, url_file: ${join(folder.path, "address")}}]`;
    writeFileSync(config, `${base}data_dir: ${folder.path}\naudit: {sinks: ${sinks}}\n${goodRoute}`);
  });
  after(() => server.stop());

  test("Postgres comes first, then what --kept names; all have the same answer", async () => {
    const want = (await query("--format", "csv")).out;
    for (const args of [
      ["-c", config],
      ["-c", config, "--kept", "files"],
      ["--address-file", join(folder.path, "address")],
    ])
      assert.equal((await run(...args, "--format", "csv")).out, want, args.join(" "));
    const narrow = await run("-c", config, "--user", "u-2", "--until", "2026-11-20T03:30Z");
    assert.deepEqual([narrow.code, countOf(narrow.out)], [0, 1]);
    mkdirSync(join(folder.path, "audit/spool/node-1"), { recursive: true });
    assert.deepEqual((await run("-c", config, "--kept", "spool")).code, 0);
  });

  test("a database that does not answer is an error, not an empty answer", async () => {
    const address = join(folder.path, "dead");
    writeFileSync(address, "postgres://ann:hidden@127.0.0.1:1/audit");
    await assert.rejects(run("--address-file", address), (error: Error) => {
      assert.equal((error as { code?: string }).code, "ERR_CLI_CANNOT");
      assert.doesNotMatch(error.message, /hidden/);
      return true;
    });
  });
});

test("a boot of another name is another series", async () => {
  const file = join(folder.path, "boots.jsonl");
  writeFileSync(file, [one(1), one(1), one(1, { boot: "boot-2" as BootId })].map(toLine).join(""));
  assert.match((await run("--input", file)).err, /^2 records found, 3 read\n$/);
  const twice = await run("--input", file, "--input", path, "--until", "2026-11-20T03:30Z");
  assert.match(twice.err, /^4 records found/, "a record of several sources comes once");
  writeFileSync(join(folder.path, "no-address"), "mysql://db");
  await assert.rejects(run("--address-file", join(folder.path, "no-address")), UsageError);
});

test("a checkpoint or an export replaces the older one as a whole, so a failure leaves that", async () => {
  const target = join(folder.path, "witness.note");
  writeFileSync(target, "the last one\n");
  const before = openSync(target, "r");
  await writeWhole(target, "the next one\n");
  assert.equal(readFileSync(before, "utf8"), "the last one\n");
  closeSync(before);
  assert.equal(readFileSync(target, "utf8"), "the next one\n");
  await assert.rejects(writeWhole(join(folder.path, "nowhere", "x"), "text"), /cannot be written/);
  await writeWhole("/dev/null", "what is no file is written to, and stays what it is\n");
  assert.ok(statSync("/dev/null").isCharacterDevice());
});
