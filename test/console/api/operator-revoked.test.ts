/**
 * An administrator whose session is revoked while one of their requests is in progress.
 *
 * A complete receipt says that no node permits another request or carries another byte of that session. So a command
 * whose body was held back is not executed, an awaited answer is not sent, and a node without a lease, which can learn
 * of no revocation, sends nothing more.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { type TestContext, test } from "node:test";
import type { AuditRecord } from "../../../src/audit/index.ts";
import { formatLink } from "../../../src/events/index.ts";
import type { ReceiptOptions } from "../../../src/replication/index.ts";
import { decision } from "../../audit/support.ts";
import { signIn } from "../../auth/authenticate/support.ts";
import { waitFor } from "../../support/wait-for.ts";
import { json, type OperatorWorld, pushRecords, startOperatorWorld } from "./operator-support.ts";

/** A request of a signed-in administrator: sends the head; the caller ends the body. */
async function startRequest(
  t: TestContext,
  at: OperatorWorld,
  { method, path, accept = "application/json" }: Readonly<{ method: string; path: string; accept?: string }>,
): Promise<ClientRequest> {
  const alice = at.world.visitor();
  await signIn(at.world, alice, "alice");
  const { port } = at.world;
  const clientRequest = request({
    ...{ host: "127.0.0.1", port, method, path: new URL(at.url(path)).pathname + new URL(at.url(path)).search },
    headers: {
      ...{ host: `authenticate.localhost:${port}`, accept, "sec-fetch-site": "same-origin" },
      cookie: alice.cookieHeader(new URL(at.world.url("authenticate"))),
      ...(method === "POST" ? { "content-type": "application/json", "content-length": 2 } : {}),
    },
  });
  t.after(() => clientRequest.destroy());
  clientRequest.on("error", () => {});
  return clientRequest;
}

async function readResponse(clientRequest: ClientRequest): Promise<Readonly<{ status: number; body: string }>> {
  const [answer] = (await once(clientRequest, "response")) as [IncomingMessage];
  answer.setEncoding("utf8");
  let body = "";
  for await (const chunk of answer) body += chunk;
  return { status: answer.statusCode ?? 0, body };
}

const loggedTimes = (at: OperatorWorld): number =>
  at.logged.filter((line) => line.startsWith("operator request")).length;

test("a command whose body is held back until its caller is revoked is not executed", async (t) => {
  const at = await startOperatorWorld(t);
  const bob = at.world.visitor();
  await signIn(at.world, bob, "bob");
  for (const path of ["/users/bob/suspend", "/users/future-user/suspend", "/snapshots"]) {
    const before = loggedTimes(at);
    const clientRequest = await startRequest(t, at, { method: "POST", path });
    clientRequest.write("{");
    await waitFor("the request to be admitted", () => loggedTimes(at) === before + 1);
    const revoked = json(await at.post("/users/alice/sessions/revoke", { wait: "all" }));
    assert.equal(revoked.receipt.complete, true);
    clientRequest.end("}");
    assert.equal((await readResponse(clientRequest)).status, 401, path);
  }
  const { users } = json(await at.get("/users"));
  assert.equal(users.find(({ subject }: { subject: string }) => subject === "bob").status, "active");
});

test("a revoked caller does not get the awaited answer; a caller who revoked themselves gets the confirmation", async (t) => {
  let waiting = 0;
  const complete = Promise.withResolvers<void>();
  const at = await startOperatorWorld(t, {
    operator: (inner) =>
      Object.assign(Object.create(inner), {
        receipt: async (...[target, options]: Parameters<typeof inner.receipt>) => {
          if ((options satisfies ReceiptOptions).wait !== "region") return inner.receipt(target, options);
          waiting += 1;
          await complete.promise;
          return inner.receipt(target, options);
        },
      }),
  });
  const link = formatLink(at.world.replica.applied);
  const clientRequest = await startRequest(t, at, { method: "GET", path: `/receipts/link:${link}?wait=region` });
  clientRequest.end();
  const pendingResponse = readResponse(clientRequest);
  await waitFor("the request to wait for the receipt", () => waiting === 1);
  assert.equal(json(await at.post("/users/alice/sessions/revoke", { wait: "all" })).receipt.complete, true);
  complete.resolve();
  const answer = await pendingResponse;
  assert.equal(answer.status, 401);
  assert.doesNotMatch(answer.body, /applied/);

  const own = await startRequest(t, at, { method: "POST", path: "/users/alice/sessions/revoke" });
  own.end("{}");
  const confirmation = await readResponse(own);
  assert.equal(confirmation.status, 200);
  assert.equal(JSON.parse(confirmation.body).changed, true);
});

test("a node whose lease has expired sends no more decisions or receipts to a session's streams", async (t) => {
  const lease = { overdueMs: -1_000 };
  const step: { next: PromiseWithResolvers<void> } = { next: Promise.withResolvers() };
  const at = await startOperatorWorld(t, {
    world: {
      deps: (plain) => ({
        ...plain,
        replica: Object.create(plain.replica, { overdueMs: { value: () => lease.overdueMs } }),
      }),
    },
    operator: (inner) =>
      Object.assign(Object.create(inner), {
        receipt: async (...args: Parameters<typeof inner.receipt>) => {
          const receipt = await inner.receipt(...args);
          if (args[1].wait !== "region") return receipt;
          await step.next.promise;
          step.next = Promise.withResolvers();
          return { ...receipt, complete: false, signed: null, nodes: [], told: lease.overdueMs };
        },
      }),
  });
  let seq = 0;
  const record = (): AuditRecord => ({ kind: "decision", seq, ...decision(`/${lease.overdueMs}`) });
  const link = formatLink(at.world.replica.applied);
  for (const path of ["/decisions", `/receipts/link:${link}?wait=region&timeout=60000`]) {
    lease.overdueMs = -1_000;
    const clientRequest = await startRequest(t, at, { method: "GET", path, accept: "text/event-stream" });
    clientRequest.end();
    let [text, ended] = ["", false];
    const next = (): void => {
      seq += 1;
      pushRecords(at.feed, record());
      step.next.resolve();
    };
    let begun: IncomingMessage | undefined;
    clientRequest.on("response", (answer) => {
      begun = answer;
    });
    await waitFor("the stream to begin", () => {
      next();
      return begun !== undefined;
    });
    assert.ok(begun !== undefined);
    const answer = begun;
    assert.equal(answer.statusCode, 200, path);
    answer.on("data", (chunk) => {
      text += chunk;
    });
    answer.on("error", () => {});
    answer.on("close", () => {
      ended = true;
    });
    await waitFor("an event", () => {
      next();
      return text.includes("-1000");
    });
    lease.overdueMs = 777;
    await waitFor("the stream to end", () => {
      next();
      return ended;
    });
    assert.doesNotMatch(text, /777/, path);
  }
});
