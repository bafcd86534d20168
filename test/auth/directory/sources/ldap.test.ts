import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Client } from "ldapts";
import { parseSettings, type SourceParts } from "../../../../src/auth/directory/adapter-contract.ts";
import type { DirectorySource } from "../../../../src/auth/directory/source.ts";
import { ldapAdapter } from "../../../../src/auth/directory/sources/ldap/ldap-adapter.ts";
import {
  type ControlledDirectory,
  type DirectoryContent,
  directorySourceContract,
  readAll,
} from "../../../contract/directory-source.ts";
import { startCuttingProxy } from "../../../support/cutting-proxy.ts";
import { Authority } from "../../../support/pki.ts";
import { findSlapd, reader, type Slapd, startSlapd, suffix } from "../../../support/slapd.ts";
import { rejectsWith } from "../rejects-with.ts";

const skip = findSlapd() === undefined ? "slapd is not installed" : false;
const signal = (): AbortSignal => AbortSignal.timeout(30_000);
// The adapter uses no HTTP.
const parts: SourceParts = {
  name: "ldap",
  http: () => assert.fail("no HTTP"),
  fetch: () => assert.fail("no HTTP"),
  now: Date.now,
  log: { info() {}, warn() {} },
};

const section = (port: number, more: object = {}): object => ({
  kind: "openldap",
  url: `ldap://127.0.0.1:${port}`,
  start_tls: false,
  bind_dn: reader.dn,
  bind_password: reader.password,
  people_base: `ou=people,${suffix}`,
  groups_base: `ou=groups,${suffix}`,
  id_attribute: "employeeNumber",
  group_id_attribute: "cn",
  group_name_attribute: "description",
  ...more,
});
const open = (port: number, more: object = {}): DirectorySource => ldapAdapter.open(section(port, more), parts);

const personDn = (id: string): string => `employeeNumber=${id},ou=people,${suffix}`;
const groupDn = (id: string): string => `cn=${id},ou=groups,${suffix}`;

async function store(client: Client, { people, groups }: DirectoryContent, more: object = {}): Promise<void> {
  for (const ou of ["groups", "people"]) {
    const { searchEntries } = await client.search(`ou=${ou},${suffix}`, { scope: "one", attributes: ["1.1"] });
    for (const { dn } of searchEntries) await client.del(dn);
  }
  for (const { id, userName, email, name, active } of people)
    await client.add(personDn(id), {
      objectClass: ["inetOrgPerson", "extensibleObject"],
      ...{ employeeNumber: id, uid: userName, cn: name, sn: "x", ...(email !== null && { mail: email }), ...more },
      ...(!active && { nsAccountLock: "TRUE" }),
    });
  for (const { id, name, people: members, groups: inner } of groups)
    await client.add(groupDn(id), {
      objectClass: ["groupOfNames", "extensibleObject"],
      ...{ cn: id, description: name, ...more },
      // The class needs a member, and a printer is no person.
      member: ["cn=printer", ...members.map(personDn), ...inner.map(groupDn)],
    });
}

