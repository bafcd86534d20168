/** Data sets from real files and a real HTTP server: bounds, what remains after a failed read, and what is logged. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, test } from "node:test";
import { parseRecordContent } from "../../../../src/auth/authorize/records/record-content.ts";
import {
  type RecordLoaderDeps,
  readRecordsOnce,
  startRecordLoader,
} from "../../../../src/auth/authorize/records/record-loader.ts";
import { recordSetsOf } from "../../../../src/auth/authorize/records/records.ts";
import { createLocalFetch } from "../../../../src/auth/index.ts";
import type { DataSource } from "../../../../src/config/index.ts";
import { TemporaryFolder } from "../../../support/child.ts";
import { waitFor } from "../../../support/wait-for.ts";

const folder = new TemporaryFolder("records");
const local = createLocalFetch({ timeoutMs: 10_000 });
after(async () => {
  folder[Symbol.dispose]();
  await local.close();
});
const fetch: RecordLoaderDeps["fetch"] = (url, init) => local.fetch(url, init);

function source(parts: Partial<DataSource>): DataSource {
  return {
    type: "hr",
    from: { type: "file", path: join(folder.path, "none.json") },
    key: "user.id",
    format: null,
    everyMs: 20,
    timeoutMs: 10_000,
    maxAgeMs: 0,
    bytesMax: 10_000,
    recordsMax: 100,
    headers: {},
    ...parts,
  };
}

/** Starts a loader for one source and collects its log lines and changes. */
function startLoader(dataSource: DataSource, clock: { now: number } = { now: 0 }) {
  const sets = recordSetsOf([dataSource]);
  const logged: string[] = [];
  const changed: string[] = [];
  const log = (facts: object, message: string): void => void logged.push(`${message} ${JSON.stringify(facts)}`);
  const loader = startRecordLoader({
    sources: [dataSource],
    sets,
    fetch,
    monotonic: () => clock.now,
    onChange: (type) => void changed.push(type),
    log: { info: log, warn: log },
  });
  const set = sets.get("hr") ?? assert.fail();
  return { loader, set, logged, changed };
}

test("a file is read periodically, and its new content replaces the old", async () => {
  const path = join(folder.path, "changing.json");
  writeFileSync(path, JSON.stringify([{ id: "a", n: 1 }]));
  const { loader, set, changed, logged } = startLoader(source({ from: { type: "file", path } }));
  await loader.firstAttempts;
  assert.deepEqual(set.find("a"), { id: "a", n: 1 });
  writeFileSync(path, JSON.stringify([{ id: "b" }]));
  await waitFor("the new content", () => set.find("b") !== undefined);
  assert.equal(set.find("a"), undefined);
  await loader.stop();
  assert.deepEqual([changed, logged], [["hr", "hr"], []]); // reading equal content is not a change
});

test("the last good data is kept while the file is invalid or missing; the failure and its end are logged once", async () => {
  const path = join(folder.path, "breaking.csv");
  writeFileSync(path, "id,team\na,blue\n");
  const { loader, set, logged } = startLoader(source({ from: { type: "file", path } }));
  await loader.firstAttempts;
  for (const content of [
    "id,team\na\n",
    'id,team\n"a,blue\n',
    "team\nblue\n",
    `id\n${"x".repeat(20_000)}\n`,
    undefined,
  ]) {
    if (content === undefined) rmSync(path);
    else writeFileSync(path, content);
    await waitFor("the failure", () => logged.length > 0);
    assert.deepEqual(set.find("a"), { id: "a", team: "blue" });
  }
  writeFileSync(path, "id,team\na,red\n");
  await waitFor("the repaired content", () => set.find("a")?.["team"] === "red");
  await waitFor("the end of the failure", () => logged.length === 2);
  await loader.stop();
  assert.match(
    logged[0] ?? "",
    /cannot read a data source; keeping the data that was read last .*"problem":"record 1 has 1 fields, not 2"/,
  );
  assert.match(logged[1] ?? "", /data source can be read again/);
});

