/** PATCH, filters and normalisation of SCIM resources, in the forms that Okta and Entra ID send, and hostile ones. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ScimError } from "../../../../src/auth/authenticate/scim/scim-error.ts";
import { meetsFilter, parseFilter, requiredText } from "../../../../src/auth/authenticate/scim/scim-filter.ts";
import { applyPatch, parsePatch, patchSchema } from "../../../../src/auth/authenticate/scim/scim-patch.ts";
import { normalizeUser, shownOf } from "../../../../src/auth/authenticate/scim/scim-user.ts";

const enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const alice = {
  userName: "alice",
  active: true,
  name: { givenName: "Alice", familyName: "A" },
  emails: [
    { type: "work", value: "a@x", primary: true },
    { type: "home", value: "h@x", primary: false },
  ],
};
const patch = (resource: object, ...operations: readonly object[]) =>
  normalizeUser(applyPatch(resource as never, parsePatch({ schemas: [patchSchema], Operations: operations })));
const refused = (scimType: string) => (error: unknown) => error instanceof ScimError && error.scimType === scimType;

describe("PATCH", () => {
  test("booleans may be text, and names of operations and attributes ignore case", () => {
    assert.equal(patch(alice, { op: "Replace", path: "ACTIVE", value: "False" })["active"], false);
    assert.equal(patch(alice, { op: "replace", value: { Active: "TRUE" } })["active"], true);
    const renamed = patch(alice, { op: "REPLACE", path: "USERNAME", value: "bob" });
    assert.equal(renamed["userName"], "bob");
    assert.deepEqual(
      Object.keys(renamed).filter((name) => name.toLowerCase() === "username"),
      ["userName"],
    );
  });

  test("without a path a value names attributes, also with dots, filters and extensions", () => {
    const changed = patch(alice, {
      op: "add",
      value: { "name.givenName": "Al", 'emails[type eq "work"].value': "n@x", [`${enterprise}:department`]: "R" },
    });
    assert.deepEqual(changed["name"], { givenName: "Al", familyName: "A" });
    assert.equal((changed["emails"] as { value: string }[])[0]?.value, "n@x");
    assert.deepEqual(changed[enterprise], { department: "R" });
    const more = patch(changed, { op: "replace", value: { [enterprise]: { costCenter: "7" } } });
    assert.deepEqual(more[enterprise], { department: "R", costCenter: "7" });
  });

  test("a filter changes what it finds, creates what it describes, and otherwise has no target", () => {
    const one = patch(alice, { op: "replace", path: 'emails[primary eq "True"].value', value: "p@x" });
    assert.equal((one["emails"] as { value: string }[])[0]?.value, "p@x");
    const created = patch(alice, { op: "Replace", path: 'phoneNumbers[type eq "mobile"].value', value: "1" });
    assert.deepEqual(created["phoneNumbers"], [{ type: "mobile", value: "1" }]);
    const missing = { op: "replace", path: 'emails[type ne "work" and value co "z"].value', value: "1" };
    assert.throws(() => patch(alice, missing), refused("noTarget"));
  });

  test("only one element stays primary", () => {
    const added = patch(alice, { op: "add", path: "emails", value: [{ value: "n@x", primary: true }] });
    assert.deepEqual(
      (added["emails"] as { primary: boolean }[]).map(({ primary }) => primary),
      [false, false, true],
    );
  });

  test("remove takes elements by filter, by value, by attribute, or the whole", () => {
    const emails = (resource: Readonly<Record<string, unknown>>) =>
      ((resource["emails"] ?? []) as { value: string }[]).map(({ value }) => value);
    assert.deepEqual(emails(patch(alice, { op: "remove", path: 'emails[type eq "home"]' })), ["a@x"]);
    assert.deepEqual(emails(patch(alice, { op: "Remove", path: "emails", value: [{ value: "a@x" }] })), ["h@x"]);
    assert.deepEqual(emails(patch(alice, { op: "remove", path: "emails" })), []);
    assert.deepEqual(patch(alice, { op: "remove", path: "name.familyName" })["name"], { givenName: "Alice" });
    assert.throws(() => patch(alice, { op: "remove", path: "userName" }), refused("invalidValue"));
    assert.throws(() => patch(alice, { op: "remove" }), refused("noTarget"));
  });

  test("adding what is there changes nothing", () => {
    assert.deepEqual(patch(alice, { op: "add", path: "emails", value: alice.emails[0] }), normalizeUser(alice));
  });

  test("read-only attributes are refused with a path, and ignored without one, as Okta sends them", () => {
    assert.throws(() => patch(alice, { op: "replace", path: "id", value: "x" }), refused("mutability"));
    assert.throws(() => patch(alice, { op: "add", path: "groups", value: [{ value: "g" }] }), refused("mutability"));
    assert.deepEqual(patch(alice, { op: "replace", value: { id: "x", meta: {}, displayName: "D" } })["id"], undefined);
  });

  test("no name reaches a prototype", () => {
    for (const name of ["__proto__", "__proto__.x", "constructor.prototype.x", 'emails[__proto__ eq "a"].x'])
      try {
        patch(alice, { op: "add", path: name, value: { polluted: true } });
      } catch (error) {
        assert.ok(error instanceof ScimError, String(error));
      }
    const parsed = JSON.parse(
      '{"__proto__": {"polluted": true}, "userName": "a", "name": {"__proto__": {"polluted": 1}}}',
    );
    normalizeUser(parsed);
    assert.throws(() => patch(alice, { op: "add", value: JSON.parse('{"__proto__": {"polluted": true}}') }), ScimError);
    assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
  });

  test("malformed operations are refused", () => {
    for (const [operation, scimType] of [
      [{ op: "move", path: "a", value: 1 }, "invalidSyntax"],
      [{ op: "add", path: "a.b.c", value: 1 }, "invalidPath"],
      [{ op: "add", path: "emails[type eq", value: 1 }, "invalidFilter"],
      [{ op: "add", path: 'emails[type eq "work"]x', value: 1 }, "invalidPath"],
      [{ op: "add", path: "displayName" }, "invalidValue"],
      [{ op: "add", value: "text" }, "invalidValue"],
      [{ op: "replace", path: "displayName", value: 7 }, "invalidValue"],
      [{ op: "replace", path: "active", value: "maybe" }, "invalidValue"],
    ] as const)
      assert.throws(() => patch(alice, operation), refused(scimType), JSON.stringify(operation));
    assert.throws(() => parsePatch({ Operations: [{ op: "add" }] }), refused("invalidSyntax"));
    assert.throws(() => parsePatch({ schemas: [patchSchema], Operations: [] }), refused("invalidSyntax"));
  });
});

describe("filters", () => {
  const meets = (text: string): boolean => meetsFilter(alice, parseFilter(text));

  test("every operator, with and, or, not and groups", () => {
    for (const text of [
      'userName eq "ALICE"',
      'userName ne "bob"',
      'name.familyName sw "a"',
      'emails co "@x"',
      'emails.value ew "@x"',
      'emails[type eq "work" and value co "a@"]',
      'emails[type eq "work"].value eq "a@x"',
      "displayName eq null",
      "name pr and not (nickName pr)",
      "active eq true",
      'active eq "True"',
      'userName gt "al" and userName le "alice"',
      '(userName eq "x" or userName eq "alice") and active eq true',
      'urn:ietf:params:scim:schemas:core:2.0:User:userName eq "alice"',
    ])
      assert.ok(meets(text), text);
    for (const text of [
      'userName eq "bob"',
      'emails[type eq "home" and value eq "a@x"]',
      "nickName pr",
      "active ne true",
    ])
      assert.ok(!meets(text), text);
  });

  test("or binds weaker than and", () => {
    assert.ok(meets('userName eq "alice" or userName eq "x" and active eq false'));
  });

  test("externalId and id are compared exactly", () => {
    const resource = { userName: "a", externalId: "Ab" };
    assert.ok(meetsFilter(resource, parseFilter('externalId eq "Ab"')));
    assert.ok(!meetsFilter(resource, parseFilter('externalId eq "ab"')));
  });

  test("what an index needs is found only where the filter requires it", () => {
    assert.equal(requiredText(parseFilter('userName eq "a" and active eq true'), "username"), "a");
    assert.equal(requiredText(parseFilter('userName eq "a" or active eq true'), "username"), undefined);
    assert.equal(requiredText(parseFilter('emails[type eq "work"].value eq "m"'), "emails.value"), "m");
    assert.equal(requiredText(parseFilter('emails eq "m"'), "emails.value"), "m");
    assert.equal(requiredText(parseFilter('not (userName eq "a")'), "username"), undefined);
  });

  test("malformed, long and deep filters are refused", () => {
    for (const text of [
      "",
      "userName",
      "userName eq",
      'userName eq "a',
      'userName xx "a"',
      'userName eq "a" and',
      '(userName eq "a"',
      'userName eq "a")',
      "active gt true",
      '"a" eq userName',
      "x".repeat(2_001),
      `${"(".repeat(20)}userName pr${")".repeat(20)}`,
      Array.from({ length: 65 }, () => "a pr").join(" or "),
    ])
      assert.throws(() => parseFilter(text), refused("invalidFilter"), text.slice(0, 50));
  });
});

describe("users", () => {
  test("a password, ids and groups are not kept, and names have the form of the schema", () => {
    const user = normalizeUser({ USERNAME: "a", id: "x", meta: {}, groups: [], password: "p", Emails: { value: "e" } });
    assert.deepEqual(user, { userName: "a", emails: [{ value: "e" }], active: true });
  });

  test("a resource that is too large or too deep is refused", () => {
    let deep: object = {};
    for (let level = 0; level < 12; level++) deep = { deep };
    assert.throws(() => normalizeUser({ userName: "a", x: deep }), refused("invalidValue"));
    assert.throws(
      () => normalizeUser({ userName: "a", displayName: "x".repeat(30_000) }),
      (error) => error instanceof ScimError && error.status === 413,
    );
    for (const body of [null, [], "a", { userName: "" }, { userName: 7 }, { userName: "a", name: "text" }])
      assert.throws(() => normalizeUser(body), ScimError);
    const primaries = [{ primary: true }, { primary: "true" }];
    assert.throws(() => normalizeUser({ userName: "a", emails: primaries }), refused("invalidValue"));
  });

  test("what operators are shown is one line", () => {
    const user = normalizeUser({ userName: "a@x", displayName: "A\nB\ud800" });
    assert.deepEqual(shownOf(user), { email: "a@x", name: "A B\ufffd" });
  });
});
