/**
 * Receipts on the command line: watched, saved to a file, and verified with nothing but the file and the published
 * keys.
 */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { receiptText } from "../../../src/cli/terminal/print.ts";
import { registerReceiptKeys } from "../../../src/console/index.ts";
import type { BrokerId, CommandId, Epoch, SessionId, UnixMs } from "../../../src/events/index.ts";
import type { Receipt } from "../../../src/replication/index.ts";
import {
  createReceiptSigner,
  receiptKeys,
  receiptKeysPath,
  stateReceipt,
} from "../../../src/replication/wire/index.ts";
import { secret, type World } from "../../auth/authenticate/support.ts";
import { type OperatorWorld, startOperatorWorld } from "../../console/api/operator-support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { type CommandOutput, run } from "../support.ts";

const keys = (of: Uint8Array = secret, cluster = "test") => receiptKeys({ cluster, secrets: [of] });

type Setup = Readonly<{ world: World; cardea: (...args: readonly string[]) => Promise<CommandOutput>; folder: string }>;

async function startSetup(t: TestContext): Promise<Setup> {
  const at: OperatorWorld = await startOperatorWorld(t, {
    plugins: [(app) => registerReceiptKeys(app, published)],
  });
  const env = { CARDEA_URL: at.world.url("authenticate"), CARDEA_TOKEN: await at.token() };
  const folder = new TemporaryFolder("receipts");
  t.after(() => folder[Symbol.dispose]());
  return { world: at.world, folder: folder.path, cardea: (...args) => run(args, env) };
}
const published = await keys();

async function signIn(world: World, count: number): Promise<readonly SessionId[]> {
  const ids = Array.from({ length: count }, () => randomUUID() as string as SessionId);
  for (const sessionId of ids) {
    const result = await world.deps.databroker.submit({
      commandId: randomUUID() as CommandId,
      actor: "service:authenticate",
      command: {
        ...{ type: "createSession", sessionId, userId: "ann" as never, idpId: "demo" },
        issuedAt: Date.now() as UnixMs,
        expiresAt: (Date.now() + 3_600_000) as UnixMs,
        profile: { issuer: "i", subject: "ann", email: "", emailVerified: true, name: "", claims: {} },
        tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
        groupIds: null,
        maxSessionsPerUser: 1_000,
      },
    });
    if (result.type === "done") await world.replica.waitFor(result.link, 2_000);
  }
  return ids;
}

test("sessions from a file are revoked, and the saved receipt verifies against the published keys", async (t) => {
  const { world, cardea, folder } = await startSetup(t);
  const ids = await signIn(world, 5);
  const [list, receiptFile] = [join(folder, "list.txt"), join(folder, "receipt.jws")];
  writeFileSync(list, `${ids.slice(0, 4).join("\n")}\n`);
  const revoked = await cardea("sessions", "revoke", "--from", list, "--wait", "--output", receiptFile);
  assert.equal(revoked.code, 0, revoked.err);
  assert.match(
    revoked.out,
    /4 sessions revoked .*\n.*NODE[\s\S]*node-1 .*applied[\s\S]*complete .*no node permits another/,
  );
  const statuses = ids.map((id) => world.replica.projection.sessionStatus(id).status);
  assert.deepEqual(statuses, ["revoked", "revoked", "revoked", "revoked", "active"]);

  const url = world.url("authenticate", receiptKeysPath);
  const verified = await cardea("receipts", "verify", receiptFile, "--jwks-url", url, "--sessions", list);
  assert.equal(verified.code, 0, verified.err);
  assert.match(verified.out, /^genuine: cluster test, broker broker-1, epoch 1/);
  assert.match(verified.out, /SessionRevoked: 4 sessions/);
  const saved = join(folder, "keys.json");
  assert.equal((await cardea("receipts", "keys", "--jwks-url", url, "--output", saved)).code, 0);
  assert.equal((await cardea("receipts", "verify", receiptFile, "--jwks", saved)).code, 0);
  writeFileSync(list, `${ids.join("\n")}\n`);
  const another = await cardea("receipts", "verify", receiptFile, "--jwks", saved, "--sessions", list);
  assert.equal(another.code, 1);
  assert.match(another.err, /genuine, but for 4 sessions; the list names 5/);
});

