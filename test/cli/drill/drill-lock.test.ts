/** The lock of drills, over an operator API that loses its answers: a drill that could not begin leaves no lock. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { acquireLock, lockGroup } from "../../../src/cli/drill/drill-lock.ts";
import { DrillStoppedError } from "../../../src/cli/drill/drill-run.ts";
import { addMember, createDrillOperator } from "../../../src/cli/drill/operator-changes.ts";
import {
  type OperatorClient,
  OperatorRefusedError,
  OperatorUnreachableError,
} from "../../../src/cli/operator/operator-client.ts";
import { CannotError } from "../../../src/cli/terminal/command.ts";

type Body = Readonly<{ add?: readonly string[]; remove?: readonly string[]; commandId: string }>;

/** The group of the lock as the log has it: a command takes effect once, whatever became of its answer. */
function startLog(onPost: (n: number) => void) {
  const members = new Set<string>();
  const results = new Map<string, object>();
  const path = `/groups/${lockGroup}/members`;
  let posts = 0;
  function apply({ add = [], remove = [], commandId }: Body): object {
    const known = results.get(commandId);
    if (known !== undefined) return known;
    const changed = add.some((id) => !members.has(id)) || remove.some((id) => members.has(id));
    for (const id of add) members.add(id);
    for (const id of remove) members.delete(id);
    const answer = { commandId, changed, link: { epoch: 1, position: results.size + 1, hash: "" } };
    results.set(commandId, answer);
    return answer;
  }
  const client: OperatorClient = {
    async get() {
      const views = [...members].map((userId) => ({ userId, member: true, sources: ["operator"] }));
      return { groups: [{ id: lockGroup, members: views }], applied: { position: results.size } };
    },
    async post(to, body) {
      assert.equal(to, path);
      const answer = apply(body as Body);
      onPost(++posts);
      return answer;
    },
    stream: async () => {},
    close: async () => {},
  };
  return { members, client, operator: createDrillOperator(async () => client) };
}

const unreachable = (): never => {
  throw new OperatorUnreachableError(new URL("http://authenticate.localhost"), new Error("ECONNRESET"));
};

test("an interrupt while the answer of the lock's command is lost leaves no lock", async () => {
  const stop = new AbortController();
  const { members, operator } = startLog((n) => {
    if (n > 1) return;
    stop.abort(new DrillStoppedError("interrupted by SIGINT"));
    unreachable();
  });
  await assert.rejects(acquireLock(operator, "u1", stop.signal), /interrupted by SIGINT/);
  assert.deepEqual([...members], []);
});

test("an interrupt that finds another drill's lock leaves that lock", async () => {
  const stop = new AbortController();
  const { members, operator } = startLog((n) => {
    if (n > 1) return;
    stop.abort(new DrillStoppedError("interrupted by SIGINT"));
    unreachable();
  });
  members.add("u1");
  await assert.rejects(acquireLock(operator, "u1", stop.signal), /interrupted by SIGINT/);
  assert.deepEqual([...members], ["u1"]);
});

test("a refusal leaves no lock, also if an attempt before it may have taken the lock", async () => {
  let commands = 0;
  const { members, operator } = startLog((n) => {
    commands = n;
    if (n === 1) unreachable();
    if (n === 2) throw new OperatorRefusedError("forbidden", { status: 403, reason: null, outcome: "none" });
  });
  await assert.rejects(acquireLock(operator, "u1", new AbortController().signal), /forbidden/);
  assert.deepEqual([[...members], commands], [[], 4]);
});

test("a refusal of the first attempt is believed: nothing else is sent", async () => {
  let commands = 0;
  const { operator } = startLog((n) => {
    commands = n;
    throw new OperatorRefusedError("forbidden", { status: 403, reason: null, outcome: "none" });
  });
  await assert.rejects(acquireLock(operator, "u1", new AbortController().signal), /forbidden/);
  assert.equal(commands, 1);
});

test("a connection that could not be made is made anew by the next command, such as an undo", async () => {
  const { members, client } = startLog(() => {});
  let connections = 0;
  const operator = createDrillOperator(async () => {
    if (++connections === 1) throw new CannotError("the configuration cannot be read");
    return client;
  });
  const add = () =>
    operator.submit(addMember(lockGroup, "u1"), { withinMs: 1_000, signal: AbortSignal.timeout(30_000) });
  await assert.rejects(add(), /cannot be read/);
  await add();
  assert.deepEqual([[...members], connections], [["u1"], 2]);
});

test("two drills with different canaries both withdraw", async () => {
  const { members, operator } = startLog(() => {});
  members.add("u2");
  const signal = new AbortController().signal;
  await assert.rejects(acquireLock(operator, "u1", signal), /another drill is running, or was killed: .* member u2/);
  assert.deepEqual([...members], ["u2"]);
});

test("a lock that cannot be given back is named, with the command that removes it", async () => {
  const { members, operator } = startLog((n) => {
    if (n > 1) throw new OperatorRefusedError("forbidden", { status: 403, reason: null, outcome: "none" });
  });
  members.add("u2");
  const signal = new AbortController().signal;
  await assert.rejects(
    acquireLock(operator, "u1", signal),
    new RegExp(
      `another drill is running.*the drill's lock may remain in the log: cardea groups remove ${lockGroup} u1`,
    ),
  );
});
