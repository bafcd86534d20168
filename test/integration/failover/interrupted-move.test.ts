/**
 * `cardea region move-home` on real Postgres servers, killed after each statement that changes one: run n is killed
 * after n of them, and resumes what run n - 1 has left. The first run that is left alone ends the move.
 */
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { LogWriter } from "../../support/log-writer.ts";
import { findPostgresBinaries } from "../../support/postgres.ts";
import type { Synchrony } from "../../support/postgres-group.ts";
import { waitFor } from "../../support/wait-for.ts";
import { append, HomeServers, isComplete } from "./home-servers.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const limit = { timeout: 590_000 };
const changesMax = 60;
let homes: HomeServers;

afterEach(() => homes?.stop());

async function begin(synchrony?: Synchrony): Promise<LogWriter> {
  const begun = await HomeServers.start(synchrony);
  homes = begun.homes;
  return begun.writer;
}

/** @returns the outputs of the runs that were killed, before one ended by itself */
async function resumeUntilComplete(...args: readonly string[]): Promise<readonly string[]> {
  const killed: string[] = [];
  for (let n = 1; n < changesMax; n++) {
    const { code, output } = await homes.moveUntil(n, ...args);
    if (code !== null) {
      assert.match(output, isComplete);
      return killed;
    }
    killed.push(output);
  }
  return assert.fail("no run has ended by itself");
}

/** A run was killed after it had said this. */
function assertReached(killed: readonly string[], line: RegExp): void {
  assert.ok(
    killed.some((output) => line.test(output.split("the plan:")[1] ?? "")),
    killed.join("\n---\n"),
  );
}

test("a planned move ends, and nothing is lost, whenever it is killed and however often", {
  skip,
  ...limit,
}, async () => {
  const writer = await begin();
  const last = await append(writer);
  const killed = await resumeUntilComplete("us");
  for (const line of [/refuses writes$/m, /has received everything/, /no longer receives changes/, /: promoting$/m])
    assertReached(killed, line);
  await homes.assertMoved(writer, last);
  await waitFor("the ap to follow", async () => (await homes.following()) === 1, { withinMs: 60_000 });
});

test("the move of a lost home too, and the fence of the old primary that comes back", { skip, ...limit }, async () => {
  const writer = await begin();
  await homes.us.detach();
  let last = await append(writer);
  for (let n = 0; n < 20; n++) last = await append(writer); // the ap alone has them
  await homes.group.kill();
  const killed = await resumeUntilComplete("us", "--old-primary", "pg_1");
  for (const line of [/no longer receives changes/, /receives the rest from/, /: promoting$/m])
    assertReached(killed, line);
  await homes.assertMoved(writer, last);
  await waitFor("the ap to follow", async () => (await homes.following()) === 1, { withinMs: 60_000 });

  await homes.group.start();
  assert.ok((await resumeUntilComplete("us")).length >= 2, "the setting and its reading");
  const fence = await homes.at(homes.east, "show default_transaction_read_only");
  assert.equal(fence?.["default_transaction_read_only"], "on");
  const { rivals, newest } = await homes.heads();
  assert.deepEqual([rivals, newest?.host], [[], `127.0.0.1:${homes.us.port}`]);
});
