/** Merging of outcomes (docs/pomerium-behaviour.md §6.2), case by case. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { combineCriteria } from "../../../src/auth/authorize/combine.ts";
import { type CompiledCriterion, compiledCriterion } from "../../../src/auth/authorize/criteria/criterion-parts.ts";
import type { PolicyOperator } from "../../../src/auth/authorize/ppl-parser.ts";
import { type Reason, ReasonTable } from "../../../src/auth/authorize/reasons.ts";
import { now, request } from "./support.ts";

type Given = readonly (readonly [boolean, Reason])[];
function outcome(operator: PolicyOperator, given: Given): string {
  const table = new ReasonTable();
  const criteria = given.map(([met, reason]): CompiledCriterion => {
    const always = met ? table.of(reason).met : table.of(reason).unmet;
    return compiledCriterion(() => always, { type: "nothing" });
  });
  const { met, reasons } = combineCriteria(operator, criteria, table)(request(), null, now);
  return [met, ...reasons.words].join(" ");
}

const yesYes: Given = [
  [true, "user-ok"],
  [true, "email-ok"],
];
const yesNo: Given = [
  [true, "user-ok"],
  [false, "email-unauthorized"],
];
const noNo: Given = [
  [false, "user-unauthorized"],
  [false, "email-unauthorized"],
];
const cases: readonly (readonly [PolicyOperator, Given, string])[] = [
  ["and", yesYes, "true email-ok user-ok"],
  ["and", yesNo, "false email-unauthorized"],
  ["and", noNo, "false email-unauthorized user-unauthorized"],
  ["or", yesYes, "true email-ok user-ok"],
  ["or", yesNo, "true user-ok"],
  ["or", noNo, "false email-unauthorized user-unauthorized"],
  ["not", yesYes, "false email-ok user-ok"],
  ["not", yesNo, "false user-ok"],
  ["not", noNo, "true email-unauthorized user-unauthorized"],
  ["nor", yesYes, "false email-ok user-ok"],
  ["nor", yesNo, "true email-unauthorized"],
  ["nor", noNo, "true email-unauthorized user-unauthorized"],
  ["not", [[false, "user-unauthenticated"]], "true user-unauthenticated"],
];
for (const [operator, given, expect] of cases) {
  test(`${operator} of ${given.map((each) => each.join(" ")).join(" and ")} is ${expect}`, () => {
    assert.equal(outcome(operator, given), expect);
  });
}

test("an operator over an empty list grants nothing", () => {
  for (const operator of ["and", "or", "not", "nor"] as const) assert.equal(outcome(operator, []), "false");
});

test("equal sets of reasons are one object, however they were built", () => {
  const table = new ReasonTable();
  const both = table.of("user-ok", "email-ok");
  assert.equal(table.of("email-ok", "user-ok", "user-ok"), both);
  assert.equal(table.union(table.of("user-ok"), table.of("email-ok")), both);
  assert.equal(table.union(table.none, both), both);
  assert.equal(table.union(both, table.of("user-ok")), both);
});