test("revocation by id, by filter and of an unknown id is reported; conflicting selections are a usage error", async (t) => {
  const { world, cardea, folder } = await startSetup(t);
  const [first = "", second = ""] = await signIn(world, 2);
  assert.match((await cardea("sessions", "revoke", first, "--wait")).out, /session .* revoked/);
  assert.match((await cardea("sessions", "revoke", first, "--wait")).out, /already revoked/);
  const all = await cardea(
    "sessions",
    "revoke",
    "--all",
    "--issued-before",
    new Date(Date.now() + 1_000).toISOString(),
  );
  assert.match(all.out, /1 sessions revoked/);
  assert.equal(world.replica.projection.sessionStatus(second as SessionId).status, "revoked");
  assert.match((await cardea("sessions", "revoke", "--all")).out, /nothing to revoke/);
  const unknown = await cardea("sessions", "revoke", first, randomUUID());
  assert.match(unknown.out, /nothing to revoke; unknown here: /);
  for (const args of [["--all", first], ["--user", "ann", "--group", "eng"], ["--from", "x", first], []])
    assert.equal((await cardea("sessions", "revoke", ...args)).code, 2, args.join(" "));
  assert.equal((await cardea("sessions", "revoke", "--issued-before", "soon")).code, 2);
  assert.equal((await cardea("sessions", "revoke", "--from", join(folder, "none.txt"))).code, 3);
});

test("more sessions than fit one batch give one receipt per batch, and all are verified together against the list", async (t) => {
  const { world, cardea, folder } = await startSetup(t);
  const [first = "", second = "", other = ""] = await signIn(world, 3);
  const strangers = Array.from({ length: 9_999 }, () => randomUUID() as string);
  const [list, receiptFile] = [join(folder, "list.txt"), join(folder, "receipts.jws")];
  writeFileSync(list, [first, ...strangers, second].join("\n"));
  const revoked = await cardea("sessions", "revoke", "--from", list, "--wait", "--output", receiptFile);
  assert.equal(revoked.code, 0, revoked.err);
  const receipts = readFileSync(receiptFile, "utf8").trim().split("\n");
  assert.equal(receipts.length, 2);

  const jwks = join(folder, "keys.json");
  writeFileSync(jwks, JSON.stringify(published));
  const each = receipts.map((receipt, n) => {
    const path = join(folder, `receipt-${n}.jws`);
    writeFileSync(path, receipt);
    return path;
  });
  const verify = async (ids: readonly string[], ...files: readonly string[]): Promise<CommandOutput> => {
    writeFileSync(list, ids.join("\n"));
    return cardea("receipts", "verify", ...files, "--jwks", jwks, "--sessions", list);
  };
  for (const files of [[receiptFile], each, [...each].reverse()]) {
    const output = await verify([first, second], ...files);
    assert.equal(output.code, 0, output.err);
    assert.equal(output.out.match(/^genuine/gm)?.length, 2);
  }
  const [one = ""] = each;
  const wrong: readonly (readonly [readonly string[], readonly string[], RegExp])[] = [
    [[first, second], [one], /it is genuine, but for 1 session; the list names 2/],
    [[first], each, /they are genuine, but for 2 sessions; the list names 1/],
    [[first, other], each, /for 2 sessions; the list names 2, and they differ/],
    [[first, second], [...each, one], /for 3 sessions; the list names 2/],
  ];
  for (const [ids, files, words] of wrong) {
    const output = await verify(ids, ...files);
    assert.deepEqual([output.code, output.out], [1, ""]);
    assert.match(output.err, words);
  }
  writeFileSync(one, `${receipts[0]?.slice(0, -8)}AAAAAAAA`);
  assert.match((await verify([first, second], ...each)).err, /bad-signature/);
});

