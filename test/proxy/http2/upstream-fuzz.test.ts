/**
 * Our HTTP/2 connections to upstreams, against servers that answer with anything: what RFC 9113 allows is understood,
 * what it forbids is refused, and nothing is accepted that the library of Node refuses.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { runSeed } from "../../support/seeded-random.ts";
import { mistakes } from "./upstream-fuzz/mistakes.ts";
import { runCase } from "./upstream-fuzz/run-case.ts";
import { ScriptServer } from "./upstream-fuzz/server.ts";

const server = new ScriptServer();
let port = 0;
before(async () => {
  port = await server.start();
});
after(() => server.close());

/** `npm run fuzz:http2-upstreams` draws as many as there is time for. */
const cases = 250;

test("random responses, legal, with a mistake, and damaged", async () => {
  const kinds = { legal: 0, mistake: 0, damaged: 0 };
  const until = performance.now() + 30_000;
  let [complete, failed] = [0, 0];
  for (let n = 0; n < cases && performance.now() < until; n++) {
    const outcome = await runCase(server, port, { seed: runSeed * 1_000_000 + n });
    kinds[outcome.kind] += 1;
    complete += outcome.complete;
    failed += outcome.failed;
  }
  assert.ok(complete > 20 && failed > 20 && Math.min(...Object.values(kinds)) > 10, JSON.stringify(kinds));
});

test("each mistake is refused where it is, and as far as it reaches", async () => {
  for (const [n, mistake] of mistakes.entries()) await runCase(server, port, { seed: runSeed + n, mistake });
});
