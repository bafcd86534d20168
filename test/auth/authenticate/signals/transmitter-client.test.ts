/** The client of a transmitter: what it knows of the transmitter's documents while the transmitter is down. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { createLocalFetch, createTransmitterClient, TransmitterError } from "../../../../src/auth/index.ts";
import type { SignalTransmitterConfig } from "../../../../src/config/index.ts";

async function start(t: TestContext) {
  const state = { down: false, reads: 0 };
  const server = createServer((_req, res) => {
    state.reads += 1;
    if (state.down) return void res.writeHead(500).end();
    res.writeHead(200, { "content-type": "application/json" });
    res.end(JSON.stringify({ issuer, jwks_uri: `${issuer}/jwks`, critical_subject_members: ["tenant"] }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const local = createLocalFetch({ timeoutMs: 2_000 });
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await local.close();
  });
  const clock = { ms: 0 };
  const config: SignalTransmitterConfig = {
    ...{
      name: "tool",
      issuer,
      audiences: ["https://a.example"],
      delivery: "push",
      pushToken: null,
      match: ["subject"],
    },
    ...{ client: null, accessToken: null, pollUrl: null, streamId: null, subjectIssuers: [], actions: {} },
    ...{ metadataUrl: null, jwksUrl: null },
  };
  const client = createTransmitterClient(config, { local, nowMs: () => clock.ms, monotonic: () => clock.ms });
  return { state, clock, client };
}

test("while a transmitter is down, every caller gets the known metadata, for a day", async (t) => {
  const { state, clock, client } = await start(t);
  const known = await client.metadata();
  state.down = true;
  clock.ms = 2 * 3_600_000;
  const [one, two] = await Promise.all([client.metadata(), client.metadata()]);
  assert.deepEqual([one, two], [known, known]);
  assert.deepEqual(await client.criticalMembers(), ["tenant"]);
  clock.ms = 25 * 3_600_000;
  await assert.rejects(client.metadata(), TransmitterError);
  const { reads } = state;
  for (let calls = 0; calls < 20; calls++) await assert.rejects(client.metadata(), TransmitterError);
  assert.equal(state.reads, reads, "a failure is not repeated at once");
  state.down = false;
  clock.ms += 120_000;
  assert.deepEqual(await client.metadata(), known);
});
