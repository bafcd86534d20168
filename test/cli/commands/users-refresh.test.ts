/** `cardea users refresh` on the command line: the requests to the identity provider and to each directory. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { operatorOperations } from "../../../src/console/api/operator-operations.ts";
import { readsLevel } from "../../../src/events/index.ts";
import { signIn } from "../../auth/authenticate/support.ts";
import { json, startOperatorWorld } from "../../console/api/operator-support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

test("a directory that has not answered in time is named, and the request is still in the log", async (t) => {
  const at = await startOperatorWorld(t);
  await waitFor("the level", async () => (await at.post("/cluster/finalize", { level: readsLevel })).status === 200);
  await signIn(at.world, at.world.visitor(), "alice");
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const refreshed = await run(["users", "refresh", "alice", "--timeout", "300ms"], env);
  assert.equal(refreshed.code, 1, refreshed.err);
  assert.match(refreshed.out, /^alice will be asked about at the identity provider \(position \d+, epoch \d+\)$/m);
  assert.match(refreshed.out, /^directory corp: waiting: no answer yet; the leader goes on asking$/m);
  const answer = json(await at.post("/users/alice/ask", { timeoutMs: 0 }));
  operatorOperations["POST /users/:user/ask"].answer.parse(answer);
  assert.deepEqual([answer.directories[0].directory, answer.directories[0].result], ["corp", "waiting"]);
  assert.equal((await at.post("/users/unknown/ask", {})).status, 404);
  assert.equal((await at.post("/users/alice/ask", { timeoutMs: 31_000 })).status, 400);
});

test("below level 5 the identity provider's refusal names the remedy", async (t) => {
  const at = await startOperatorWorld(t);
  await waitFor("a leader", async () => (await at.post("/cluster/finalize", { level: 4 })).status === 200);
  await signIn(at.world, at.world.visitor(), "alice");
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const refused = await run(["users", "refresh", "alice", "--timeout", "300ms"], env);
  assert.equal(refused.code, 3);
  assert.match(refused.err, /run cardea cluster finalize/);
  const { directories } = json(await at.post("/users/alice/ask", {}));
  assert.deepEqual(
    directories.map(({ result }: { result: string }) => result),
    ["refused"],
  );
  assert.match(directories[0].said, /cardea cluster finalize/);
});
