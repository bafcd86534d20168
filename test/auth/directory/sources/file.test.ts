import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createDirectoryHttp } from "../../../../src/auth/directory/directory-fetch.ts";
import { openDocumentFile } from "../../../../src/auth/directory/sources/file/document-file.ts";
import { openDocumentUrl } from "../../../../src/auth/directory/sources/file/document-url-client.ts";
import { createLocalFetch } from "../../../../src/auth/index.ts";
import {
  type ControlledDirectory,
  type DirectoryContent,
  type DirectoryFault,
  directorySourceContract,
  readAll,
} from "../../../contract/directory-source.ts";
import { TemporaryFolder } from "../../../support/child.ts";

const log = { info() {}, warn() {} };
const size = 3;
const signal = (): AbortSignal => AbortSignal.timeout(30_000);

function jsonOf({ people, groups }: DirectoryContent, more: object = {}): string {
  return JSON.stringify({
    ...more,
    people: people.map(({ userName, ...person }) => ({ ...more, ...person, user_name: userName })),
    groups: groups.map(({ people: members, ...group }) => ({ ...more, ...group, members })),
  });
}

/** CSV has no groups besides those that people name, so their names are their ids. */
function csvOf({ people, groups }: DirectoryContent, more = ""): string {
  const rows = people.map(({ id, userName, email, name, active }) => {
    const own = groups.filter((group) => group.people.includes(id)).map((group) => group.id);
    return [id, userName, email ?? "", `"${name}"`, String(active), own.join(";"), more].join(",");
  });
  return `${["id,user_name,email,name,active,groups,note", ...rows].join("\n")}\n`;
}

async function fileDirectory(): Promise<ControlledDirectory> {
  const folder = new TemporaryFolder("cardea-directory-");
  const path = join(folder.path, "people.json");
  let present: DirectoryContent = { people: [], groups: [] };
  const write = (text: string): void => {
    writeFileSync(`${path}.new`, text);
    renameSync(`${path}.new`, path);
  };
  return {
    open: () => openDocumentFile({ path, format: "json" }, { log, size }),
    set(content) {
      present = content;
      write(jsonOf(content));
    },
    fail(fault) {
      if (fault === "unavailable") rmSync(path);
      else write(jsonOf(present).slice(0, -20));
    },
    heal: () => write(jsonOf(present)),
    addUnknownFields: () => write(jsonOf(present, { extra: { deep: [1, { more: true }] } })),
    close: async () => folder[Symbol.dispose](),
  };
}

