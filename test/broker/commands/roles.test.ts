/** The documented roles against the code. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { permissionTable, refuseActivation } from "../../../src/broker/commands/permissions.ts";

const page = readFileSync(join(import.meta.dirname, "../../../docs/roles.md"), "utf8");

function rowsUnder(heading: string): ReadonlyMap<string, readonly string[]> {
  const section = page.split(`## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows = [...section.matchAll(/^\| `(\w+)` \| ([^|]*) \|/gm)];
  return new Map(rows.map(([, name = "", who = ""]) => [name, who.trim().split(", ").sort()]));
}

function listed(table: Readonly<Record<string, readonly string[]>>): ReadonlyMap<string, readonly string[]> {
  return new Map(Object.entries(table).map(([name, who]) => [name, [...who].sort()]));
}

test("docs/roles.md lists each request and each command with exactly the roles that may make it", () => {
  const { requests, commands } = permissionTable();
  assert.deepEqual(rowsUnder("Requests"), listed(requests));
  assert.deepEqual(rowsUnder("Commands"), listed(commands));
});

test("no role of a node lifts, erases or gives anything; it only says which sessions are in use, and seals", () => {
  const { commands } = permissionTable();
  for (const role of ["proxy", "authorize"] as const)
    assert.deepEqual(
      Object.entries(commands).flatMap(([name, who]) => (who.includes(role) ? [name] : [])),
      ["recordActivity", "activateConfiguration", "reassertTightenings", "mergeRevocation", "sealAuditSegment"],
    );
  assert.deepEqual([commands.restoreUser, commands.eraseUser], [["operator"], ["operator"]]);
});

test("an activation is in the caller's own name, or forwarded by a regional broker", () => {
  const command = { type: "activateConfiguration", nodeId: "proxy-1" as never, configHash: "ab" as never } as const;
  assert.equal(
    refuseActivation(command, "proxy-1", () => false),
    undefined,
  );
  assert.equal(
    refuseActivation(command, "region-west", (name) => name === "region-west"),
    undefined,
  );
  assert.match(refuseActivation(command, "proxy-2", () => false) ?? "", /its own name/);
});
