/**
 * Configuration bodies over the databroker's HTTP API: nodes offer them, the broker stores each once, operators read
 * them. A body must match its hash.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { deflateRawSync } from "node:zlib";
import { type Broker, type DatabrokerServer, startDatabrokerServer } from "../../../src/broker/index.ts";
import {
  type Command,
  type ConfigBody,
  type ConfigHash,
  configBodyBytesMax,
  configTextBytesMax,
  configTextOf,
  decodeEvents,
  genesis,
  type NodeId,
  packConfigBody,
} from "../../../src/events/index.ts";
import { createMemoryLog, type EventLog } from "../../../src/replication/log/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { type BrokerClient, createBrokerClient, type Role } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { asked, brokerOn, cluster, quiet, random, secret } from "../support.ts";

let log: EventLog;
let broker: Broker;
let server: DatabrokerServer;
const clients = new Map<string, BrokerClient>();

before(async () => {
  log = createMemoryLog();
  broker = brokerOn(log);
  const listen = { host: "127.0.0.1", port: 0 };
  server = await startDatabrokerServer({ broker, cluster, secret, listen, clock: systemClock, logger: quiet });
  await waitFor("the broker to lead", () => broker.leading());
});
after(async () => {
  for (const client of clients.values()) await client.close();
  await server.close();
  await broker.stop();
  await log.close();
});

function as(role: Role, name = `${role}-1`): BrokerClient {
  const client =
    clients.get(`${role} ${name}`) ??
    createBrokerClient({
      ...{ urls: [new URL(server.url)], cluster, role, name, secret, clock: systemClock },
      ...{ logger: quiet, randomBytes: random },
    });
  clients.set(`${role} ${name}`, client);
  return client;
}

const hashOf = (text: string): ConfigHash => createHash("sha256").update(text).digest("hex") as ConfigHash;
const activate = (node: string, configHash: ConfigHash, body?: Uint8Array): Command => ({
  ...{ type: "activateConfiguration", nodeId: node as NodeId, configHash },
  ...(body === undefined ? {} : { body: body as ConfigBody }),
});
const offer = (node: string, configHash: ConfigHash, body?: Uint8Array, role: Role = "proxy") =>
  as(role, node).submit(asked(activate(node, configHash, body)));

async function activations(of: ConfigHash): Promise<readonly string[]> {
  const read = await log.read(genesis, 10_000);
  assert.ok(read.type === "page");
  return decodeEvents(read.page.entries, genesis).flatMap(({ event }) =>
    event.type === "ConfigurationActivated" && event.configHash === of ? [event.nodeId] : [],
  );
}

test("two nodes with one configuration store one body, and operators read it", async () => {
  const text = '{"region":"here"}';
  const hash = hashOf(text);
  for (const node of ["proxy-1", "proxy-2"]) assert.equal((await offer(node, hash)).type, "done");
  assert.equal(await as("proxy").holdsConfiguration(hash), false);
  assert.equal(await as("operator").configuration(hash), undefined);

  for (const node of ["proxy-1", "proxy-2"]) assert.equal((await offer(node, hash, packConfigBody(text))).type, "done");
  assert.equal(await as("proxy").holdsConfiguration(hash), true);
  const stored = await as("operator").configuration(hash);
  assert.equal(stored && configTextOf(stored.body), text);
  const places = (await as("operator").configurations()).filter(({ configHash }) => configHash === hash);
  assert.deepEqual(
    places.map(({ bytes }) => bytes),
    [stored?.body.length],
  );
  assert.deepEqual(
    await activations(hash),
    ["proxy-1", "proxy-2", "proxy-1"],
    "recorded again with the body, and not before",
  );
});

test("a body that does not match its hash, is malformed or is too long is refused, and its hash is not recorded", async () => {
  const hash = hashOf('{"true":1}');
  const hostile: readonly Uint8Array[] = [
    packConfigBody('{"false":1}'),
    Buffer.from("no body at all"),
    new Uint8Array(),
    new Uint8Array(configBodyBytesMax + 1),
    deflateRawSync(Buffer.alloc(configTextBytesMax + 1)), // small until it is inflated
  ];
  for (const body of hostile) {
    const result = await offer("proxy-9", hash, body);
    assert.deepEqual(result.type === "refused" && result.code, "invalid");
  }
  for (const body of ["text", 7, null])
    assert.equal((await offer("proxy-9", hash, body as unknown as Uint8Array)).type, "refused");
  assert.equal(await as("proxy").holdsConfiguration(hash), false);
  assert.deepEqual(await activations(hash), []);
  assert.equal((await offer("proxy-9", hash)).type, "done", "the hash alone is still accepted");
});

test("nodes learn whether a body is stored, but not its content", async () => {
  const hash = hashOf('{"for":"operators"}');
  await offer("proxy-3", hash, packConfigBody('{"for":"operators"}'));
  for (const role of ["proxy", "authorize", "authenticate"] as const) {
    assert.equal(await as(role).holdsConfiguration(hash), true);
    await assert.rejects(as(role).configuration(hash), /does not allow this/);
    await assert.rejects(as(role).configurations(), /does not allow this/);
    await assert.rejects(broker.databroker(role).configuration(hash), /may not request/);
    await assert.rejects(broker.databroker(role).configurations(), /may not request/);
  }
  const unsigned = await fetch(`${server.url}/v1/configurations/${hash}`);
  assert.equal(unsigned.status, 401);
});
