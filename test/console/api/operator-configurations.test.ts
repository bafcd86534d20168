/** Configurations over the operator API: found by a prefix of their hash; an unstored body is reported as such. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import {
  type CommandId,
  type ConfigHash,
  type NodeId,
  packConfigBody,
  type UnixMs,
} from "../../../src/events/index.ts";
import type { ClusterStatus, NodeStatus } from "../../../src/replication/index.ts";
import type { World } from "../../auth/authenticate/support.ts";
import { json, startOperatorWorld } from "./operator-support.ts";

const hashOf = (text: string): ConfigHash => createHash("sha256").update(text).digest("hex") as ConfigHash;
const known = '{"region":"here","secret":"hmac-sha256:x"}';

async function offerConfiguration(world: World, text: string): Promise<ConfigHash> {
  const configHash = hashOf(text);
  const result = await world.deps.databroker.submit({
    commandId: randomUUID() as CommandId,
    actor: "service:proxy-1",
    command: { type: "activateConfiguration", nodeId: "proxy-1" as NodeId, configHash, body: packConfigBody(text) },
  });
  assert.equal(result.type, "done");
  return configHash;
}

const withRunningNode = (status: ClusterStatus, node: string, configHash: string): ClusterStatus => ({
  ...status,
  nodes: [...status.nodes.filter(({ node: other }) => other !== node), { node, configHash } as NodeStatus],
});

test("configurations are listed with the nodes that run them, and shown by hash", async (t) => {
  const unstored = "f".repeat(64);
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      status: async () =>
        withRunningNode(withRunningNode(await inner.status(), "proxy-1", hashOf(known)), "proxy-2", unstored),
    }),
  });
  const hash = await offerConfiguration(at.world, known);
  const { configurations } = json(await at.get("/configurations"));
  const listed = configurations.find(({ configHash }: { configHash: string }) => configHash === hash);
  assert.deepEqual([listed.nodes, listed.bytes > 0, listed.recordedAt > 0], [["proxy-1"], true, true]);
  const absent = configurations.find(({ configHash }: { configHash: string }) => configHash === unstored);
  assert.deepEqual(absent, { configHash: unstored, recordedAt: null, bytes: null, nodes: ["proxy-2"] });

  for (const name of [hash, hash.slice(0, 12)]) {
    const shown = json(await at.get(`/configurations/${name}`));
    assert.equal(shown.configHash, hash);
    assert.deepEqual(shown.configuration, JSON.parse(known));
  }
  const missing = await at.get(`/configurations/${unstored}`);
  assert.equal(missing.status, 404);
  assert.match(json(missing).error, /^the text of configuration f+ is not stored; it runs on proxy-2$/);
  assert.equal((await at.get(`/configurations/${"0".repeat(64)}`)).status, 404);
  for (const wrong of ["ff", "g".repeat(12), "a".repeat(65)])
    assert.equal((await at.get(`/configurations/${wrong}`)).status, 400);
});

test("a body that was altered in the store is not shown", async (t) => {
  const at = await startOperatorWorld(t, {
    operator: (inner) => ({
      ...inner,
      configuration: async (hash) => ({ ...(await inner.configuration(hash)), body: packConfigBody("{}") }) as never,
      configurations: async () => [{ configHash: hashOf(known), recordedAt: 1 as UnixMs, bytes: 1 }],
    }),
  });
  const answer = await at.get(`/configurations/${await offerConfiguration(at.world, known)}`);
  assert.equal(answer.status, 500);
  assert.match(json(answer).error, /changed or is damaged/);
});

test("a caller who is not an operator learns nothing", async (t) => {
  const at = await startOperatorWorld(t);
  const hash = await offerConfiguration(at.world, known);
  for (const path of ["/configurations", `/configurations/${hash}`]) {
    const answer = await at.get(path, { headers: { accept: "application/json" } });
    assert.equal(answer.status, 401);
    assert.equal(answer.body.includes("region"), false);
  }
});
