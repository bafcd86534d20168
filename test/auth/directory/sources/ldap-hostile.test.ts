import assert from "node:assert/strict";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { BerReader, BerWriter } from "ldapts";
import type { SourceParts } from "../../../../src/auth/directory/adapter-contract.ts";
import type { DirectorySource } from "../../../../src/auth/directory/source.ts";
import { ldapAdapter } from "../../../../src/auth/directory/sources/ldap/ldap-adapter.ts";
import { LdapFrames } from "../../../../src/auth/directory/sources/ldap/ldap-frames.ts";
import { readAll } from "../../../contract/directory-source.ts";
import { rejectsWith } from "../rejects-with.ts";

const parts: SourceParts = {
  name: "ldap",
  http: () => assert.fail("no HTTP"),
  fetch: () => assert.fail("no HTTP"),
  now: Date.now,
  log: { info() {}, warn() {} },
};

type Asked = Readonly<{ id: number; operation: number; base: string; bytes: Buffer; socket: Socket }>;
const bind = 0x60;
const search = 0x63;
const extended = 0x77;

/** A server that answers a bind well, and everything else as a test says. */
async function startServer(
  answer: (asked: Asked, count: number) => Buffer | readonly Buffer[] | null,
): Promise<Readonly<{ open: (more?: object) => DirectorySource; close: () => Promise<void> }>> {
  const server = createServer((socket) => {
    const frames = new LdapFrames();
    let searches = 0;
    socket.unref().on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      for (const bytes of frames.push(chunk)) {
        const reader = new BerReader(bytes);
        reader.readSequence();
        const id = reader.readInt() ?? 0;
        const operation = reader.readSequence() ?? 0;
        if (operation === bind) socket.write(result(id, 0x61));
        if (operation !== search && operation !== extended) continue;
        const base = operation === search ? (reader.readString() ?? "") : "";
        const answers = answer({ id, operation, base, bytes, socket }, searches++);
        for (const each of answers === null ? [] : Buffer.isBuffer(answers) ? [answers] : answers) socket.write(each);
      }
    });
  }).unref();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const section = {
    ...{
      kind: "openldap",
      url: `ldap://127.0.0.1:${port}`,
      start_tls: false,
      bind_dn: "cn=reader",
      bind_password: "x",
    },
    ...{ people_base: "ou=people", groups_base: "ou=groups", page_size: 10 },
  };
  return {
    open: (more = {}) => ldapAdapter.open({ ...section, ...more }, parts),
    close: async () => {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A message with a result, and the control of a page if a cookie is given. */
function result(
  id: number,
  tag: number,
  { status = 0, cookie }: Readonly<{ status?: number; cookie?: string }> = {},
): Buffer {
  const writer = new BerWriter();
  writer.startSequence();
  writer.writeInt(id);
  writer.startSequence(tag);
  writer.writeEnumeration(status);
  writer.writeString("");
  writer.writeString("");
  writer.endSequence();
  if (cookie !== undefined) {
    const value = new BerWriter();
    value.startSequence();
    value.writeInt(0);
    value.writeString(cookie);
    value.endSequence();
    writer.startSequence(0xa0);
    writer.startSequence();
    writer.writeString("1.2.840.113556.1.4.319");
    writer.writeBuffer(value.buffer, 0x04);
    writer.endSequence();
    writer.endSequence();
  }
  writer.endSequence();
  return writer.buffer;
}

function entry(id: number, dn: string, attributes: Readonly<Record<string, readonly string[]>>): Buffer {
  const writer = new BerWriter();
  writer.startSequence();
  writer.writeInt(id);
  writer.startSequence(0x64);
  writer.writeString(dn);
  writer.startSequence();
  for (const [name, values] of Object.entries(attributes)) {
    writer.startSequence();
    writer.writeString(name);
    writer.startSequence(0x31);
    for (const value of values) writer.writeString(value);
    writer.endSequence();
    writer.endSequence();
  }
  writer.endSequence();
  writer.endSequence();
  writer.endSequence();
  return writer.buffer;
}

const person = (id: number, n: number): Buffer =>
  entry(id, `uid=p${n},ou=people`, { entryUUID: [`p${n}`], uid: [`p${n}`] });
const done = (id: number, cookie = ""): Buffer => result(id, 0x65, { cookie });

test("ldap: an empty page in the middle of a list does not end it", async () => {
  const server = await startServer(({ id, base }, count) => {
    if (base !== "ou=people") return done(id);
    if (count === 0) return [person(id, 1), done(id, "one")];
    if (count === 1) return done(id, "two");
    return [person(id, 2), done(id)];
  });
  const read = await readAll(server.open());
  assert.deepEqual([...read.people.keys()], ["p1", "p2"]);
  await server.close();
});

test("ldap: members in ranges are read to the last one, and a range that does not fit is refused", async () => {
  let isWrong = false;
  const server = await startServer(({ id, base, bytes }) => {
    const guid = (n: number): string => String.fromCharCode(n).repeat(16);
    if (base === "ou=people")
      return [
        ...[1, 2, 3, 4, 5].map((n) =>
          entry(id, `cn=p${n}`, { objectGUID: [guid(n)], sAMAccountName: [`p${n}`], userAccountControl: ["512"] }),
        ),
        done(id),
      ];
    if (base === "ou=groups") return [entry(id, "cn=g", { objectGUID: [guid(9)], cn: ["g"] }), done(id)];
    if (base !== "cn=g") return done(id);
    const from = Number(/member;range=(\d+)-\*/.exec(bytes.toString("latin1"))?.[1] ?? 0);
    const names = [1, 2, 3, 4, 5].map((n) => `cn=p${n}`);
    const end = Math.min(from + 2, 5);
    const key = `member;range=${isWrong && from > 0 ? 0 : from}-${end === 5 ? "*" : end - 1}`;
    return [entry(id, "cn=g", { member: [], [key]: names.slice(from, end) }), done(id)];
  });
  const open = (): DirectorySource => server.open({ kind: "active_directory" });
  const read = await readAll(open());
  assert.equal([...read.members.values()][0]?.size, 5);
  isWrong = true;
  await rejectsWith(readAll(open()), "malformed", /not the one asked for/);
  await server.close();
});

test("ldap: a search that never ends is refused", async () => {
  const server = await startServer(({ id }) => done(id, "again"));
  await rejectsWith(readAll(server.open()), "malformed", /empty pages without end/);
  await server.close();
});

const forged: Readonly<
  Record<string, Readonly<{ answer: (id: number) => Buffer | readonly Buffer[]; message: RegExp }>>
> = {
  "a page with more entries than were asked for": {
    answer: (id) => [...Array.from({ length: 11 }, (_, n) => person(id, n)), done(id)],
    message: /more entries than the page/,
  },
  "an answer to another request": { answer: (id) => person(id + 1, 1), message: /another request/ },
  "a notice of disconnection": { answer: () => result(0, 0x78), message: /ends the connection/ },
  "a result without the control of pages": { answer: (id) => result(id, 0x65), message: /does not page/ },
  "a size limit": { answer: (id) => result(id, 0x65, { status: 4, cookie: "" }), message: /size limit exceeded \(4\)/ },
  "bytes that are not LDAP": { answer: () => Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"), message: /is not LDAP/ },
  "a message of two gigabytes": {
    answer: () => Buffer.from("30847fffffff0201", "hex"),
    message: /at most \d+ are read/,
  },
  "an indefinite length": {
    answer: () => Buffer.from("3080020103ffff", "hex"),
    message: /length that LDAP does not have/,
  },
  // The set of values says that it is longer than the message: the decoder would loop for ever.
  "a value that is longer than its message": {
    answer: (id) => {
      const bytes = Buffer.from(entry(id, "uid=p1", { uid: ["abc"] }));
      bytes[bytes.byteLength - 4] = 0x7f;
      return bytes;
    },
    message: /do not fit into it/,
  },
  "a message that is nested deeply": {
    answer: (id) => {
      let inner: Buffer = Buffer.alloc(0);
      for (let depth = 0; depth < 60; depth++) inner = Buffer.concat([Buffer.from([0x30, inner.byteLength]), inner]);
      const head = Buffer.from([0x30, inner.byteLength + 3, 0x02, 0x01, id]);
      return Buffer.concat([head, inner]);
    },
    message: /nested too deeply/,
  },
  "an operation that does not exist": { answer: (id) => result(id, 0x7e), message: /cannot be decoded/ },
};
for (const [name, { answer, message }] of Object.entries(forged))
  test(`ldap: ${name} ends the run`, { timeout: 10_000 }, async () => {
    const server = await startServer(({ id }) => answer(id));
    await rejectsWith(readAll(server.open()), "malformed", message);
    await server.close();
  });

test("ldap: bytes in clear after the answer to StartTLS are refused", async () => {
  const server = await startServer(({ id, operation }) =>
    // They would be read as if they had come through TLS.
    operation === extended ? Buffer.concat([result(id, 0x78), Buffer.from("30840000", "hex")]) : done(id),
  );
  await rejectsWith(readAll(server.open({ start_tls: true })), "malformed", /between StartTLS and the TLS handshake/);
  await server.close();
});

test("ldap: a server that refuses StartTLS gets no password", async () => {
  let hasBound = false;
  const server = await startServer(({ id, operation, bytes }) => {
    if (bytes[0] === bind) hasBound = true;
    return operation === extended ? result(id, 0x78, { status: 2 }) : done(id);
  });
  await rejectsWith(readAll(server.open({ start_tls: true })), "malformed", /refused StartTLS/);
  assert.equal(hasBound, false);
  await server.close();
});

test("ldap: an abort ends a search that has no answer", { timeout: 10_000 }, async () => {
  const abort = new AbortController();
  const server = await startServer(() => {
    abort.abort();
    return null;
  });
  await rejectsWith(
    server.open().read({ since: null, cursor: null, signal: abort.signal }),
    "unreachable",
    /cancelled/,
  );
  await server.close();
});

test("ldap: frames are the same however the bytes arrive", () => {
  const bytes = Buffer.concat([person(2, 1), done(2, "x"), person(3, 2)]);
  const whole = new LdapFrames().push(bytes).map((each) => each.toString("hex"));
  assert.equal(whole.length, 3);
  for (const size of [1, 2, 3, 7, 50]) {
    const frames = new LdapFrames();
    const found: string[] = [];
    for (let at = 0; at < bytes.byteLength; at += size)
      found.push(...frames.push(bytes.subarray(at, at + size)).map((each) => each.toString("hex")));
    assert.deepEqual(found, whole);
    assert.equal(frames.pendingBytes, 0);
  }
});

test("ldap: a large message that arrives in single bytes costs no more than its size", { timeout: 20_000 }, () => {
  const frames = new LdapFrames();
  const bytes = entry(2, "cn=g", { member: Array.from({ length: 20_000 }, (_, n) => `uid=p${n}`) });
  let found = 0;
  for (let at = 0; at < bytes.byteLength; at++) found += frames.push(bytes.subarray(at, at + 1)).length;
  assert.equal(found, 1);
  assert.throws(() => new LdapFrames(1_000).push(bytes), /at most 1000 are read/);
});
