/** Criteria on devices, tools and external records: every permit with its deny beside it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { DecisionRequest } from "../../../../src/auth/authorize/decision.ts";
import { type DataRecord, type RecordKey, RecordSet } from "../../../../src/auth/authorize/records/records.ts";
import { decideOn, outcomeOf, source, summaryOf, type Who } from "../support.ts";

const key = { id: "d1", typeId: "any", approvedBy: "admin" };
const fresh = { id: "d2", typeId: "enclave_only", approvedBy: null };
const personWith = (...devices: (typeof key | typeof fresh)[]): Who => ({ devices });

const devices: readonly (readonly [object, Who, string])[] = [
  [{ device: { type: "any" } }, personWith(key), "permit device-ok"],
  [{ device: {} }, personWith(key), "permit device-ok"],
  [{ device: {} }, personWith(), "deny 401 device-unauthenticated"],
  [{ device: {} }, personWith(fresh), "deny 401 device-unauthenticated"],
  [{ device: { type: "enclave_only" } }, personWith(key, fresh), "permit device-ok"],
  [{ device: { is: "d1" } }, personWith(key), "permit device-ok"],
  [{ device: { is: "d9" } }, personWith(key), "deny 450 device-unauthorized"],
  [{ device: { is: "d2" } }, personWith(key, fresh), "deny 450 device-unauthorized"],
  [{ device: { approved: true } }, personWith(key), "permit device-ok"],
  [{ device: { approved: true, type: "enclave_only" } }, personWith(fresh), "deny 450 device-unauthorized"],
  [{ device: { approved: false, type: "enclave_only" } }, personWith(fresh), "permit device-ok"],
  [{ device: { approved: false } }, personWith(key), "deny 450 device-unauthorized"],
  [{ device: { approved: 0 } }, personWith(key), "deny 450 device-unauthorized"],
  [{ device: { approved: false } }, personWith(), "deny 401 device-unauthenticated"],
  [{ device: { approved: false } }, null, "signin user-unauthenticated"],
  [{ device: { type: "any" } }, null, "signin user-unauthenticated"],
];
for (const [criterion, who, expect] of devices) {
  test(`${JSON.stringify(criterion)} for ${JSON.stringify(who)} gives ${expect}`, () => {
    assert.equal(outcomeOf({ allow: { and: [criterion] } }, who), expect);
  });
}

test("a user without a device must present the type that the policy requires, and a deny rule may require one too", () => {
  const requiredDevice = (ppl: unknown): unknown => {
    const decision = decideOn({ policy: source(ppl) }, {});
    return decision.type === "deny" && [decision.status, decision.deviceType];
  };
  assert.deepEqual(requiredDevice({ allow: { and: [{ device: { type: "enclave_only" } }] } }), [401, "enclave_only"]);
  assert.deepEqual(requiredDevice({ allow: { or: [{ accept: 1 }] }, deny: { not: [{ device: {} }] } }), [401, "any"]);
  assert.deepEqual(requiredDevice({ allow: { or: [{ reject: 1 }] } }), [403, null]);
});

test("a decision reads only devices of the types that the policy names", () => {
  const on = { policy: source({ allow: { and: [{ device: {} }, { groups: "eng" }] } }) };
  const { facts, reads } = decideOn(on, { devices: [key, fresh] });
  assert.deepEqual([facts.devices, facts.groups], [["d1"], ["eng"]]);
  assert(reads.includes("device:d1") && !reads.includes("device:d2"));
});

const calls: readonly (readonly [object, DecisionRequest["mcp"], string])[] = [
  [{ mcp_tool: "query" }, { method: "tools/call", tool: "query" }, "permit mcp-tool-match"],
  [{ mcp_tool: "query" }, { method: "tools/call", tool: "drop" }, "deny 403 mcp-tool-no-match"],
  [{ mcp_tool: { not: "drop" } }, { method: "tools/call", tool: null }, "deny 403 mcp-tool-no-match"],
  [{ mcp_tool: { not_in: ["drop"] } }, { method: "tools/list", tool: null }, "deny 403 mcp-not-a-tool-call"],
  [{ mcp_tool: "query" }, null, "deny 403 mcp-not-a-tool-call"],
];
for (const [criterion, mcp, expect] of calls) {
  test(`${JSON.stringify(criterion)} of ${JSON.stringify(mcp)} gives ${expect}`, () => {
    assert.equal(outcomeOf({ allow: { and: [criterion] } }, null, { mcp: mcp ?? null }), expect);
  });
}

// --- records

function set(recordKey: RecordKey, ...records: DataRecord[]): ReadonlyMap<string, RecordSet> {
  const made = new RecordSet("hr", recordKey);
  made.replace(records);
  return new Map([["hr", made]]);
}
const hr = set("user.email", {
  id: "alice@example.com",
  team: "blue",
  teams: ["blue", "red"],
  score: 7,
  grade: "12",
  boss: { name: "bob" },
  nothing: null,
});

const records: readonly (readonly [object, boolean])[] = [
  [{ exists: true }, true],
  [{ exists: false }, false],
  [{ field: "team", is: "blue" }, true],
  [{ field: "team", is: "red" }, false],
  [{ field: "team", not: "red" }, true],
  [{ field: "team", in: ["blue", "red"] }, true],
  [{ field: "team", not_in: ["blue"] }, false],
  [{ field: "team", starts_with: "bl", ends_with: "ue" }, true],
  [{ field: "team", contains: "x" }, false],
  [{ field: "teams", has: "red" }, true],
  [{ field: "teams", has: "green" }, false],
  [{ field: "teams", is: "red" }, false],
  [{ field: "teams", exclude: "green" }, true],
  [{ field: "score", ">=": 7 }, true],
  [{ field: "score", ">": 7 }, false],
  [{ field: "score", "<=": 7, "<": 8 }, true],
  [{ field: "score", "=": 7 }, true],
  [{ field: "score", is: 7 }, true],
  [{ field: "grade", ">": 7 }, true],
  [{ field: "team", ">": 0 }, false],
  [{ field: "boss.name", is: "bob" }, true],
  [{ field: "missing", not: "x" }, false],
  [{ field: "missing", exclude: "x" }, true],
  [{ field: "nothing", "<=": 0 }, false],
  [{ field: "constructor", exclude: "x", exists: true }, true],
  [{ field: "constructor", contains: "function" }, false],
];
for (const [data, holds] of records) {
  test(`record ${JSON.stringify(data)} ${holds ? "holds" : "does not hold"}`, () => {
    const on = { policy: source({ allow: { and: [{ record: { type: "hr", ...data } }] } }) };
    assert.equal(
      summaryOf(decideOn(on, {}, {}, { records: hr })),
      holds ? "permit record-ok" : "deny 403 record-unauthorized",
    );
    assert.equal(summaryOf(decideOn(on, null, {}, { records: hr })), "signin user-unauthenticated");
  });
}

test("a user without a record in a data set that was read counts as having none", () => {
  const on = { policy: source({ allow: { and: [{ record: { type: "hr", exists: false } }] } }) };
  assert.equal(summaryOf(decideOn(on, { email: "bob@example.com" }, {}, { records: hr })), "permit record-ok");
  assert.equal(
    summaryOf(decideOn(on, { email: "" }, {}, { records: set("user.email", { id: "" }) })),
    "permit record-ok",
  );
});

test("an address matches its own record, then the record of the narrowest range", () => {
  const ranges = set(
    "request.ip",
    { $index: { cidr: "10.0.0.0/8" }, country: "A" },
    { $index: { cidr: "10.1.0.0/16" }, country: "B" },
    { id: "10.1.2.3", country: "C" },
    { $index: { cidr: "2001:db8::/32" }, country: "D" },
    { $index: { cidr: "nonsense" }, country: "E" },
  );
  const country = (ip: string, is: string): string => {
    const on = { policy: source({ allow: { and: [{ record: { type: "hr", field: "country", is } }] } }) };
    return summaryOf(decideOn(on, null, { ip }, { records: ranges }));
  };
  for (const [ip, is] of [
    ["10.9.9.9", "A"],
    ["10.1.9.9", "B"],
    ["10.1.2.3", "C"],
    ["::ffff:10.1.9.9", "B"],
    ["2001:db8:ffff::1", "D"],
  ] as const) {
    assert.equal(country(ip, is), "permit record-ok", ip);
    assert.equal(country(ip, "Z"), "deny 403 record-unauthorized", ip);
  }
  assert.equal(country("192.0.2.1", "A"), "deny 403 record-unauthorized");
  assert.equal(country("", "A"), "deny 403 record-unauthorized");
});

test("a data set that was never read permits no request, in any form of the criterion", () => {
  const unread = new Map([["hr", new RecordSet("hr", "request.ip")]]);
  const on = (ppl: unknown): string => summaryOf(decideOn({ policy: source(ppl) }, {}, {}, { records: unread }));
  const record = { record: { type: "hr", exists: true } };
  const unavailable = "deny 503 record-unavailable";
  assert.equal(on({ allow: { and: [record] } }), unavailable);
  assert.equal(on({ allow: { not: [record] } }), unavailable);
  assert.equal(on({ allow: { or: [{ accept: 1 }] }, deny: { or: [record] } }), "deny 503 accept record-unavailable");
  assert.equal(on({ allow: { or: [{ accept: 1 }] }, deny: { nor: [record] } }), "deny 503 accept record-unavailable");
  assert.equal(on({ allow: { or: [{ accept: 1 }, record] } }), "permit accept");
  assert.equal(on({ allow: { and: [record] }, deny: { or: [{ accept: 1 }] } }), "deny 403 accept");
});

test("expired data is cleared, and new data replaces the old as a whole", () => {
  const made = new RecordSet("hr", "user.email");
  assert.equal(made.known, false);
  made.replace([{ id: "a" }]);
  made.replace([{ id: "b" }, { id: "b", second: true }]);
  assert.deepEqual([made.find("a"), made.find("b")], [undefined, { id: "b", second: true }]);
  made.clear();
  assert.deepEqual([made.known, made.find("b")], [false, undefined]);
});