test("in several batches, a batch of unknown sessions does not stop the others", async (t) => {
  const { world, cardea, folder } = await startSetup(t);
  const [real = "", other = ""] = await signIn(world, 2);
  const strangers = Array.from({ length: 10_000 }, () => randomUUID() as string);
  const list = join(folder, "list.txt");
  writeFileSync(list, [...strangers, real].join("\n"));
  const output = await cardea("sessions", "revoke", "--from", list, "--wait");
  assert.equal(output.code, 0, output.err);
  assert.match(output.out, new RegExp(`^10001 sessions revoked; unknown here: ${strangers.slice(0, 3).join(", ")} `));
  assert.equal(world.replica.projection.sessionStatus(real as SessionId).status, "revoked");
  writeFileSync(list, [...strangers.slice(0, 9_999), other, "not a session id!".repeat(20)].join("\n"));
  const broken = await cardea("sessions", "revoke", "--from", list);
  assert.equal(broken.code, 3, broken.out);
  assert.match(
    broken.err,
    /answered 400: .*; 10000 sessions are already revoked \(receipt: cardea receipt \S+ --wait\)/,
  );
  assert.equal(world.replica.projection.sessionStatus(other as SessionId).status, "revoked", "the message reports it");
});

test("a receipt request that is refused is not retried until the time-out", async (t) => {
  const { world, cardea } = await startSetup(t);
  await signIn(world, 1);
  const env = { CARDEA_URL: world.url("authenticate"), CARDEA_TOKEN: "not-a-token" };
  const command = ["receipt", randomUUID(), "--wait", "--timeout", "120s"];
  const refused = await run(command, env);
  assert.equal(refused.code, 3);
  assert.match(refused.err, /answered 401/);
  assert.ok((await cardea("receipt", randomUUID())).code === 1, "an id that is not in the log is answered");
});

test("every removal can be awaited, shown and saved: users, their sessions, groups and members", async (t) => {
  const { world, cardea, folder } = await startSetup(t);
  await signIn(world, 2);
  const jwks = join(folder, "keys.json");
  writeFileSync(jwks, JSON.stringify(published));
  const changes: readonly (readonly [readonly string[], RegExp])[] = [
    [["sessions", "revoke", "--user", "ann"], /UserSessionsRevoked: 1 user/],
    [["groups", "add", "eng", "ann"], /GroupMembersChanged: 1 group/],
    [["groups", "remove", "eng", "ann"], /GroupMembersChanged: 1 group[\s\S]*what other rights permit continues/],
    [["groups", "delete", "eng"], /GroupRemoved: 1 group[\s\S]*what other rights permit continues/],
    [["users", "suspend", "ann"], /UserSuspended: 1 user[\s\S]*no node permits another request/],
    [["users", "restore", "ann"], /UserRestored: 1 user/],
    [["users", "erase", "ann"], /UserErased: 1 user[\s\S]*no node permits another request/],
  ];
  for (const [n, [args, words]] of changes.entries()) {
    const receiptFile = join(folder, `${n}.jws`);
    const output = await cardea(...args, "--wait", "--output", receiptFile);
    assert.equal(output.code, 0, `${args.join(" ")}: ${output.err}`);
    assert.match(output.out, /node-1 .*applied[\s\S]*complete /, args.join(" "));
    const verified = await run(["receipts", "verify", receiptFile, "--jwks", jwks]);
    assert.equal(verified.code, 0, verified.err);
    assert.match(verified.out, words);
  }
  assert.equal((await cardea("groups", "delete", "eng")).code, 3);
});