async function urlDirectory(format: "json" | "csv"): Promise<ControlledDirectory> {
  let text = "";
  let present: DirectoryContent = { people: [], groups: [] };
  let failing: DirectoryFault | null = null;
  const server = createServer((request, response) => {
    const etag = `"${createHash("sha256").update(text).digest("hex")}"`;
    if (failing === "refused" || request.headers.authorization !== "Bearer token") response.writeHead(401).end();
    else if (failing === "limited") response.writeHead(429, { "retry-after": "2" }).end();
    else if (failing === "unavailable") response.writeHead(500).end();
    else if (failing === "cut") {
      response.writeHead(200, { "content-length": String(Buffer.byteLength(text)) });
      response.write(text.slice(0, text.length / 2), () => response.destroy());
    } else if (request.headers["if-none-match"] === etag) response.writeHead(304, { etag }).end();
    else response.writeHead(200, { etag, "content-type": "application/octet-stream" }).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const local = createLocalFetch({ timeoutMs: 5_000 });
  const http = createDirectoryHttp({ fetch: local.fetch, timeoutMs: 5_000, now: Date.now });
  const url = new URL(`http://127.0.0.1:${port}/people`);
  const write = (more: object): void => {
    text = format === "json" ? jsonOf(present, more) : csvOf(present, Object.keys(more).join());
  };
  return {
    open: () => openDocumentUrl({ url, format, token: "token" }, { http, size }),
    set(content) {
      const named = content.groups.map((group) => ({ ...group, id: group.name }));
      present = format === "json" ? content : { ...content, groups: named };
      write({});
    },
    fail(fault) {
      failing = fault;
    },
    heal() {
      failing = null;
    },
    addUnknownFields: () => write({ extra: 1 }),
    async close() {
      server.closeAllConnections();
      await Promise.all([local.close(), new Promise((resolve) => server.close(resolve))]);
    },
  };
}

const faults = ["limited", "unavailable", "cut", "refused"] as const;
directorySourceContract(
  "a JSON file",
  { faults: ["unavailable", "cut"], nestedGroups: true, delta: true, duplicates: true },
  fileDirectory,
);
directorySourceContract(
  "a JSON document behind a URL",
  { faults, nestedGroups: true, delta: true, duplicates: true },
  () => urlDirectory("json"),
);
directorySourceContract(
  "a CSV document behind a URL",
  { faults, nestedGroups: false, delta: true, duplicates: true, groupId: (n) => `team ${n}` },
  () => urlDirectory("csv"),
);

async function readText(text: string, format: "json" | "csv"): ReturnType<typeof readAll> {
  using folder = new TemporaryFolder("cardea-directory-");
  const path = join(folder.path, "people");
  writeFileSync(path, text);
  return await readAll(openDocumentFile({ path, format }, { log }));
}

test("a record that is not what the shape says refuses the document, with its place", async () => {
  const cases: readonly (readonly [text: string, format: "json" | "csv", place: RegExp])[] = [
    ['{"people": [{"id": "a"}, {"name": "b"}]}', "json", /people\[1\]\.id/],
    ['{"people": [{"id": "a", "active": "no"}]}', "json", /people\[0\]\.active/],
    ['{"people": {"id": "a"}}', "json", /people is not a list/],
    ['{"groups": []}', "json", /no list people/],
    ['{"people": [{"id": "a"}]', "json", /was cut/],
    ["", "json", /was cut/],
    ["name,email\nb,c\n", "csv", /names no column id/],
    ["id,active\na,perhaps\n", "csv", /line 2: active/],
    ["id,name\na,b\n,c\n", "csv", /line 3\.id/],
    ["id,name\na,b\nc", "csv", /may have been cut/],
    ['id,name\na,"b\n', "csv", /not CSV/],
    ["", "csv", /no first line/],
  ];
  for (const [text, format, place] of cases)
    await assert.rejects(readText(text, format), (error: Error) => {
      assert.match(error.message, place);
      return (error as { code?: string }).code === "ERR_AUTH_DIRECTORY";
    });
});

test("a name __proto__ in a document is a key like any other", async () => {
  const read = await readText(
    '{"__proto__": {"id": "x"}, "people": [{"id": "a", "__proto__": {"active": false}}]}',
    "json",
  );
  assert.equal(read.people.get("a")?.active, true);
  assert.equal(({} as { active?: boolean }).active, undefined);
});

test("a large group is spread over pages, and a page never exceeds its size by more than its groups", async () => {
  const members = Array.from({ length: 10_000 }, (_, n) => `p${n}`);
  const read = await readText(
    JSON.stringify({
      people: members.map((id) => ({ id })),
      groups: [
        { id: "g", members },
        { id: "h", members: [] },
      ],
    }),
    "json",
  );
  assert.equal(read.members.get("g")?.size, 10_000);
  assert.equal(read.groups.size, 2);
});

test("a file that is replaced is noticed", async () => {
  using folder = new TemporaryFolder("cardea-directory-");
  const path = join(folder.path, "people.json");
  writeFileSync(path, '{"people": []}');
  const source = openDocumentFile({ path, format: "json" }, { log });
  const changed = Promise.withResolvers<void>();
  const stop = source.watch?.(() => changed.resolve());
  await sleep(50);
  writeFileSync(`${path}.new`, '{"people": [{"id": "a"}]}');
  renameSync(`${path}.new`, path);
  await Promise.race([changed.promise, sleep(5_000).then(() => assert.fail("no change was noticed"))]);
  stop?.();
  await source.close();
});

test("a delta of a changed document needs a full run, which does not load the document again", async () => {
  using folder = new TemporaryFolder("cardea-directory-");
  const path = join(folder.path, "people.json");
  writeFileSync(path, '{"people": [{"id": "a"}]}');
  const source = openDocumentFile({ path, format: "json" }, { log });
  const first = await source.read({ since: null, cursor: null, signal: signal() });
  writeFileSync(path, '{"people": [{"id": "a"}, {"id": "b"}]}');
  const delta = source.read({ since: first.delta, cursor: null, signal: signal() });
  await assert.rejects(delta, (error: { kind?: string }) => error.kind === "deltaExpired");
  rmSync(path);
  const second = await source.read({ since: null, cursor: null, signal: signal() });
  assert.equal(second.people.length, 2);
  await source.close();
});