test("data that is too old is cleared and reported as a change", async () => {
  const path = join(folder.path, "old.json");
  writeFileSync(path, JSON.stringify([{ id: "a" }]));
  const clock = { now: 0 };
  const { loader, set, changed, logged } = startLoader(
    source({ from: { type: "file", path }, maxAgeMs: 1_000 }),
    clock,
  );
  await loader.firstAttempts;
  rmSync(path);
  await waitFor("the failure", () => logged.length === 1);
  assert.equal(set.known, true);
  clock.now = 1_001;
  await waitFor("the data to be cleared", () => !set.known);
  assert.deepEqual(changed, ["hr", "hr"]);
  writeFileSync(path, JSON.stringify([{ id: "a" }]));
  await waitFor("the data to be read again", () => set.known);
  await loader.stop();
});

test("a URL is requested with its headers; an error status, an endless body and a silent server change nothing", async () => {
  const answer: { status: number; type: string; body: string | "endless" | "silent" } = {
    status: 200,
    type: "application/json",
    body: '[{"id":"a"}]',
  };
  const authorizations: (string | undefined)[] = [];
  const server = createServer((req, res) => {
    authorizations.push(req.headers["authorization"]);
    if (answer.body === "silent") return;
    res.writeHead(answer.status, { "content-type": answer.type, location: "/elsewhere" });
    if (answer.body !== "endless") return void res.end(answer.body);
    const write = (): void => {
      while (!res.destroyed && res.write("x".repeat(1_000)));
    };
    res.on("drain", write);
    write();
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/hr?token=x`);
  const dataSource = source({ from: { type: "url", url }, headers: { authorization: "Bearer t" } });
  const sets = recordSetsOf([dataSource]);
  const read = async (parts: Partial<DataSource> = {}): Promise<string | undefined> =>
    (await readRecordsOnce({ sources: [{ ...dataSource, ...parts }], sets, fetch }, new AbortController().signal)).get(
      "hr",
    );
  assert.equal(await read(), undefined);
  assert.deepEqual([sets.get("hr")?.find("a"), authorizations], [{ id: "a" }, ["Bearer t"]]);
  for (const [change, parts, problem] of [
    [{ status: 500 }, {}, /^answered 500$/],
    [{ status: 302 }, {}, /^answered 302$/],
    [{ body: "[{}]" }, {}, /^record 1 has no id$/],
    [{ body: "{" }, {}, /^is not JSON/],
    [{ body: "endless" }, {}, /^is longer than 10000 bytes$/],
    [{ body: "silent" }, { timeoutMs: 50 }, /^did not answer in time$/],
  ] as const) {
    Object.assign(answer, { status: 200, type: "application/json", body: "[]" }, change);
    assert.match((await read(parts)) ?? "", problem);
    assert.deepEqual(sets.get("hr")?.find("a"), { id: "a" });
  }
  Object.assign(answer, { type: "text/csv; charset=utf-8", body: "id,x\r\nb,1\r\n" });
  assert.equal(await read(), undefined);
  assert.deepEqual(sets.get("hr")?.find("b"), { id: "b", x: "1" });
  server.closeAllConnections();
  server.close();
  await waitFor("the request to the closed server to fail", async () =>
    ((await read()) ?? "").startsWith("cannot be read: E"),
  );
});

test("a reload does not make data younger: adopted data is cleared when it is too old", async () => {
  const dataSource = source({ maxAgeMs: 1_000 });
  const before = recordSetsOf([dataSource]).get("hr") ?? assert.fail();
  before.replace([{ id: "a" }]);
  before.readAt = 0;
  const sets = recordSetsOf([dataSource]);
  const set = sets.get("hr") ?? assert.fail();
  set.adopt(before);
  const clock = { now: 900 };
  const log = { info() {}, warn() {} };
  const changed: string[] = [];
  const onChange = (type: string): void => void changed.push(type);
  const loader = startRecordLoader({ sources: [dataSource], sets, fetch, monotonic: () => clock.now, onChange, log });
  await loader.firstAttempts;
  assert.equal(set.known, true);
  clock.now = 1_001;
  await waitFor("the data to be cleared", () => !set.known);
  await loader.stop();
  assert.deepEqual(changed, ["hr"]);
});

test("paths that are not files and content that is not text are refused, and no content is logged", async () => {
  const problem = async (parts: Partial<DataSource>): Promise<string | undefined> => {
    const dataSource = source(parts);
    const sets = recordSetsOf([dataSource]);
    const problems = await readRecordsOnce({ sources: [dataSource], sets, fetch }, new AbortController().signal);
    assert.equal(sets.get("hr")?.known, false);
    return problems.get("hr");
  };
  assert.equal(await problem({ from: { type: "file", path: "/dev/zero" } }), "is not a file");
  const path = join(folder.path, "bad.json");
  writeFileSync(path, Buffer.from([0x5b, 0x22, 0xff, 0x22, 0x5d]));
  assert.match((await problem({ from: { type: "file", path } })) ?? "", /^cannot be read: ERR_ENCODING/);
  for (const content of ['[{"id":"alice","salary":1}, oops', '[{"$index":{"cidr":"salary"}}]']) {
    writeFileSync(path, content);
    assert.doesNotMatch((await problem({ from: { type: "file", path } })) ?? "salary", /salary|oops/);
  }
});

test("content that exceeds the limits of the parser is refused", async () => {
  const path = join(folder.path, "quotes.csv");
  writeFileSync(path, `id,x\na,"${'""'.repeat(10_000_000)}"\n`);
  const { loader, set, logged } = startLoader(
    source({ from: { type: "file", path }, bytesMax: 50_000_000, everyMs: 60_000 }),
  );
  await loader.firstAttempts;
  await loader.stop();
  assert.equal(set.known ? 0 : logged.length, set.known ? 0 : 1);
});

test("a field of many megabytes is parsed", () => {
  const long = "y".repeat(20_000_000);
  for (const text of [`id,x\na,"${long}"\n`, `id,x\na,${long}\n`]) {
    const content = parseRecordContent(text, { format: "csv", recordsMax: 3 });
    assert.equal(content.ok && content.records[0]?.["x"] === long, true);
  }
});

const contents: readonly (readonly ["json" | "csv", string, RegExp | readonly object[]])[] = [
  ["json", "[]", []],
  ["json", '[{"id":1,"a":{"b":[1]}}]', [{ id: 1, a: { b: [1] } }]],
  ["json", '{"id":1}', /is not a list of records/],
  ["json", "[1]", /record 1 is not an object/],
  ["json", '[{"id":"a"},{"id":null}]', /record 2 has no id/],
  ["json", '[{"id":true}]', /neither text nor a number/],
  ["json", '[{"$index":{"cidr":"10.0.0.0/8"}}]', [{ $index: { cidr: "10.0.0.0/8" } }]],
  ["json", '[{"$index":{"cidr":"10.0.0.0/99"}}]', /no range of addresses/],
  ["json", '[{"id":1},{"id":2},{"id":3},{"id":4}]', /more than 3 records/],
  ["csv", "id,a\n1,x\n", [{ id: "1", a: "x" }]],
  ["csv", "\uFEFFid,a\r\n1,x", [{ id: "1", a: "x" }]],
  ["csv", 'id,a\n1,"x, ""y""\nz"\n', [{ id: "1", a: 'x, "y"\nz' }]],
  [
    "csv",
    'id,a\n1,""\n2,\n',
    [
      { id: "1", a: "" },
      { id: "2", a: "" },
    ],
  ],
  ["csv", "", /is empty/],
  ["csv", "id\n", []],
  ["csv", "id,id\n1,2\n", /names a field twice/],
  ["csv", "id,a\n1\n", /record 1 has 1 fields, not 2/],
  ["csv", 'id,a\n1,x"y\n', /line 2 has a misplaced quote/],
  ["csv", 'id,a\n1,"x\n', /line 2 has a misplaced quote/],
  ["csv", "a\n1\n", /record 1 has no id/],
];
for (const [format, text, expect] of contents) {
  test(`${format} ${JSON.stringify(text)} ${expect instanceof RegExp ? "is refused" : "is read"}`, () => {
    const content = parseRecordContent(text, { format, recordsMax: 3 });
    if (expect instanceof RegExp) assert.match(content.ok ? "" : content.problem, expect);
    else assert.deepEqual(content.ok ? content.records : content.problem, expect);
  });
}
