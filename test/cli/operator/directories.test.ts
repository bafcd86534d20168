/** Directories on the command line: what the last runs did, and a request for one now. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { DirectoryView } from "../../../src/console/index.ts";
import { type CommandId, directoryStateUser, parseDirectoryState } from "../../../src/events/index.ts";
import { startOperatorWorld } from "../../console/api/operator-support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

test("a directory is listed, and read on request, by its name in the configuration", async (t) => {
  const at = await startOperatorWorld(t);
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const cardea = (...args: readonly string[]) => run(["directories", ...args], env);
  await waitFor("the level", async () => {
    const commandId = randomUUID() as string as CommandId;
    const command = { type: "finalizeUpgrade", level: 5 } as const;
    const result = await at.world.operator.submit({ commandId, actor: "operator:test", command });
    return result.type === "done";
  });
  const before = await cardea("list");
  assert.match(before.out, /corp +file +never +- +-/);
  assert.equal((await cardea("sync", "other")).code, 3);
  assert.equal((await cardea("sync")).code, 2);
  const asked = await cardea("sync", "corp", "--allow-removals");
  assert.equal(asked.code, 0, asked.err);
  const listed = await waitFor("the request", async () => {
    const { out } = await cardea("list", "--json");
    const [view] = JSON.parse(out) as DirectoryView[];
    return view?.asked === true ? view : undefined;
  });
  assert.deepEqual([listed.name, listed.intervalS, listed.last, listed.complete], ["corp", 900, null, null]);
  const { replica } = at.world;
  const userId = directoryStateUser("corp");
  const sealed = replica.projection.user(userId)?.profile ?? assert.fail("no state");
  assert.equal(parseDirectoryState(replica.open(sealed, userId))?.asked?.removals, true);
  const users = await run(["users", "list", "--json"], env);
  assert.ok(!users.out.includes(userId), "the state is no person");
});
