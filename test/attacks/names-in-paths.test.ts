/** Group names with characters that need escaping in a URL path. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { inPath } from "../../src/cli/operator/operator-client.ts";
import { parseGroupId, type UnixMs } from "../../src/events/index.ts";
import { signIn, subjectId } from "../auth/authenticate/support.ts";
import { startOperatorWorld } from "../console/api/operator-support.ts";

test("an operator adds and removes members of groups with slashes, special characters and long names", async (t) => {
  const at = await startOperatorWorld(t);
  await signIn(at.world, at.world.visitor(), "alice");
  const alice = subjectId(at.world, "alice");
  const names = [
    "/eng/team",
    "CN=Engineering,OU=Groups,OU=Platform and Infrastructure,OU=Departments,DC=corp,DC=example,DC=com".padEnd(256, "x"),
    "base64url:eng",
    "Ü".repeat(128),
    "50% of everyone? #1",
  ];

  for (const name of names) {
    const path = `/groups/${inPath(name)}/members`;
    const isMember = (): boolean =>
      at.world.replica.projection.groupsOf(alice, Date.now() as UnixMs).has(parseGroupId(name));
    assert.equal((await at.post(path, { add: [alice], wait: "all" })).status, 200, name);
    assert.ok(isMember(), name);
    assert.equal((await at.post(path, { remove: [alice], wait: "all" })).status, 200, name);
    assert.ok(!isMember(), name);
  }
});