describe("ldap with a real server", { skip }, () => {
  let slapd: Slapd;
  before(async () => {
    slapd = await startSlapd();
  });
  after(async () => slapd?.stop());

  async function ldapDirectory(): Promise<ControlledDirectory> {
    const proxy = await startCuttingProxy(slapd.port);
    let present: DirectoryContent = { people: [], groups: [] };
    return {
      // The lowest page size of the settings is larger than the directory of the suite.
      open: () => open(proxy.port, { page_size: 10 }),
      async set(content) {
        present = content;
        await slapd.write((client) => store(client, content));
      },
      fail: (fault) => proxy.cut(fault === "cut" ? 300 : 0),
      heal: () => proxy.cut(null),
      addUnknownFields: () => slapd.write((client) => store(client, present, { roomNumber: "12", pager: ["1", "2"] })),
      close: proxy.close,
    };
  }

  directorySourceContract(
    "ldap",
    {
      faults: ["unavailable", "cut"],
      nestedGroups: true,
      delta: true,
      duplicates: false,
    },
    ldapDirectory,
  );

  const ada = { id: "1", userName: "ada", email: "ada@example.com", name: "Ada", active: true };
  const bob = { ...ada, id: "2", userName: "bob", email: "bob@example.com", name: "Bob" };
  const group = (id: string, people: readonly string[], groups: readonly string[] = []) => {
    return { id, name: `team ${id}`, people, groups };
  };
  const set = (content: DirectoryContent): Promise<void> => slapd.write((client) => store(client, content));

  test("a directory that is larger than the server's limit for one search is read in pages", async () => {
    const people = Array.from({ length: 65 }, (_, n) => ({ ...ada, id: `p${n}` }));
    await set({
      people,
      groups: [
        group(
          "all",
          people.map(({ id }) => id),
        ),
      ],
    });
    const read = await readAll(open(slapd.port, { page_size: 10 }));
    assert.equal(read.people.size, 65);
    assert.equal(read.members.get("all")?.size, 65);
  });

  test("a delta has changed entries and the members of changed groups alone", async () => {
    await set({ people: [ada, bob], groups: [group("a", ["1", "2"]), group("b", ["1"])] });
    // Marks have whole seconds, and changes of the two minutes before the newest one are read again.
    const mark = "20200101000000Z";
    const age = (client: Client, dn: string, time: string): Promise<void> =>
      relaxed(client, dn, { createTimestamp: time, modifyTimestamp: time });
    await slapd.write(async (client) => {
      for (const dn of [personDn("1"), groupDn("b")]) await age(client, dn, "20190101000000Z");
      for (const dn of [personDn("2"), groupDn("a")]) await age(client, dn, mark);
    });
    const { delta } = await readAll(open(slapd.port));
    assert.ok(delta?.includes(mark.slice(0, 14)) === true, String(delta));
    await slapd.write(async (client) => {
      const { Attribute, Change } = await import("ldapts");
      const member = new Attribute({ type: "member", values: [personDn("1")] });
      await client.modify(groupDn("a"), new Change({ operation: "delete", modification: member }));
      const mail = new Attribute({ type: "mail", values: ["robert@example.com"] });
      await client.modify(personDn("2"), new Change({ operation: "replace", modification: mail }));
      await client.add(personDn("3"), {
        objectClass: ["inetOrgPerson"],
        employeeNumber: "3",
        uid: "eve",
        cn: "Eve",
        sn: "x",
      });
    });
    const changes = await readAll(open(slapd.port), delta);
    assert.deepEqual([...changes.people.keys()], ["2", "3"]);
    assert.equal(changes.people.get("2")?.email, "robert@example.com");
    assert.deepEqual([...changes.wholeGroups], ["a"]);
    assert.deepEqual([...(changes.members.get("a") ?? [])], ["2"]);
    await slapd.write((client) => client.del(personDn("1")));
    await rejectsWith(readAll(open(slapd.port), changes.delta), "deltaExpired", /an entry has gone/);
  });

  test("a person is found by id and by nothing else, with their groups", async () => {
    await set({ people: [ada, bob], groups: [group("a", ["1"]), group("b", ["2"]), group("c", ["1", "2"])] });
    const source = open(slapd.port);
    const page = await source.readPerson?.("1", signal());
    assert.deepEqual(page?.people, [ada]);
    assert.deepEqual(page?.members.map(({ groupId }) => groupId).sort(), ["a", "c"]);
    for (const id of ["*", "1)(uid=*", "1*", "\\31", "9"])
      assert.equal(await source.readPerson?.(id, signal()), null, id);
    await source.close();
  });

  test("memberUid names people by their user name", async () => {
    await set({ people: [ada, bob], groups: [] });
    await slapd.write((client) =>
      client.add(groupDn("posix"), {
        objectClass: ["posixGroup", "extensibleObject"],
        ...{ cn: "posix", gidNumber: "100", memberUid: ["ADA", "nobody"] },
      }),
    );
    const source = (): DirectorySource =>
      open(slapd.port, { member_attribute: "memberUid", group_name_attribute: "cn" });
    const read = await readAll(source());
    assert.deepEqual([...(read.members.get("posix") ?? [])], ["1"]);
    await set({ people: [ada], groups: [] });
  });

  test("two entries with one id are refused", async () => {
    await set({ people: [ada, bob], groups: [] });
    await rejectsWith(readAll(open(slapd.port, { id_attribute: "sn" })), "malformed", /two entries have the same id/);
  });

  test("an id that we may not read is refused, so that it does not look like an empty directory", async () => {
    await set({ people: [ada], groups: [] });
    await rejectsWith(
      readAll(open(slapd.port, { id_attribute: "departmentNumber" })),
      "malformed",
      /has no departmentNumber/,
    );
  });

  test("a base that does not exist is an error, and so is a wrong password", async () => {
    await rejectsWith(readAll(open(slapd.port, { people_base: `ou=none,${suffix}` })), "malformed", /no such object/);
    await rejectsWith(readAll(open(slapd.port, { bind_password: "wrong" })), "unauthorized", /invalid credentials/);
  });

  test("LDAPS and StartTLS verify the certificate and its name", async () => {
    await set({ people: [ada, bob], groups: [group("a", ["1"])] });
    const { ca, port, tlsPort } = slapd;
    const stranger = (await Authority.root("stranger")).pem;
    const urls = [
      { url: `ldaps://localhost:${tlsPort}` },
      { url: `ldaps://127.0.0.1:${tlsPort}` },
      { url: `ldap://localhost:${port}`, start_tls: true },
    ];
    for (const more of urls) {
      const read = await readAll(open(port, { ...more, certificate_authority: ca }));
      assert.equal(read.people.size, 2, more.url);
      assert.deepEqual([...(read.members.get("a") ?? [])], ["1"]);
      await rejectsWith(readAll(open(port, more)), "unreachable", /UNABLE_TO_VERIFY|SELF_SIGNED|unable to/);
      await rejectsWith(readAll(open(port, { ...more, certificate_authority: stranger })), "unreachable", /failed/);
    }
    const named = { url: `ldaps://ldap.localhost:${tlsPort}`, certificate_authority: ca };
    await rejectsWith(readAll(open(port, named)), "unreachable", /ERR_TLS_CERT_ALTNAME_INVALID/);
  });

  test("a connection that ends between two pages is not replaced without TLS or a bind", async () => {
    await set({
      people: Array.from({ length: 25 }, (_, n) => ({ ...ada, id: `p${n}` })),
      groups: [group("a", ["p1"])],
    });
    const source = open(slapd.port, {
      url: `ldap://localhost:${slapd.port}`,
      start_tls: true,
      certificate_authority: slapd.ca,
      page_size: 10,
    });
    let page = await source.read({ since: null, cursor: null, signal: signal() });
    while (page.groups.length === 0) page = await source.read({ since: null, cursor: page.next, signal: signal() });
    await slapd.restart();
    const last = page.next;
    await rejectsWith(source.read({ since: null, cursor: last, signal: signal() }), "unreachable", /closed|failed/);
    page = await source.read({ since: null, cursor: last, signal: signal() });
    assert.deepEqual(page.members, [{ groupId: "a", people: ["p1"], groups: [] }]);
    await source.close();
  });
});

