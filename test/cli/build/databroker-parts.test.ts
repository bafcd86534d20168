/** Assembly of the databroker parts of a process: the fan-out, and cleanup after a failed start. */
import assert from "node:assert/strict";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import { startDatabroker } from "../../../src/cli/build/databroker-parts.ts";
import { openLog } from "../../../src/cli/build/open-log.ts";
import type { NodeId } from "../../../src/events/index.ts";
import { base, goodRoute, parse } from "../../config/support.ts";
import { TemporaryFolder } from "../../support/child.ts";

const logger = { debug() {}, info() {}, warn() {}, error() {} };

test("a proxy without NATS has no fan-out, so it reads from the log at once instead of waiting for deliveries that never arrive", async () => {
  const parsed = parse(`${base}services: proxy\nbroker: {urls: ["http://127.0.0.1:5443"]}\n${goodRoute}`);
  if (!parsed.ok) return assert.fail(JSON.stringify(parsed.problems));
  const parts = await startDatabroker(parsed.config, { node: "proxy-1" as NodeId, logger, duties: [] });
  assert.equal(parts.fanout, null);
  await parts.stop();
});

test("a broker whose port is in use stops and releases the log instead of leading unreachably", async () => {
  using folder = new TemporaryFolder("databroker-parts");
  const occupied = createServer();
  await new Promise<void>((resolve) => occupied.listen(0, "127.0.0.1", resolve));
  const { port } = occupied.address() as AddressInfo;
  const store = `databroker_storage_type: file\ndatabroker_storage_connection_string: ${folder.path}/log.db`;
  const parsed = parse(`${base}services: databroker\n${store}\nbroker: {listen: "127.0.0.1:${port}"}\n${goodRoute}`);
  if (!parsed.ok) return assert.fail(JSON.stringify(parsed.problems));
  const { config } = parsed;
  const started = startDatabroker(config, { node: "broker-1" as NodeId, logger, duties: [] });
  await assert.rejects(started, { code: "EADDRINUSE" });
  occupied.close();
  const log = await openLog(config, undefined);
  await log.close();
});
