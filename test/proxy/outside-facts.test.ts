/**
 * Decisions that are repeated for open streams because time has passed or an external data set has changed, without any
 * event in the log.
 */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, test } from "node:test";
import { compilePolicies, decide, RecordSet } from "../../src/auth/index.ts";
import type { RouteConfig } from "../../src/config/index.ts";
import { waitFor } from "../support/wait-for.ts";
import { cookieOf, type Rig, routeTo, signedIn, startRig, startUpstream } from "./support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

/** An upstream that begins a response and then sends nothing more. */
async function start(ppl: unknown, set = new RecordSet("hr", "user.id")): Promise<Rig> {
  const upstream = await startUpstream((_req, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.write("data: hello\n\n");
  });
  const place = { file: "cardea.yaml", line: 1, column: 1 };
  const parts: Partial<RouteConfig> = {
    allowAnyAuthenticatedUser: false,
    policy: { ppl, location: place },
    timeoutMs: 0,
    idleTimeoutMs: 0,
  };
  const route = routeTo(upstream.port, parts);
  const compiled = compilePolicies([route], { records: new Map([["hr", set]]) });
  assert(compiled.ok);
  const plain = { ...route, policy: null, allowAnyAuthenticatedUser: true };
  const rig = await startRig([plain], {
    deps: { decide: (question) => decide({ policies: compiled.policies, ...question }) },
  });
  await rig.apply(signedIn(1), signedIn(2));
  cleanUps.push(async () => {
    await rig.close();
    await upstream.close();
  });
  return rig;
}

type Open = Readonly<{ status: number; ended: () => boolean }>;
function open(rig: Rig, session: number): Promise<Open> {
  return new Promise((resolve, reject) => {
    const headers = { host: "app.localhost", cookie: cookieOf(session) };
    const req = request({ port: rig.port, host: "127.0.0.1", agent: false, headers }, (res) => {
      let ended = false;
      res.on("close", () => {
        ended = true;
      });
      res.on("error", () => {});
      res.resume();
      resolve({ status: res.statusCode ?? 0, ended: () => ended });
    });
    req.on("error", reject);
    req.end();
  });
}

test("an idle stream that a time criterion permitted is cut when its time has passed, and the record has the reason", async () => {
  const until = Date.now() + 2_000;
  const ppl = { allow: { and: [{ date: { before: new Date(until).toISOString() } }] } };
  const rig = await start(ppl);
  const stream = await open(rig, 1);
  assert.equal(stream.status, 200);
  assert.equal(stream.ended(), false);
  await waitFor("the stream to be cut", () => stream.ended());
  assert(Date.now() >= until);
  const last = rig.records.at(-1);
  assert.deepEqual([last?.occasion, last?.result, last?.reasons], ["redecision", "deny", ["date-unauthorized"]]);
  assert.equal((await rig.request({ session: 1 })).status, 403);
});

test("a stream continues when its time criterion ends but another criterion still permits it", async () => {
  const soon = new Date(Date.now() + 1_000).toISOString();
  const rig = await start({ allow: { or: [{ date: { before: soon } }, { authenticated_user: 1 }] } });
  const stream = await open(rig, 1);
  await waitFor("the decision to be repeated", () => rig.records.some(({ occasion }) => occasion === "redecision"));
  assert.equal(rig.records.at(-1)?.result, "permit");
  assert.equal(stream.ended(), false);
});

test("a new data set cuts the streams that it no longer permits, and no others", async () => {
  const set = new RecordSet("hr", "user.id");
  const rig = await start({ allow: { and: [{ record: { type: "hr", exists: true } }] } }, set);
  const unknown = await rig.request({ session: 1 });
  assert.deepEqual([unknown.status, unknown.headers["retry-after"]], [503, "1"]);
  set.replace([{ id: "subject-1" }, { id: "subject-2" }]);
  const [one, two] = [await open(rig, 1), await open(rig, 2)];
  assert.deepEqual([one.status, two.status], [200, 200]);
  set.replace([{ id: "subject-2" }]);
  await rig.proxy.recordsChanged("other");
  assert.equal(one.ended(), false);
  await rig.proxy.recordsChanged("hr");
  await waitFor("the first stream to be cut", () => one.ended());
  assert.equal(two.ended(), false);
  set.clear();
  await rig.proxy.recordsChanged("hr");
  await waitFor("the second stream to be cut", () => two.ended());
});
