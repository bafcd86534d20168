/** Records of commands: who, what and with which outcome, and none of the command's secrets. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ActRecord, recordCommands } from "../../src/audit/index.ts";
import { type Command, type CommandResult, genesis, type UnixMs } from "../../src/events/index.ts";
import type { Databroker, LocalResult } from "../../src/replication/index.ts";
import { BrokerUnavailableError } from "../../src/replication/wire/index.ts";
import { assertAuditRecord } from "../support/audit-schema.ts";

type Act = Readonly<{ kind: string }> & Omit<ActRecord, "node" | "boot" | "region">;
const commandId = "019f0000-0000-7000-8000-000000000002" as never;
const done: CommandResult = { type: "done", commandId, link: genesis, changed: true };

class TestBroker {
  readonly #answer: () => CommandResult;
  constructor(answer: () => CommandResult) {
    this.#answer = answer;
  }
  async submit(): Promise<CommandResult> {
    return this.#answer();
  }
  async status(): Promise<string> {
    return `of ${this.#answer().type}`;
  }
}

function start(kind: "operator" | "authentication", answer: () => CommandResult, more: Partial<Databroker> = {}) {
  const acts: Act[] = [];
  let clock = 0;
  const databroker = recordCommands(Object.assign(new TestBroker(answer), more) as unknown as Databroker, {
    kind,
    record: (of, act) => void acts.push({ kind: of, ...act }),
    wall: () => 1_764_288_000_000 as UnixMs,
    monotonic: () => {
      clock += 5;
      return clock;
    },
  });
  const submit = (command: Command, actor = "operator:u-admin") => databroker.submit({ commandId, actor, command });
  return { acts, databroker, submit };
}

test("a record has the address that the process serves at that time, if it knows one", async () => {
  const acts: Act[] = [];
  let ip: string | undefined = "192.0.2.1";
  const databroker = recordCommands(new TestBroker(() => done) as unknown as Databroker, {
    kind: "operator",
    record: (of, act) => void acts.push({ kind: of, ...act }),
    wall: () => 1_764_288_000_000 as UnixMs,
    monotonic: () => 1,
    callerIp: () => ip,
  });
  const command = { type: "revokeSession", sessionId: "s-1", reason: "sign-out" } as unknown as Command;
  const sent = databroker.submit({ commandId, actor: "operator:u-admin", command });
  ip = undefined;
  await sent;
  await databroker.submit({ commandId, actor: "operator:u-admin", command });
  assert.deepEqual([acts[0]?.ip, "ip" in (acts[1] ?? {})], ["192.0.2.1", false]);
});

function only(acts: readonly Act[]): Act {
  const [act] = acts;
  assert.equal(acts.length, 1);
  assert.ok(act !== undefined);
  assertAuditRecord({ ...act, seq: 1, node: "n", boot: "b", region: "here" });
  return act;
}

const suspend: Command = { type: "suspendUser", userId: "u-1" as never, reason: "left" };

test("an act has its actor by typed id, command, targets, reason, outcome and position", async () => {
  const { acts, submit } = start("operator", () => done);
  assert.equal(await submit(suspend), done);
  assert.deepEqual(only(acts), {
    ...{ kind: "operator", at: 1_764_288_000_000, commandId, actor: "user:u-admin", command: "suspendUser" },
    ...{
      targets: ["user:u-1"],
      targetsMore: 0,
      reason: "left",
      outcome: "done",
      code: null,
      link: genesis,
      latencyMs: 5,
    },
  });
});

test("a token is named by its id, not by the name that a person chose", async () => {
  const { acts, submit } = start("operator", () => done);
  await submit(suspend, "operator:alice@example.com#t-1");
  assert.equal(only(acts).actor, "token:t-1");
});

test("secrets, profiles and envelopes of a command are not in its record", async () => {
  const secret = "5ec2e7".repeat(10);
  const commands: readonly Command[] = [
    {
      type: "createScimToken",
      client: "hr",
      tokenId: "t",
      secretHash: secret as never,
      scopes: [],
      expiresAt: null,
      replaces: null,
    },
    { type: "mergeRevocation", envelope: Buffer.from(secret) },
  ];
  for (const command of commands) {
    const { acts, submit } = start("operator", () => done);
    await submit(command);
    const text = JSON.stringify(only(acts));
    assert.ok(!text.includes(secret) && !text.includes(Buffer.from(secret).toString("base64")), text);
  }
  const { acts, submit } = start("authentication", () => done);
  await submit(
    {
      ...{ type: "createSession", sessionId: "s-1", userId: "u-1", idpId: "default", groupIds: ["secret-group"] },
      ...{ profile: { email: secret }, tokens: { accessToken: secret } },
    } as never,
    "service:authenticate",
  );
  assert.deepEqual(only(acts).targets, ["session:s-1", "user:u-1", "provider:default"]);
  assert.ok(!JSON.stringify(acts).includes(secret) && !JSON.stringify(acts).includes("secret-group"));
});

test("many targets are counted, and a long reason with control characters is short and harmless", async () => {
  const { acts, submit } = start("operator", () => done);
  const added = Array.from({ length: 3_000 }, (_, i) => `u-${i}` as never);
  const reason = `\u001b[2J${"x".repeat(70_000)}`;
  await submit({ type: "changeGroupMembers", groupId: "eng" as never, source: "operator", added, removed: [], reason });
  const act = only(acts);
  assert.deepEqual([act.targets.length, act.targetsMore, act.targets[0]], [20, 2_982, "group:eng"]);
  assert.match(act.reason ?? "", /^\u{fffd}\[2Jx+…\(\+\d+\)$/u);
  assert.ok(JSON.stringify(act).length < 2_000);
});

test("a refusal has its code, a lost answer is recorded and still thrown, and nothing to change says so", async () => {
  const refused = { type: "refused", commandId, code: "unknown-user", message: "" } as unknown as CommandResult;
  const first = start("operator", () => refused);
  await first.submit(suspend);
  assert.deepEqual(
    [only(first.acts).outcome, first.acts[0]?.code, first.acts[0]?.link],
    ["refused", "unknown-user", null],
  );

  const lost = start("operator", () => {
    throw new BrokerUnavailableError("no broker answers");
  });
  await assert.rejects(lost.submit(suspend), BrokerUnavailableError);
  assert.equal(only(lost.acts).outcome, "unavailable");

  const same = start("operator", () => ({ ...done, changed: false }));
  await same.submit(suspend);
  assert.equal(only(same.acts).outcome, "unchanged");
});

test("a change that only the region accepted is recorded as such", async () => {
  const local = { type: "local", commandId, region: "eu", broker: "b", seq: 1, basis: genesis, ids: 1, at: 1 } as never;
  const { acts, databroker } = start("operator", () => done, {
    revokeLocally: async (): Promise<LocalResult> => local,
  });
  await databroker.revokeLocally?.({ commandId, actor: "operator:u-admin", command: suspend });
  assert.equal(only(acts).outcome, "region");
  assert.equal(start("operator", () => done).databroker.revokeLocally, undefined, "a broker without the call has none");
});

test("upkeep of sessions is no sign-in, and other calls pass", async () => {
  const { acts, submit, databroker } = start("authentication", () => done);
  await submit({ type: "startRefresh" } as never, "service:authenticate");
  assert.deepEqual(acts, []);
  assert.equal(await (databroker.status as () => Promise<unknown>)(), "of done");
});
