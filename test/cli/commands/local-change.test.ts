/** A change that only one region accepted, on the command line and through the operator API: words, codes, receipts. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type BootId, genesis, type SessionId, type UnixMs } from "../../../src/events/index.ts";
import type { Databroker, LocalReceipt } from "../../../src/replication/index.ts";
import {
  createLocalReceiptSigner,
  type LocalRevocation,
  receiptKeys,
  stateLocalReceipt,
} from "../../../src/replication/wire/index.ts";
import { secret } from "../../auth/authenticate/support.ts";
import { startOperatorWorld } from "../../console/api/operator-support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { run } from "../support.ts";

const at = Date.UTC(2026, 10, 25, 4, 0, 0) as UnixMs;

/** A server in a cut-off region, whose broker accepts revocations by itself. */
async function startRegion(t: TestContext, node: "applied" | "unconfirmed" = "applied") {
  const requests: string[] = [];
  const receipt = async (commandId: LocalRevocation["commandId"]): Promise<LocalReceipt> => {
    const revocation: LocalRevocation = {
      ...{ commandId, region: "west", broker: "b1", boot: "boot" as BootId, seq: 4, basis: genesis, acceptedAt: at },
      ...{ actor: "operator:alice#1", command: "revokeSession", userId: null, reason: "" },
      sessionIds: ["s-1" as SessionId],
    };
    const row = { node: "proxy-west", boot: "boot", role: "proxy", confirmed: node === "applied" ? 4 : null };
    const fencedInMs = node === "applied" ? 0 : 9_000;
    const unsigned = {
      scope: "region",
      ...{ region: "west", commandId, broker: "b1", seq: 4, basis: genesis, acceptedAt: at, at },
      ...{ complete: node === "applied", completeInMs: fencedInMs, brokers: [{ broker: "b1", stored: true }] },
      nodes: [{ ...row, status: node, fencedInMs, reason: "" }],
    } as const;
    const statement = stateLocalReceipt(unsigned, { cluster: "test", answeredBy: "b1", revocation });
    return { ...unsigned, signed: await createLocalReceiptSigner(secret)(statement) };
  };
  const local: Partial<Databroker> = {
    submit: async ({ commandId }) => ({ type: "unavailable", commandId, message: "home is away", retryAfterMs: 1 }),
    async revokeLocally({ commandId, actor, command }) {
      requests.push(`${command.type} ${actor.split("#")[0]}`);
      return { type: "local", commandId, region: "west", broker: "b1", seq: 4, basis: genesis, ids: 1, at };
    },
    localReceipt: async (commandId) => ({ type: "receipt", receipt: await receipt(commandId) }),
  };
  const world = await startOperatorWorld(t, { operator: (inner) => ({ ...inner, ...local }) });
  const env = { CARDEA_URL: world.world.url("authenticate"), CARDEA_TOKEN: await world.token() };
  const folder = new TemporaryFolder("local-change");
  t.after(() => folder[Symbol.dispose]());
  const cardea = (...args: readonly string[]) => run(args, env);
  return { world, cardea, requests, folder: folder.path };
}

test("the operator API answers 202 without the fields of a change that is in the log", async (t) => {
  const { world, requests } = await startRegion(t);
  const { status, body } = await world.post("/sessions/s-1/revoke", { wait: "region" });
  assert.equal(status, 202);
  const answer = JSON.parse(body);
  assert.deepEqual([answer.accepted, answer.region, answer.ids, answer.receipt.scope], ["region", "west", 1, "region"]);
  assert.ok(!("changed" in answer) && !("link" in answer));
  assert.match(requests[0] ?? "", /^revokeSession operator:/);
});

test("what does not only tighten is never accepted by a region", async (t) => {
  const { world, requests } = await startRegion(t);
  const { status } = await world.post("/groups/eng/remove", {});
  assert.equal(status, 503);
  assert.deepEqual(requests, []);
});

test("the command line says that one region accepted it; exit 1, and 0 for a complete receipt of the region", async (t) => {
  const { cardea, folder } = await startRegion(t);
  const plain = await cardea("sessions", "revoke", "s-1");
  assert.equal(plain.code, 1);
  assert.match(plain.out, /^accepted in region west only \(1 id\); other regions learn of it/);
  const waited = await cardea("sessions", "revoke", "s-1", "--wait");
  assert.equal(waited.code, 1, "the other regions have not heard of it");
  const file = join(folder, "receipt.jws");
  const region = await cardea("sessions", "revoke", "s-1", "--wait", "--region", "--output", file);
  assert.equal(region.code, 0, region.err);
  assert.match(
    region.out,
    /complete: receipt of region west alone[\s\S]*proxy-west[\s\S]*says nothing of other regions/,
  );

  const jwks = join(folder, "jwks.json");
  writeFileSync(jwks, JSON.stringify(await receiptKeys({ cluster: "test", secrets: [secret] })));
  const verified = await cardea("receipts", "verify", file, "--jwks", jwks);
  assert.equal(verified.code, 0, verified.err);
  assert.match(verified.out, /^genuine, signed with key/);
  writeFileSync(file, `${readFileSync(file, "utf8").trim().slice(0, -4)}AAAA\n`);
  const forged = await cardea("receipts", "verify", file, "--jwks", jwks);
  assert.equal(forged.code, 1);
  assert.match(forged.err, /refused \(bad-signature\)/);
});

test("an incomplete receipt of the region is exit 1", async (t) => {
  const { cardea } = await startRegion(t, "unconfirmed");
  const waited = await cardea("sessions", "revoke", "s-1", "--wait", "--region");
  assert.equal(waited.code, 1);
  assert.match(waited.out, /incomplete: receipt of region west alone/);
});

test("several sessions in one request are accepted likewise", async (t) => {
  const { cardea, requests } = await startRegion(t);
  const many = await cardea("sessions", "revoke", "s-1", "s-2");
  assert.equal(many.code, 1);
  assert.match(many.out, /accepted in region west only/);
  assert.match(requests[0] ?? "", /^revokeSessions /);
});
