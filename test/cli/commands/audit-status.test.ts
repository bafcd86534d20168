/** `cardea audit status`: how blind each sink of each node is, over the operator API. */
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { HeardStatus } from "../../../src/audit/index.ts";
import { json, startOperatorWorld } from "../../console/api/operator-support.ts";
import { run } from "../support.ts";

const sink = { name: "nats", blind: 12, waiting: 5, lost: 4, deadLetters: 3, lagMs: 61_000, failing: false };
const node = (more: Partial<HeardStatus> = {}): HeardStatus => ({
  ...{ node: "proxy-1", boot: "b", region: "eu", atMs: 1, spoolBytes: 1, spoolBytesMax: 2, refusal: null },
  ...{ sinks: [sink], heardAgoMs: 0, ...more },
});

async function show(t: TestContext, auditStatus: readonly HeardStatus[], flags: readonly string[] = []) {
  const at = await startOperatorWorld(t, { auditStatus });
  const answer = json(await at.get("/audit/status"));
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  return { answer, ...(await run(["audit", "status", ...flags], env)) };
}

test("each sink of each node has a line, with the sum, and all is well", async (t) => {
  const shown = await show(t, [node(), node({ node: "proxy-2", sinks: [sink, { ...sink, name: "file\u001b[2J" }] })]);
  assert.equal(shown.answer.blind, 36);
  assert.match(shown.out, /proxy-1 +eu +nats +12 +5 +4 +3 +61 s +ok/);
  assert.match(shown.out, /blind: 36 records/);
  assert.ok(!shown.out.includes("\u001b"));
  assert.equal(shown.code, 0);
});

test("a failing sink, refused strict routes and a silent node are named, and the exit code says so", async (t) => {
  const bad = [
    node({ sinks: [{ ...sink, failing: true }], refusal: "full" }),
    node({ node: "proxy-2", heardAgoMs: 90_000 }),
  ];
  const shown = await show(t, bad);
  assert.match(shown.out, /failing, refusing \(full\)/);
  assert.match(shown.out, /proxy-2 .* silent for 90 s/);
  assert.equal(shown.code, 1);
  assert.equal(shown.answer.nodes[1].silent, true);
});
