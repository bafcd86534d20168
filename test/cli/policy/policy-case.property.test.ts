/** Every policy case, valid or not, is either evaluated or refused with its problems, and never throws otherwise. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compilePolicy, noRecords } from "../../../src/auth/index.ts";
import { evaluatePolicy } from "../../../src/cli/policy/evaluate-policy.ts";
import { CaseError, readCase } from "../../../src/cli/policy/policy-case.ts";
import { documentId, type PolicyTarget } from "../../../src/cli/policy/policy-document.ts";
import { certificateCheckerFor } from "../../../src/proxy/index.ts";
import { fc } from "../../support/property.ts";

/** `SEED=…` explores other inputs; a failure prints the seed and path to replay it. */

const place = { file: "policy.yaml", line: 1, column: 1 };
const ppl = {
  allow: {
    or: [
      { email: { ends_with: "@example.com" } },
      { "claim/a/b": "x" },
      { groups: "eng" },
      { device: {} },
      { source_ip: "10.0.0.0/8" },
    ],
  },
  deny: {
    or: [
      { http_path: { starts_with: "/admin" } },
      { client_certificate: { san_dns: "x" } },
      { ssh_username: "root" },
      { mcp_tool: "drop" },
    ],
  },
};
const compiled = compilePolicy({ ppl, location: place }, documentId);
assert(compiled.ok);
const target: PolicyTarget = {
  shadows: new Map(),
  policies: new Map([[documentId, compiled.policy]]),
  config: null,
  routes: null,
  route: { id: documentId, route: null },
  certificates: certificateCheckerFor(null),
  configuration: "x",
  records: noRecords,
};
const defaults = { scheme: "https", authority: "app.example.com" } as const;
const results = new Set(["permit", "deny", "signin", "device", "not_found"]);

function isEvaluated(value: unknown): boolean {
  try {
    const one = readCase(value, defaults, () => {});
    const { answer } = evaluatePolicy(target, one, () => 0);
    assert(results.has(answer.result));
    assert(Number.isInteger(answer.status) && answer.status >= 200 && answer.status < 600);
    assert.deepEqual(answer.reasons, answer.reasons.toSorted());
    JSON.parse(JSON.stringify(answer));
    return true;
  } catch (error) {
    assert(error instanceof CaseError, String(error));
    return false;
  }
}

test("any JSON is evaluated or refused as a case error", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      isEvaluated(value);
    }),
    { numRuns: 2_000 },
  );
});

test("a case with arbitrary values in any field is evaluated or refused as a case error", () => {
  const any = fc.oneof(fc.jsonValue(), fc.string(), fc.constant(null));
  const sane = { method: "GET", url: "https://app.example.com/x", headers: {}, ip: "10.0.0.1" };
  const some = (value: fc.Arbitrary<unknown>, instead: unknown): fc.Arbitrary<unknown> =>
    fc.oneof({ weight: 3, arbitrary: fc.constant(instead) }, { weight: 1, arbitrary: value });
  const headers = fc.dictionary(
    fc.oneof(fc.constantFrom("accept", "Host", "origin", "content-type", "transfer-encoding"), fc.string()),
    fc.oneof(fc.string(), fc.array(fc.string())),
  );
  const url = fc.oneof(
    fc.webUrl(),
    fc.webPath(),
    fc.string(),
    fc.constantFrom("tcp+https://db:5432", "//", "https://", "/.pomerium/user", "https://[::1]:8443/%zz"),
  );
  const value = fc.record({
    id: any,
    request: fc.record({
      method: some(fc.oneof(fc.string(), fc.constantFrom("CONNECT", "TRACE", "OPTIONS")), "GET"),
      url: some(url, sane.url),
      headers: some(fc.oneof(headers, any), {}),
      ip: some(any, sane.ip),
      client_certificate: some(
        fc.oneof(any, fc.record({ presented: fc.boolean(), leaf: fc.string(), intermediates: fc.string() })),
        null,
      ),
    }),
    session: some(
      fc.oneof(any, fc.record({ id: fc.string(), user_id: fc.string(), claims: any, device_credentials: any })),
      { id: "s", user_id: "u", claims: { a: { b: "x" } } },
    ),
    user: some(any, { id: "u", email: "u@example.com", claims: {} }),
    groups: some(any, ["eng"]),
    now: some(any, "2026-01-01T00:00:00Z"),
    ssh: some(any, null),
    mcp: some(any, null),
    records: some(any, {}),
  });
  let count = 0;
  fc.assert(
    fc.property(value, (one) => {
      if (isEvaluated(one)) count += 1;
    }),
    { numRuns: 3_000 },
  );
  assert(count > 100, `only ${count} cases were valid, too few for the test to mean anything`);
});
