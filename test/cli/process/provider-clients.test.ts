/** Provider clients: the pause between two checks of a provider. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { waitBetweenChecks } from "../../../src/cli/process/provider-clients.ts";

test("a pause leaves no listener at its signal, and ends with it", async () => {
  const stopped = new AbortController();
  for (let n = 0; n < 20; n++) await waitBetweenChecks(1, stopped.signal);
  assert.equal(getEventListeners(stopped.signal, "abort").length, 0);
  const long = waitBetweenChecks(60_000, stopped.signal);
  stopped.abort();
  await long;
  await waitBetweenChecks(60_000, stopped.signal);
});
