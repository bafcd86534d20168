/**
 * The log begins after a snapshot, and every snapshot on disk is damaged. The node serves nothing from incomplete state
 * and logs the position and the remedy once. With snapshots copied from another data folder it continues. Everything is
 * real.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { cpSync, readdirSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { sendRequest } from "../integration/cluster/client.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { mainFile } from "../support/program.ts";
import { waitFor } from "../support/wait-for.ts";
import { patience, startBrokerOf, untilTruncated, writeTruncating } from "./truncated-log.ts";

test("without an intact snapshot of the truncated part of the log nothing is served, and the position and remedy are logged", async (t) => {
  using folder = new TemporaryFolder("snapshots-damaged");
  const [port = 0, metrics = 0] = await freePorts(2);
  const secrets = {
    shared_secret: randomBytes(32).toString("base64"),
    cookie_secret: randomBytes(32).toString("base64"),
  };
  const configFile = writeTruncating(folder.path, secrets, { port, metrics });
  const parts = await startBrokerOf(configFile);
  const begins = await untilTruncated(parts);
  await parts.stop();
  const [snapshots, copy] = [join(folder.path, "data", "snapshots"), join(folder.path, "elsewhere")];
  cpSync(snapshots, copy, { recursive: true });
  const chunks = join(snapshots, "chunks");
  for (const name of readdirSync(chunks)) truncateSync(join(chunks, name), 3);

  const child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", mainFile, "run", "-c", configFile],
    logFile: join(folder.path, "log"),
  });
  t.after(() => child.kill());
  const readiness = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${metrics}/readyz`).catch(() => undefined))?.text() ?? "";
  const reason = new RegExp(
    `the event log begins at ${begins}, and no snapshot reaches it: .*Copy the snapshots of another`,
  );
  await waitFor("the reason in /readyz", async () => reason.test(await readiness()), patience);
  const status = async (): Promise<number> => (await sendRequest({ port, host: `app.localhost:${port}` })).status;
  assert.equal(await status(), 503);
  const lines = (): string[] => child.log().split("\n");
  assert.ok(lines().some((line) => line.includes(join(chunks, "")) && /cannot be unpacked|is missing/.test(line)));
  // The node retries several times a second all the while.
  assert.equal(lines().filter((line) => reason.test(line)).length, 1, "logged once");

  cpSync(copy, snapshots, { recursive: true, force: true });
  await waitFor(
    "the node to be ready",
    async () => JSON.parse((await readiness()) || "{}").ready === true,
    patience,
  ).catch((cause) => Promise.reject(new Error(child.log().slice(-3_000), { cause })));
  assert.equal(await status(), 503, "permitted, but the upstream does not exist");
  assert.equal((await child.end("SIGTERM", { withinMs: 60_000 })).code, 0);
});
