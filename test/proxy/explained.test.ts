/**
 * Explanations in decision records: the rule that decided, the events that set its facts, and the result of a shadow
 * policy.
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

const anySignedIn = {
  ppl: { allow: { or: [{ authenticated_user: true }] } },
  location: { file: "", line: 1, column: 1 },
};

describe("a trace", () => {
  test("an operator sees on the page why they were refused, even where the route hides it from others", async () => {
    const { rig } = await start(engOnly, { administrators: ["subject-2"] });
    const headers = { accept: "text/html" };
    assert.match((await rig.request({ session: 2, headers })).body, /decided-by/);
    await rig.apply(signedIn(3));
    assert.doesNotMatch((await rig.request({ session: 3, headers })).body, /decided-by/);
  });

  test("names the event that last set each fact: the session, its end, a membership and its loss", async () => {
    const { rig } = await start({ ...engOnly, auditTrace: "all" });
    const positionsOf = (at: number) =>
      Object.fromEntries(rig.records.at(at)?.trace?.facts.map(({ fact, position }) => [fact, position]) ?? []);
    await rig.request({ session: 1 });
    const before = positionsOf(-1);
    assert.equal(rig.records.at(-1)?.result, "permit");
    assert.equal(
      rig.records.at(-1)?.trace?.rule,
      "policy.allow.and",
      "a permit has a trace where the route requests it",
    );
    await rig.apply(groupChanged({ removed: [1] }));
    const removedAt = rig.deps.replica.applied.position;
    await rig.request({ session: 1 });
    assert.equal(rig.records.at(-1)?.result, "deny");
    assert.deepEqual(positionsOf(-1), { ...before, "group:eng": removedAt });
    await rig.apply(sessionRevoked(1));
    await rig.request({ session: 1 });
    assert.equal(rig.records.at(-1)?.result, "signin", "a caller with an ended session learns which event ended it");
    assert.equal(positionsOf(-1)["session:session-1"], removedAt + 1);
    await rig.request({});
    assert.deepEqual(
      Object.keys(positionsOf(-1)),
      ["configuration:node-1"],
      "a caller without a credential gets a trace on demand too",
    );
  });

  test("names the reason and no rule for a path whose parameters hide it from a rule", async () => {
    const byPath = { allow: { and: [{ accept: true }] }, deny: { or: [{ http_path: { starts_with: "/private/" } }] } };
    const policy = { ppl: byPath, location: { file: "", line: 1, column: 1 } };
    const { rig } = await start({ allowAnyAuthenticatedUser: false, policy, auditTrace: "all" });
    assert.equal((await rig.request({ session: 1, path: "/private;x/y" })).status, 400);
    const { result, status, reasons, trace } = rig.records.at(-1) ?? {};
    assert.deepEqual([result, status, reasons, trace?.rule], ["deny", 400, ["path-parameters"], null]);
  });

  test("names the event that cut an exchange", async () => {
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

  test("is absent without a session, since there is nothing to explain", async () => {
    const { rig } = await start(engOnly);
    await rig.request({});
    assert.equal(rig.records[0]?.result, "signin");
    assert.ok(rig.records[0] !== undefined && !("trace" in rig.records[0]));
  });
});

describe("a shadow policy", () => {
  const noMemberOfEng = { ppl: { deny: { or: [{ groups: "eng" }] } }, location: { file: "", line: 1, column: 1 } };

  test("is evaluated on every decision and never enforced; what it would change is counted and recorded", async () => {
    const { rig } = await start({ ...engOnly, shadowPolicy: anySignedIn });
    assert.equal((await rig.request({ session: 2 })).status, 403);
    assert.equal((await rig.request({ session: 1 })).status, 200);
    assert.deepEqual(
      rig.shadowed.map(([, direction]) => direction),
      ["gains", "same"],
    );
    assert.deepEqual(rig.records[0]?.shadow, { result: "permit", status: 200, reasons: ["user-ok"] });
    assert.ok(rig.records[1] !== undefined && !("shadow" in rig.records[1]));
  });

  test("refuses no caller, and its facts cut nothing", async () => {
    const { rig } = await start({ shadowPolicy: noMemberOfEng }, {}, (_req, res) => void res.end("served"));
    assert.equal((await rig.request({ session: 1 })).body, "served");
    assert.deepEqual(rig.records[0]?.shadow, { result: "deny", status: 403, reasons: ["groups-ok"] });
    assert.deepEqual(rig.shadowed, [["app.localhost/", "loses"]]);
  });
});

describe("a decision for another proxy", () => {
  const key = "a-key-of-at-least-32-characters-0123456789";
  async function startDecisionApi() {
    const parts = { ...engOnly, passIdentityHeaders: true, shadowPolicy: anySignedIn };
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

  test("by forward-auth is explained in its record and, to an operator, on its page; the shadow policy is evaluated once", async () => {
    const { rig, port } = await startDecisionApi();
    const headers = { ...forwarded, accept: "text/html", "sec-fetch-mode": "navigate" };
    const page = await sendRequest(port, { path: "/forward-auth", session: 2, headers });
    assert.equal(page.status, 403);
    assert.match(page.body, /decided-by/);
    assert.equal(rig.records.at(-1)?.trace?.facts.find(({ fact }) => fact === "group:eng")?.member, false);
    assert.equal(rig.records.at(-1)?.shadow?.result, "permit");
    assert.equal((await sendRequest(port, { path: "/forward-auth", session: 1, headers: forwarded })).status, 200);
    assert.deepEqual(
      rig.shadowed.map(([, direction]) => direction),
      ["gains", "same"],
      "even where a permit was checked twice, because it waited for its identity",
    );
  });

  test("by AuthZEN is explained in the response on request, also when it permits", async () => {
    const { rig, port } = await startDecisionApi();
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

describe("a record", () => {
  const userAgent = { "user-agent": "curl/8" };
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

  test("names the reasons of both sides and the rule of a permit, also where several rules could permit", async () => {
    const ppl = {
      allow: [{ or: [{ groups: "nobody" }] }, { or: [{ authenticated_user: true }] }],
      deny: { or: [{ http_path: { starts_with: "/private" } }] },
    };
    const policy = {
      ppl: [{ allow: ppl.allow[0] }, { allow: ppl.allow[1], deny: ppl.deny }],
      location: anySignedIn.location,
    };
    const { rig } = await start({ allowAnyAuthenticatedUser: false, policy, name: "Reports" });
    assert.equal((await rig.request({ session: 1, headers: { ...userAgent, traceparent } })).status, 200);
    const { allow, deny, rule, routeName, traceId, userAgent: agent } = rig.records.at(-1) ?? {};
    assert.equal(allow?.met, true);
    assert.ok(allow.reasons.includes("user-ok"));
    assert.deepEqual(deny, { met: false, reasons: ["http-path-unauthorized"] });
    assert.equal(rule, "policy[1].allow.or");
    assert.deepEqual([routeName, traceId, agent], ["Reports", "4bf92f3577b34da6a3ce929d0e0e4736", "curl/8"]);
    await rig.request({ session: 1, path: "/private/x" });
    assert.equal(rig.records.at(-1)?.rule, "policy[1].deny.or");
    assert.equal(rig.records.at(-1)?.deny?.met, true);
  });

  test("shows of a request only what its route names", async () => {
    const recorded = { query: ["page"], headers: ["x-team"], redactPath: ["/reset/*"] };
    const { rig } = await start({ ...engOnly, recorded });
    const headers = { ...userAgent, "x-team": "blue", "x-api-key": "s3cr3t" };
    await rig.request({ session: 1, path: "/reset/s3cr3t?token=s3cr3t&page=2", headers });
    const shown = rig.records.at(-1);
    assert.deepEqual(
      [shown?.path, shown?.query, shown?.headers],
      ["/reset/[redacted]", "page=2", { "x-team": "blue" }],
    );
    assert.equal(shown?.userAgent, undefined, "the route does not name it");
    assert.doesNotMatch(JSON.stringify(rig.records), /s3cr3t/);
  });
});

test("a route that wants every end has a record of an ordinary request's end, with its bytes; others have none", async () => {
  const { rig } = await start({ ...engOnly, auditEnds: "all" });
  const answer = await rig.request({ session: 1 });
  await rig.request({ session: 2 });
  const ended = rig.records.filter(({ occasion }) => occasion === "closed");
  assert.equal(ended.length, 1, "a refusal has no end");
  const [begun] = rig.records;
  assert.equal(ended[0]?.requestId, begun?.requestId);
  const { cause, bytes, bytesReceived } = ended[0]?.closed ?? {};
  assert.deepEqual({ cause, bytes, bytesReceived }, { cause: "ended", bytes: answer.body.length, bytesReceived: 0 });
  const { rig: other } = await start(engOnly);
  await other.request({ session: 1 });
  assert.deepEqual(
    other.records.map(({ occasion }) => occasion),
    ["request"],
  );
});