test("ldap: a group of 50,000 people is read in pages that the core accepts", { skip }, async () => {
  const ids = Array.from({ length: 50_000 }, (_, n) => `p${n}`);
  const people = ids.map(
    (id) => `dn: ${personDn(id)}\nobjectClass: inetOrgPerson\nemployeeNumber: ${id}\nuid: ${id}\ncn: ${id}\nsn: x\n`,
  );
  const members = ids.map((id) => `member: ${personDn(id)}\n`).join("");
  const all = `dn: ${groupDn("all")}\nobjectClass: groupOfNames\ncn: all\n${members}`;
  const server = await startSlapd({ ldif: `${people.join("\n")}\n${all}` });
  try {
    const read = await readAll(open(server.port, { page_size: 1_000 }));
    assert.equal(read.people.size, 50_000);
    assert.equal(read.members.get("all")?.size, 50_000);
  } finally {
    await server.stop();
  }
});

/** Sets operational attributes, which only the administrator may do with a control. */
async function relaxed(client: Client, dn: string, values: Readonly<Record<string, string>>): Promise<void> {
  const { Attribute, Change, Control } = await import("ldapts");
  const changes = Object.entries(values).map(
    ([type, value]) => new Change({ operation: "replace", modification: new Attribute({ type, values: [value] }) }),
  );
  await client.modify(dn, changes, new Control("1.3.6.1.4.1.4203.666.5.12", { critical: true }));
}