test("with --json every change of a receipt is one line, and the last one is signed", async (t) => {
  const { world, cardea } = await startSetup(t);
  const [id = ""] = await signIn(world, 1);
  const output = await cardea("sessions", "revoke", id, "--wait", "--json");
  const lines = output.out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { receipt: Receipt; commandId: string });
  const last = lines.at(-1);
  assert.equal(last?.receipt.complete, true);
  assert.notEqual(last?.receipt.signed, null);
  assert.ok(lines.slice(0, -1).every(({ receipt }) => receipt.signed === null));
  const shown = await cardea("receipt", last?.commandId ?? "");
  assert.equal(shown.code, 0, shown.err);
  assert.match(shown.out, /complete at position \d+, epoch 1: no node permits another request/);
  const lost = await cardea("receipt", `1.2.${"a".repeat(64)}`);
  assert.deepEqual([lost.code, lost.out], [1, "lost: this link is not in the log\n"]);
});

test("verify without a server exits 0 if genuine and complete, 1 if refused or incomplete, 2 on wrong usage, 3 if unreadable", async () => {
  using folder = new TemporaryFolder("verify");
  const file = (name: string, text: string): string => {
    const path = join(folder.path, name);
    writeFileSync(path, text);
    return path;
  };
  const link = { epoch: 1 as Epoch, position: 7 as never, hash: "a".repeat(64) as never };
  const node = { node: "n" as never, boot: "b" as never, region: "eu", role: "proxy" };
  const receipt: Receipt = {
    ...{ status: "complete", complete: true, wait: "all", region: null, link, commandId: null, epoch: 1 as Epoch },
    nodes: [{ ...node, status: "applied", enforced: link, fencedInMs: null, reason: "" }],
    ...{ completeInMs: 0, at: null, signed: null },
  };
  const of = { cluster: "test", brokerId: "b" as BrokerId, at: Date.now() as UnixMs, recorded: null, durability: null };
  const jwks = file("keys.json", JSON.stringify(published));
  const missing = { ...node, status: "unconfirmed", enforced: null, fencedInMs: 900, reason: "silent" } as const;
  const signed = (parts: Partial<Receipt>, by = secret) =>
    createReceiptSigner(by)(stateReceipt({ ...receipt, ...parts }, of));
  const verify = async (jws: string, ...args: readonly string[]) =>
    run(["receipts", "verify", file("receipt.jws", jws), "--jwks", jwks, ...args]);

  const good = await signed({});
  assert.equal((await verify(`${good}\n`)).code, 0);
  const json = JSON.parse((await verify(good, "--json")).out);
  assert.deepEqual([json.ok, json.statement.complete], [true, true]);

  assert.doesNotMatch((await verify(good)).out, /durability/, "a receipt signed before receipts stated durability");
  const ofAsynchronous = stateReceipt(receipt, { ...of, durability: "asynchronous" });
  const bestEffort = await verify(await createReceiptSigner(secret)(ofAsynchronous));
  assert.match(bestEffort.out, /\n {2}durability asynchronous: best effort until a standby holds it.*\n/);
  assert.equal(bestEffort.code, 0, "every node enforces it nevertheless");

  const incomplete = await verify(await signed({ status: "incomplete", complete: false, nodes: [missing] }));
  assert.equal(incomplete.code, 1, "genuine but not complete");
  assert.match(incomplete.out, /genuine[\s\S]*silent; fenced at .*\nincomplete/);

  const refusals: readonly (readonly [string, string, RegExp])[] = [
    ["bad-signature", `${good.slice(0, -8)}AAAAAAAA`, /altered or forged/],
    ["unknown-key", await signed({}, new Uint8Array(32)), /retired .* never belonged to this cluster/],
    ["contradictory", await signed({ nodes: [missing] }), /calls itself complete, and n had not confirmed/],
    ["not-a-receipt", "complete", /not a signed receipt/],
  ];
  for (const [reason, jws, words] of refusals) {
    const output = await verify(jws);
    assert.equal(output.code, 1, reason);
    assert.match(output.err, new RegExp(`^refused \\(${reason}\\): `));
    assert.match(output.err, words);
    assert.equal(JSON.parse((await verify(jws, "--json")).out).reason, reason);
  }
  const staging = file("staging.json", JSON.stringify(await keys(secret, "staging")));
  const foreign = await run(["receipts", "verify", file("receipt.jws", good), "--jwks", staging]);
  assert.match(foreign.err, /refused \(another-cluster\): it is a receipt of cluster "test"/);

  assert.equal((await run(["receipts", "verify", jwks])).code, 2, "no keys were named");
  assert.equal((await run(["receipts", "verify", jwks, "--jwks-url", "http://example.com/keys"])).code, 2);
  assert.equal((await run(["receipts", "verify", join(folder.path, "none"), "--jwks", jwks])).code, 3);
  assert.equal((await run(["receipts", "verify", jwks, "--jwks", file("x.json", "[]")])).code, 3);
});

