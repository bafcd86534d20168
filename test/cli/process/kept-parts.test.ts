/** What a reload keeps: a key that a part reads must replace the part. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hasSameDirectories, hasSameProviders } from "../../../src/cli/process/kept-parts.ts";
import type { Config } from "../../../src/config/index.ts";
import { base, goodRoute, parse } from "../../config/support.ts";

function configOf(lines: string): Config {
  const parsed = parse(`${base}${lines}\n${goodRoute}`);
  if (!parsed.ok) return assert.fail(JSON.stringify(parsed.problems));
  return parsed.config;
}
const directory = (more: string): string =>
  `directories: {corp: {provider: file, path: /tmp/people.json, interval: 15m${more}}}`;

test("a reload that changes only SCIM clients gives the refresh of sessions the new ones", () => {
  const before = configOf("scim_clients: {okta: {match: email}}");
  assert.equal(hasSameProviders(before, configOf("scim_clients: {okta: {match: email}}")), true);
  assert.equal(hasSameProviders(before, configOf("scim_clients: {okta: {match: subject}}")), false);
  assert.equal(hasSameProviders(before, configOf("scim_clients: {okta: {match: email}, hr: {match: email}}")), false);
  assert.equal(hasSameProviders(before, configOf("")), false);
});

test("so does one that changes whose people a directory lists, and not one that changes how it is read", () => {
  const before = configOf(directory(", match: email"));
  assert.equal(hasSameProviders(before, configOf(directory(", match: subject"))), false);
  const slower = configOf(directory(", match: email, format: csv"));
  assert.equal(hasSameProviders(before, slower), true);
  assert.equal(hasSameDirectories(before, slower), false);
  assert.equal(hasSameDirectories(before, configOf(directory(", match: email"))), true);
});
