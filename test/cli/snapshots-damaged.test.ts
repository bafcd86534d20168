/**
 * The log begins behind a snapshot, and every snapshot on the disk is damaged: nobody is served from less than what was
 * there, it is said where and what to do, once, and with the snapshots of another data folder it goes on. Everything is
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
import { waitFor } from "../support/wait-for.ts";
import { patience, startBrokerOf, untilTruncated, writeTruncating } from "./truncated-log.ts";

const mainFile = new URL("../../src/main.ts", import.meta.url).pathname;

test("with no whole snapshot of what the log has let go of, nothing is served, and place and remedy are named", async (t) => {
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
  const [snapshots, elsewhere] = [join(folder.path, "data", "snapshots"), join(folder.path, "elsewhere")];
  cpSync(snapshots, elsewhere, { recursive: true });
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
  const said = new RegExp(
    `the event log begins at ${begins}, and no snapshot leads there: .*Copy the snapshots of another`,
  );
  await waitFor("it to say so", async () => said.test(await readiness()), patience);
  const status = async (): Promise<number> => (await sendRequest({ port, host: `app.localhost:${port}` })).status;
  assert.equal(await status(), 503);
  const lines = (): string[] => child.log().split("\n");
  assert.ok(lines().some((line) => line.includes(join(chunks, "")) && /cannot be unpacked|is missing/.test(line)));
  // It looks again several times a second all the while.
  assert.equal(lines().filter((line) => said.test(line)).length, 1, "said once");

  cpSync(elsewhere, snapshots, { recursive: true, force: true });
  await waitFor("it to go on", async () => JSON.parse((await readiness()) || "{}").ready === true, patience).catch(
    (cause) => Promise.reject(new Error(child.log().slice(-3_000), { cause })),
  );
  assert.equal(await status(), 503, "let through, to an upstream that is not there");
  assert.equal((await child.end("SIGTERM", { withinMs: 60_000 })).code, 0);
});