test("the keys derived from a configuration verify the receipts of its cluster, including those of the previous secret", async () => {
  using folder = new TemporaryFolder("keys");
  const path = join(folder.path, "cardea.yaml");
  const secretOf = (text: string): Uint8Array => createHash("sha256").update(text).digest();
  const text = (of: Uint8Array): string => Buffer.from(of).toString("base64");
  const before = secretOf("older");
  const newer = secretOf("newer");
  writeFileSync(
    path,
    `services: [proxy]
authenticate_service_url: https://authenticate.example.com
idp_provider: oidc
idp_provider_url: https://idp.example.com
idp_client_id: cardea
shared_secret: ${text(newer)}
shared_secret_previous: ${text(before)}
cookie_secret: ${text(secretOf("cookies"))}
address: 127.0.0.1:8000
insecure_server: true
broker: { urls: [https://broker.example.com:5443], cluster_name: prod }
nats: { servers: [tls://nats.example.com:4222] }
routes:
  - from: https://app.example.com
    to: http://127.0.0.1:9000
    policy: { allow: { and: [groups: { has: eng }] } }
`,
    { mode: 0o600 },
  );
  const printed = await run(["receipts", "keys", "-c", path]);
  assert.equal(printed.code, 0, printed.err);
  const set = JSON.parse(printed.out);
  assert.deepEqual(set, await receiptKeys({ cluster: "prod", secrets: [newer, before] }));
  const receiptFile = join(folder.path, "kept.json");
  assert.equal((await run(["receipts", "keys", "-c", path, "--output", receiptFile])).code, 0);
  assert.deepEqual(JSON.parse(readFileSync(receiptFile, "utf8")), set);
});

test("an incomplete receipt prints how to check the same change again; a complete or lost one does not", () => {
  const link = { epoch: 1 as Epoch, position: 7 as never, hash: "a".repeat(64) as never };
  const node = { node: "n" as never, boot: "b" as never, region: "eu", role: "proxy" } as const;
  const open: Receipt = {
    ...{ status: "incomplete", complete: false, wait: "all", region: null, link, commandId: null, epoch: 1 as Epoch },
    nodes: [{ ...node, status: "unconfirmed", enforced: null, fencedInMs: 61_000, reason: "silent" }],
    ...{ completeInMs: 61_000, at: null, signed: null },
  };
  const last = (receipt: Receipt): string => receiptText(receipt).trimEnd().split("\n").at(-1) ?? "";
  assert.equal(last(open), `to check again: cardea receipt 1.7.${"a".repeat(64)} --wait --timeout 66s`);
  assert.match(last({ ...open, wait: "region", region: "eu", completeInMs: 0 }), / --wait --region=eu --timeout 10s$/);
  const commandId = randomUUID() as CommandId;
  assert.equal(
    last({ ...open, link: null, commandId }),
    `to check again: cardea receipt ${commandId} --wait --timeout 66s`,
  );
  for (const receipt of [
    { ...open, status: "complete", complete: true } as const,
    { ...open, status: "lost", complete: false } as const,
  ])
    assert.doesNotMatch(receiptText(receipt), /check again/);
});
