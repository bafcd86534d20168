/**
 * A planned move of the home region on real Postgres servers, killed after each statement that changes a server, and
 * taken back by a move to where the primary is, which is killed and run again too.
 */
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { findPostgresBinaries } from "../../support/postgres.ts";
import { waitFor } from "../../support/wait-for.ts";
import { append, HomeServers, isComplete } from "./home-servers.ts";

const skip = findPostgresBinaries() === undefined ? "a standby needs local binaries of Postgres" : false;
const changesMax = 60;
let homes: HomeServers;

afterEach(() => homes?.stop());

test("after a kill at any point before the promotion, the old primary accepts writes again and all others follow it", {
  skip,
  timeout: 590_000,
}, async () => {
  const begun = await HomeServers.start();
  homes = begun.homes;
  const { east, us } = homes;
  let { writer } = begun;
  let last = await append(writer);
  let takenBack = 0;
  for (let n = 1; n < changesMax; n++) {
    const { code, output } = await homes.moveUntil(n, "us");
    const { newest } = await homes.heads();
    if (newest?.host !== `127.0.0.1:${east.port}`) break; // the kill came after the promotion
    assert.equal(code, null, output); // a run that is not killed moves the home
    await homes.moveUntil(n, "east");
    const back = await homes.move("east");
    assert.match(back.output, isComplete);
    takenBack += 1;
    // Also after the next reading of the settings: a killed fence may have written them only.
    await homes.at(east, "select pg_reload_conf()");
    ({ writer } = await homes.writerAt(east));
    last = await append(writer);
    await waitFor("both standbys to follow", async () => (await homes.following(east)) === 2, { withinMs: 60_000 });
  }
  assert.ok(takenBack >= 6, `${takenBack} were taken back: the fence and two standbys are six changes`);
  await homes.move("us");
  await homes.assertMoved(writer, last);
  await waitFor("the ap to follow", async () => (await homes.following(us)) === 1, { withinMs: 60_000 });
});