describe("ldap with a server that has the schema of Active Directory", { skip }, () => {
  const guid = (n: number): Buffer => Buffer.from(`0011223344556677${String(n).padStart(16, "0")}`, "hex");
  const guidText = (n: number): string => {
    const hex = guid(n).toString("hex");
    return `33221100-5544-7766-${hex.slice(16, 20)}-${hex.slice(20)}`;
  };
  const sid = (relative: number): Buffer => {
    const bytes = Buffer.from("010500000000000515000000010000000200000003000000ffffffff", "hex");
    bytes.writeUInt32LE(relative, 24);
    return bytes;
  };
  const lines = (values: Readonly<Record<string, string | number | Buffer | readonly string[]>>): string =>
    Object.entries(values)
      .flatMap(([name, value]) =>
        Array.isArray(value) ? value.map((each) => [name, each] as const) : [[name, value] as const],
      )
      .map(([name, value]) => (Buffer.isBuffer(value) ? `${name}:: ${value.toString("base64")}` : `${name}: ${value}`))
      .join("\n");
  const common = { instanceType: 4, nTSecurityDescriptor: "x", objectCategory: `cn=person,${suffix}` };
  const user = (n: number, more: object): string =>
    lines({
      ...{
        dn: `cn=User ${n},ou=people,${suffix}`,
        objectClass: ["user", "extensibleObject"],
        cn: `User ${n}`,
        sn: "x",
        ...common,
      },
      ...{ objectGUID: guid(n), objectSid: sid(1_000 + n), sAMAccountName: `user${n}`, displayName: `User ${n}` },
      ...{ primaryGroupID: 513, userAccountControl: 512, uSNCreated: n, uSNChanged: n, ...more },
    });
  const groupEntry = (n: number, name: string, members: readonly string[], more: object = {}): string =>
    [
      lines({
        ...{
          dn: `cn=${name},ou=groups,${suffix}`,
          objectClass: ["group", "extensibleObject"],
          cn: name,
          groupType: 2,
          ...common,
        },
        ...{ objectGUID: guid(n), objectSid: sid(n), uSNCreated: n, uSNChanged: n, ...more },
      }),
      ...members.map((dn) => `member: ${dn}`),
    ].join("\n");
  const dn = (n: number): string => `cn=User ${n},ou=people,${suffix}`;

  test("people have GUIDs, a disabled account is not active, and a primary group has its people", async () => {
    const ldif = [
      user(1, { userPrincipalName: "ada@corp.example", mail: "ada@corp.example" }),
      user(2, { userAccountControl: 514, userPrincipalName: "bob@corp.example" }),
      user(3, { userAccountControl: 66_050, primaryGroupID: 514 }),
      groupEntry(513, "Domain Users", []),
      groupEntry(600, "Engineers", [dn(1).toUpperCase(), `cn=Inner,ou=groups,${suffix}`]),
      groupEntry(601, "Inner", [dn(2)]),
    ].join("\n\n");
    const server = await startSlapd({ ldif: `${ldif}\n` });
    const section = {
      ...{ kind: "active_directory", url: `ldaps://localhost:${server.tlsPort}`, certificate_authority: server.ca },
      ...{ bind_dn: reader.dn, bind_password: reader.password, people_filter: "(objectClass=user)" },
      ...{ people_base: `ou=people,${suffix}`, groups_base: `ou=groups,${suffix}` },
    };
    const openHere = (): DirectorySource => ldapAdapter.open(section, parts);
    try {
      const read = await readAll(openHere());
      assert.deepEqual(
        [...read.people.values()],
        [
          { id: guidText(1), userName: "ada@corp.example", email: "ada@corp.example", name: "User 1", active: true },
          { id: guidText(2), userName: "bob@corp.example", email: null, name: "User 2", active: false },
          { id: guidText(3), userName: "user3", email: null, name: "User 3", active: false },
        ],
      );
      assert.deepEqual([...(read.members.get(guidText(513)) ?? [])], [guidText(1), guidText(2)]);
      assert.deepEqual([...(read.members.get(guidText(600)) ?? [])], [guidText(1)]);
      assert.deepEqual([...(read.inner.get(guidText(600)) ?? [])], [guidText(601)]);
      const source = openHere();
      const page = await source.readPerson?.(guidText(1), signal());
      assert.deepEqual(page?.groups.map(({ name }) => name).sort(), ["Domain Users", "Engineers"]);
      assert.equal(await source.readPerson?.("not-a-guid", signal()), null);
      await source.close();
      // A change has a higher number. Groups without one are not read again, unless they are a primary group.
      await server.write(async (client) => {
        const { Attribute, Change } = await import("ldapts");
        const usn = new Attribute({ type: "uSNChanged", values: ["700"] });
        const member = new Attribute({ type: "member", values: [dn(3)] });
        await client.modify(`cn=Inner,ou=groups,${suffix}`, [
          new Change({ operation: "replace", modification: usn }),
          new Change({ operation: "add", modification: member }),
        ]);
      });
      const changes = await readAll(openHere(), read.delta);
      assert.deepEqual([...changes.groups.values()], ["Inner"]);
      assert.deepEqual([...changes.wholeGroups].sort(), [guidText(513), guidText(601)].sort());
      assert.deepEqual([...(changes.members.get(guidText(601)) ?? [])].sort(), [guidText(2), guidText(3)]);
    } finally {
      await server.stop();
    }
  });
});

