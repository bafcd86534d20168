/**
 * Directory sync from a real LDAP server (slapd), over StartTLS: the leader reads it, and the policy of a route follows
 * who is in a group there, and who is locked.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Attribute, Change } from "ldapts";
import { TemporaryFolder } from "../../support/child.ts";
import { findSlapd, reader, type Slapd, startSlapd, suffix } from "../../support/slapd.ts";
import { waitFor } from "../../support/wait-for.ts";
import { echoOf, follow, retryUndecided, startInstallation } from "../identity/installation.ts";
import { raiseLevel } from "../scim/scim-client.ts";

const alice = `uid=alice,ou=people,${suffix}`;
const team = `cn=on-call,ou=groups,${suffix}`;
const ldif = [
  ...["alice", "bob"].map((name) =>
    [
      `dn: uid=${name},ou=people,${suffix}`,
      "objectClass: inetOrgPerson",
      "objectClass: extensibleObject",
      `uid: ${name}\ncn: ${name}\nsn: ${name}\nmail: ${name}@example.com\n`,
    ].join("\n"),
  ),
  `dn: ${team}\nobjectClass: groupOfNames\ncn: on-call\nmember: ${alice}\n`,
  // The policy names the outer group; alice is in the inner one.
  `dn: cn=engineers,ou=groups,${suffix}\nobjectClass: groupOfNames\ncn: engineers\nmember: ${team}\n`,
].join("\n");

const modify = (slapd: Slapd, dn: string, operation: "add" | "delete", type: string, value: string): Promise<void> =>
  slapd.write((client) =>
    client.modify(dn, new Change({ operation, modification: new Attribute({ type, values: [value] }) })),
  );

test("a person loses a route when they leave a group in LDAP, and everything when their account is locked", {
  skip: findSlapd() === undefined ? "slapd is not installed" : false,
  timeout: 180_000,
}, async (t) => {
  const slapd = await startSlapd({ ldif });
  t.after(() => slapd.stop());
  const folder = new TemporaryFolder("ldap-secrets");
  t.after(() => folder.remove());
  const file = (name: string, text: string): string => {
    const path = join(folder.path, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const at = await startInstallation(t, ({ url, upstream }) => ({
    directories: {
      corp: {
        provider: "ldap",
        kind: "openldap",
        url: `ldap://localhost:${slapd.port}`,
        certificate_authority_file: file("ca.pem", slapd.ca),
        bind_dn: reader.dn,
        bind_password_file: file("password", `${reader.password}\n`),
        people_base: `ou=people,${suffix}`,
        groups_base: `ou=groups,${suffix}`,
        match: "email",
        interval: "10s",
      },
    },
    routes: [
      { from: url("team"), to: upstream, policy: { allow: { and: [{ groups: { has: "engineers" } }] } } },
      { from: url("open"), to: upstream, allow_any_authenticated_user: true },
    ],
  }));
  await raiseLevel(at);
  at.provider.person.name = "alice";
  at.provider.person.claims = { email: "alice@example.com", email_verified: true };
  const visitor = at.visitor();
  const status = async (host: string): Promise<number> =>
    (await retryUndecided(() => visitor.request(at.url(host)))).status;
  echoOf((await follow(visitor, at.url("open"))).end);
  await follow(visitor, at.url("team"));
  await waitFor("the first run to let alice in", async () => (await status("team")) === 200, { withinMs: 60_000 });

  await modify(slapd, team, "add", "member", `uid=bob,ou=people,${suffix}`);
  await modify(slapd, team, "delete", "member", alice);
  await waitFor("a run to take the group", async () => (await status("team")) === 403, { withinMs: 60_000 });
  assert.equal(await status("open"), 200);

  await modify(slapd, alice, "add", "nsAccountLock", "TRUE");
  await waitFor("a run to end the session", async () => (await status("open")) !== 200, { withinMs: 60_000 });
  const again = await follow(at.visitor(), at.url("open"));
  assert.notEqual(again.end.status, 200, "a locked person cannot sign in");
  const leaked = at.logged.filter((line) => JSON.stringify(line).includes(reader.password));
  assert.deepEqual(leaked, []);
});
