/**
 * Keep code: starts the built program with all services, and keeps what V8 has compiled by the time it is ready, so
 * that later starts need not compile it (program.mjs).
 *
 *   node scripts/keep-code.ts DIST
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";
import type { Script } from "node:vm";

const readyWithinMs = 30_000;
const askEveryMs = 50;

const main = pathToFileURL(join(resolve(process.argv[2] ?? "dist"), "main.js")).href;
const folder = mkdtempSync(join(tmpdir(), "cardea-code-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const [port = 0, metricsPort = 0, brokerPort = 0] = await Promise.all([freePort(), freePort(), freePort()]);
const configFile = join(folder, "cardea.yaml");
writeFileSync(configFile, JSON.stringify(configuration()), { mode: 0o600 });
process.env["CARDEA_SINGLE_THREADED_GC"] = "false"; // a restart would start this script with the program's arguments
process.argv.splice(2, Number.POSITIVE_INFINITY, "run", "-c", configFile);
const { script, codeFile } = (await import(main)) as Readonly<{ script: Script; codeFile: string }>;
const giveUpAt = performance.now() + readyWithinMs;
while (!(await isReady())) {
  if (performance.now() > giveUpAt) {
    console.error("the program did not start, so its code is not kept");
    process.exit(1);
  }
  await sleep(askEveryMs);
}
// V8 refuses code made with other flags than it has; these are the ones that the program changes.
for (const flag of ["--heap-growing-percent=0", "--semi-space-growth-factor=2"]) setFlagsFromString(flag);
writeFileSync(`${codeFile}-new`, script.createCachedData());
renameSync(`${codeFile}-new`, codeFile);
process.exit(0);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

function configuration(): object {
  const secret = (): string => randomBytes(32).toString("base64");
  return {
    services: "all",
    address: `127.0.0.1:${port}`,
    insecure_server: true,
    metrics_address: `127.0.0.1:${metricsPort}`,
    data_dir: join(folder, "data"),
    shared_secret: secret(),
    cookie_secret: secret(),
    authenticate_service_url: `http://authenticate.localhost:${port}`,
    ...{ idp_provider: "oidc", idp_provider_url: `http://idp.localhost:${port}` },
    ...{ idp_client_id: "none", idp_client_secret: "none", groups_from_claim: "groups" },
    databroker_storage_type: "memory",
    broker: { listen: `127.0.0.1:${brokerPort}`, advertised_url: `http://127.0.0.1:${brokerPort}` },
    routes: ["a", "b"].map((name) => ({
      ...{ from: `http://${name}.localhost:${port}`, to: "http://127.0.0.1:9" },
      policy: { allow: { and: [{ groups: { has: name } }] } },
    })),
  };
}

async function isReady(): Promise<boolean> {
  const asked = get({ host: "127.0.0.1", port: metricsPort, path: "/readyz", agent: false });
  try {
    const [response] = (await once(asked, "response")) as [IncomingMessage];
    response.resume();
    return response.statusCode === 200;
  } catch {
    return false; // It does not listen yet.
  }
}