test("ldap: a key that is missing and one that is not known are named, with what is wrong", () => {
  const { people_base: _, ...rest } = section(389) as Readonly<Record<string, unknown>>;
  const parsed = parseSettings(ldapAdapter, { ...rest, pepole_base: "x", page_size: "many" });
  assert.ok("problems" in parsed);
  assert.deepEqual(parsed.problems.slice(0, 1), [{ key: "people_base", problem: "is missing" }]);
  assert.ok(parsed.problems.some(({ key, problem }) => key === "pepole_base" && problem === "is not a known key"));
  assert.ok(parsed.problems.some(({ key, problem }) => key === "page_size" && problem.includes("number")));
});

test("ldap: the settings refuse a connection in clear, filters that are none, and unknown keys", () => {
  const problem = (more: object): string =>
    ldapAdapter.settings.safeParse({ ...section(389), ...more }).error?.message ?? "";
  assert.equal(problem({}), "");
  assert.match(problem({ url: "ldap://ldap.example.com" }), /must stay true/);
  assert.equal(problem({ url: "ldap://ldap.example.com", start_tls: true }), "");
  assert.match(problem({ url: "http://ldap.example.com" }), /must begin with ldaps/);
  assert.match(problem({ url: "ldaps://user:pass@ldap.example.com" }), /must not contain a name or password/);
  assert.match(problem({ people_filter: "(&(objectClass=person)" }), /is not an LDAP filter/);
  assert.match(problem({ id_attribute: "uid)(cn=*" }), /is not the name of an attribute/);
  assert.match(problem({ certificate_authority: "-----BEGIN NOTHING-----" }), /PEM certificates/);
  assert.match(problem({ bind_password: "" }), /bind_password|>=1/);
  assert.match(problem({ pepole_base: "x" }), /pepole_base/);
});
