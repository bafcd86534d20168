/**
 * What decision records say beside the answer: why it fell as it did, since which events, and what a shadow policy
 * would have said.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { after, describe, test } from "node:test";
import { Registry } from "prom-client";
import type { Config, RouteConfig } from "../../src/config/index.ts";
import { startDecisionServer } from "../../src/proxy/index.ts";
import { waitFor } from "../support/wait-for.ts";
import {
  decisionApiConfig,
  engOnly,
  groupChanged,
  type Rig,
  routeTo,
  sendRequest,
  sessionRevoked,
  signedIn,
  startRig,
  startUpstream,
} from "./support.ts";

const cleanUps: (() => Promise<void>)[] = [];
after(async () => {
  for (const cleanUp of cleanUps.reverse()) await cleanUp();
});

async function start(
  parts: Partial<RouteConfig>,
  config: Partial<Config> = {},
  handler?: (req: IncomingMessage, res: ServerResponse) => void,
): Promise<{ rig: Rig }> {
  const upstream = await startUpstream(handler);
  const rig = await startRig([routeTo(upstream.port, parts)], { config });
  await rig.apply(signedIn(1), signedIn(2), groupChanged({ added: [1] }));
  cleanUps.push(async () => {
    await rig.close();
    await upstream.close();
  });
  return { rig };
}

const everybodySignedIn = {
  ppl: { allow: { or: [{ authenticated_user: true }] } },
  location: { file: "", line: 1, column: 1 },
};

describe("a trace", () => {
  test("an operator sees on the page why they were refused, whatever the route shows to others", async () => {
    const { rig } = await start(engOnly, { administrators: ["subject-2"] });
    const headers = { accept: "text/html" };
    assert.match((await rig.request({ session: 2, headers })).body, /Refused by/);
    await rig.apply(signedIn(3));
    assert.doesNotMatch((await rig.request({ session: 3, headers })).body, /Refused by/);
  });

  test("a trace names the event that set each fact last: the session, its end, a membership and its loss", async () => {
    const { rig } = await start({ ...engOnly, auditTrace: "all" });
    const placesOf = (at: number) =>
      Object.fromEntries(rig.records.at(at)?.trace?.facts.map(({ fact, position }) => [fact, position]) ?? []);
    await rig.request({ session: 1 });
    const before = placesOf(-1);
    assert.equal(rig.records.at(-1)?.result, "permit");
    assert.equal(rig.records.at(-1)?.trace?.rule, "policy.allow.and", "a permit has one where the route asks for it");
    await rig.apply(groupChanged({ removed: [1] }));
    const removedAt = rig.deps.replica.applied.position;
    await rig.request({ session: 1 });
    assert.equal(rig.records.at(-1)?.result, "deny");
    assert.deepEqual(placesOf(-1), { ...before, "group:eng": removedAt });
    await rig.apply(sessionRevoked(1));
    await rig.request({ session: 1 });
    assert.equal(rig.records.at(-1)?.result, "signin", "whoever shows an ended session is told where it ended");
    assert.equal(placesOf(-1)["session:session-1"], removedAt + 1);
    await rig.request({});
    assert.deepEqual(
      Object.keys(placesOf(-1)),
      ["configuration:node-1"],
      "on demand also of somebody who showed nothing",
    );
  });

  test("a path whose parameters hide it from a rule: the record names the reason, and no rule", async () => {
    const byPath = { allow: { and: [{ accept: true }] }, deny: { or: [{ http_path: { starts_with: "/private/" } }] } };
    const policy = { ppl: byPath, location: { file: "", line: 1, column: 1 } };
    const { rig } = await start({ allowAnyAuthenticatedUser: false, policy, auditTrace: "all" });
    assert.equal((await rig.request({ session: 1, path: "/private;x/y" })).status, 400);
    const { result, status, reasons, trace } = rig.records.at(-1) ?? {};
    assert.deepEqual([result, status, reasons, trace?.rule], ["deny", 400, ["path-parameters"], null]);
  });

  test("the record of a cut exchange says which event cut it", async () => {
    const { rig } = await start(engOnly, {}, (_req, res) => void res.write("begun"));
    const open = rig.request({ session: 1 }).catch(() => undefined);
    await waitFor("the permit", () => rig.records.some(({ result }) => result === "permit"));
    await rig.apply(groupChanged({ removed: [1] }));
    const { position } = rig.deps.replica.applied;
    await open;
    const cut = rig.records.find(({ occasion }) => occasion === "redecision");
    assert.deepEqual([cut?.result, cut?.status], ["deny", 403]);
    assert.equal(cut?.trace?.facts.find(({ fact }) => fact === "group:eng")?.position, position);
  });

  test("without a session there is nothing to explain, and no trace", async () => {
    const { rig } = await start(engOnly);
    await rig.request({});
    assert.equal(rig.records[0]?.result, "signin");
    assert.ok(rig.records[0] !== undefined && !("trace" in rig.records[0]));
  });
});

describe("a shadow policy", () => {
  const nobodyOfEng = { ppl: { deny: { or: [{ groups: "eng" }] } }, location: { file: "", line: 1, column: 1 } };

  test("is asked on every decision and never enforced; what it would change is counted and recorded", async () => {
    const { rig } = await start({ ...engOnly, shadowPolicy: everybodySignedIn });
    assert.equal((await rig.request({ session: 2 })).status, 403);
    assert.equal((await rig.request({ session: 1 })).status, 200);
    assert.deepEqual(
      rig.shadowed.map(([, direction]) => direction),
      ["gains", "same"],
    );
    assert.deepEqual(rig.records[0]?.shadow, { result: "permit", status: 200, reasons: ["user-ok"] });
    assert.ok(rig.records[1] !== undefined && !("shadow" in rig.records[1]));
  });

  test("also one that would refuse: nobody is refused for it, and its facts cut nothing", async () => {
    const { rig } = await start({ shadowPolicy: nobodyOfEng }, {}, (_req, res) => void res.end("served"));
    assert.equal((await rig.request({ session: 1 })).body, "served");
    assert.deepEqual(rig.records[0]?.shadow, { result: "deny", status: 403, reasons: ["groups-ok"] });
    assert.deepEqual(rig.shadowed, [["app.localhost/", "loses"]]);
  });
});

describe("what others ask", () => {
  const key = "a-key-of-at-least-32-characters-0123456789";
  async function served() {
    const parts = { ...engOnly, passIdentityHeaders: true, shadowPolicy: everybodySignedIn };
    const { rig } = await start(parts, { administrators: ["subject-2"] });
    const server = await startDecisionServer({
      listen: decisionApiConfig({
        address: { host: "127.0.0.1", port: 0 },
        trustedProxies: ["127.0.0.1"],
        keys: { wiki: key },
      }),
      deps: () => rig.deps,
      registry: new Registry(),
      requestId: randomUUID,
    });
    cleanUps.push(() => server.close());
    return { rig, port: server.address?.port ?? 0 };
  }
  const forwarded = {
    ...{ "x-forwarded-method": "GET", "x-forwarded-proto": "http", "x-forwarded-host": "app.localhost" },
    ...{ "x-forwarded-uri": "/", "x-forwarded-for": "203.0.113.9" },
  };

  test("by forward-auth is explained in its record and, to an operator, on its page; a shadow policy is asked once", async () => {
    const { rig, port } = await served();
    const headers = { ...forwarded, accept: "text/html", "sec-fetch-mode": "navigate" };
    const page = await sendRequest(port, { path: "/forward-auth", session: 2, headers });
    assert.equal(page.status, 403);
    assert.match(page.body, /Refused by/);
    assert.equal(rig.records.at(-1)?.trace?.facts.find(({ fact }) => fact === "group:eng")?.member, false);
    assert.equal(rig.records.at(-1)?.shadow?.result, "permit");
    assert.equal((await sendRequest(port, { path: "/forward-auth", session: 1, headers: forwarded })).status, 200);
    assert.deepEqual(
      rig.shadowed.map(([, direction]) => direction),
      ["gains", "same"],
      "also where a permit was looked at twice, because its identity was waited for",
    );
  });

  test("by AuthZEN is explained in the answer when the question says so, also where it permits", async () => {
    const { rig, port } = await served();
    const evaluate = async (
      n: number,
      context: object,
    ): Promise<{ decision: boolean; context: { trace?: { rule: string | null } } }> => {
      const body = JSON.stringify({
        subject: { type: "session", id: `session-${n}` },
        action: { name: "GET" },
        resource: { type: "route", id: "app.localhost/" },
        context: { ip: "203.0.113.9", ...context },
      });
      const authorization = `Bearer ${key}`;
      const headers = { authorization, "content-type": "application/json" };
      return JSON.parse(
        (await sendRequest(port, { method: "POST", path: "/access/v1/evaluation", headers, body })).body,
      );
    };
    const plain = await evaluate(1, {});
    assert.deepEqual([plain.decision, "trace" in plain.context], [true, false]);
    const traced = await evaluate(1, { trace: true });
    assert.equal(traced.context.trace?.rule, "policy.allow.and");
    assert.equal(rig.records.at(-1)?.trace?.rule, "policy.allow.and");
    const denied = await evaluate(2, { trace: true });
    assert.deepEqual([denied.decision, denied.context.trace?.rule], [false, null]);
  });
});
