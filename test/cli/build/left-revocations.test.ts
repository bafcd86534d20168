/** Left revocations: a broker that leads after its region was cut off records what the region revoked, then grants. */
import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { type Broker, openRevocationsFile } from "../../../src/broker/index.ts";
import { recordLeftRevocations } from "../../../src/cli/build/left-revocations.ts";
import { revocationsPath } from "../../../src/cli/build/region-revocations.ts";
import { type BootId, genesis, type NodeId, type UnixMs } from "../../../src/events/index.ts";
import type { Logger } from "../../../src/replication/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import {
  answererOf,
  encodeRevocation,
  type LocalRevocation,
  sealEnvelope,
} from "../../../src/replication/wire/index.ts";
import {
  aCommandId,
  brokerOn,
  cluster,
  createSession,
  FakeNode,
  folded,
  gatedLog,
  quiet,
  secret,
  session,
} from "../../broker/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";

const node = "broker-us" as NodeId;

type Left = Partial<LocalRevocation> & Readonly<{ by?: Uint8Array }>;

function revocationOf({ by = secret, ...parts }: Left) {
  const boot = "b".repeat(32) as BootId;
  const revocation: LocalRevocation = {
    ...{ commandId: aCommandId(), region: "us", broker: node, boot, seq: 1, basis: genesis },
    ...{ actor: "operator:alice#1", acceptedAt: Date.now() as UnixMs, command: "revokeSession", userId: null },
    ...{ sessionIds: [session("s")], reason: "" },
    ...parts,
  };
  const signer = answererOf({ cluster, name: node, boot, secret: by, seed: new Uint8Array(32).fill(5) });
  return { revocation, envelope: sealEnvelope(signer, "local-revocation", encodeRevocation(revocation)) };
}

/** A leader with the sessions s and t, and the file of the time when it served a region. */
async function aLeader(t: TestContext, revocations: readonly Left[]) {
  const folder = new TemporaryFolder("left-revocations");
  const path = revocationsPath(folder.path, node);
  const { stored, write } = openRevocationsFile({ path, initial: { store: "a".repeat(32), windowMs: 0, drift: 0.01 } });
  const entries = revocations.map((parts, n) => ({ seq: n + 1, sealed: revocationOf({ ...parts, seq: n + 1 }) }));
  write({ ...stored, head: entries.length, entries });
  const gate = gatedLog(createMemoryLog());
  const leader = brokerOn(gate.log);
  t.after(async () => {
    gate.release();
    await leader.stop();
    folder.remove();
  });
  for (const id of ["s", "t"]) {
    const request = { commandId: aCommandId(), actor: "system", command: createSession(id, "u") } as const;
    await waitFor("the session", async () => {
      const result = await leader.databroker("authenticate").submit(request);
      return result.type === "done";
    });
  }
  const statusOf = async (id: string) => (await folded(gate.log)).sessionStatus(session(id)).status;
  return { leader, gate, path, statusOf, options: { dataDir: folder.path, node, logger: quiet } };
}

const unmergedAt = async (broker: Broker) => (await broker.databroker("operator").status()).broker.localUnmerged;

test("no lease is granted or forwarded before the leader has recorded each of them; the file is then removed", async (t) => {
  const { leader, gate, path, statusOf, options } = await aLeader(t, [{ sessionIds: [session("s")] }]);
  gate.hold();
  const broker = recordLeftRevocations(leader, options);
  t.after(() => broker.stop());
  const proxy = new FakeNode("proxy-1");
  const first = /first records what its region revoked/;
  await assert.rejects(proxy.lease(broker.databroker("proxy")), first);
  const forwarded = { origin: "remote", hop: "forwarded", caller: { role: "proxy", name: proxy.node } } as const;
  await assert.rejects(broker.databrokerFor(forwarded).lease(proxy.sealed("renew", proxy.renew())), first);
  gate.release();
  const grant = await waitFor("a lease", () => proxy.lease(broker.databroker("proxy")).catch(() => undefined));
  assert.equal(await statusOf("s"), "revoked", "recorded before the first grant");
  assert.equal(await statusOf("t"), "active");
  const { applied } = (await leader.databroker("operator").status()).broker;
  assert.deepEqual(grant.head, applied, "a node must hold the revocation before this lease counts");
  await waitFor("the file to be removed", () => !existsSync(path));
  assert.equal(await unmergedAt(broker), 0);
  assert.equal(broker.metrics()["localUnmerged"], 0);
});

test("one that the leader refuses holds up no lease and no other one, stays in the file and is counted", async (t) => {
  const { leader, path, statusOf, options } = await aLeader(t, [
    { by: new Uint8Array(32), sessionIds: [session("t")] },
    { sessionIds: [session("s")] },
  ]);
  const broker = recordLeftRevocations(leader, options);
  t.after(() => broker.stop());
  const proxy = new FakeNode("proxy-1");
  await waitFor("a lease", () => proxy.lease(broker.databroker("proxy")).catch(() => undefined));
  assert.deepEqual([await statusOf("s"), await statusOf("t")], ["revoked", "active"]);
  assert.equal(await unmergedAt(broker), 1);
  assert.equal(broker.metrics()["localUnmerged"], 1, "as the regional broker that accepted it had it");
  assert.equal(existsSync(path), true);
});

test("one whose two command ids the leader refuses is logged by name, with the leader's reason", async (t) => {
  const { leader, options } = await aLeader(t, [{ sessionIds: [session("s")] }]);
  const errors: unknown[] = [];
  const logger: Logger = { ...quiet, error: (fields) => void errors.push(fields) };
  const tried = new Set<string>();
  const broker = recordLeftRevocations(
    {
      ...leader,
      databroker: (role) => ({
        ...leader.databroker(role),
        submit: async ({ commandId }) => {
          tried.add(commandId);
          return { type: "refused", commandId, code: "conflict", message: "the cluster is at level 2" };
        },
      }),
    },
    { ...options, logger },
  );
  t.after(() => broker.stop());
  await waitFor("the line", () => errors.length > 0);
  const [commandId] = tried;
  assert.deepEqual([tried.size, errors[0]], [2, { commandId, reason: "the cluster is at level 2" }]);
});

test("a broker without such a file is left as it is", async (t) => {
  const { leader, path, options } = await aLeader(t, []);
  rmSync(path);
  assert.equal(recordLeftRevocations(leader, options), leader);
});
