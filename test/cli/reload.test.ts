/** A configuration reload in a running process: real files, a real `cardea run`, and open connections. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { mainFile } from "../support/program.ts";
import { waitFor } from "../support/wait-for.ts";
import { run } from "./support.ts";

const patience = { withinMs: 60_000 };
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

async function startUpstream(t: TestContext): Promise<number> {
  const server = createServer((_req, res) => res.end("upstream"));
  new WebSocketServer({ server }).on("connection", (socket) => {
    socket.on("error", () => {});
    socket.on("message", (data) => socket.send(String(data)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A folder as Kubernetes mounts one: file names are links through `..data` to the current version. */
class Mounted {
  readonly path: string;
  #version = 0;
  constructor(path: string, file: string, content: object) {
    this.path = join(path, file);
    mkdirSync(path, { recursive: true });
    this.swap(path, file, content);
    symlinkSync(join("..data", file), this.path);
  }
  swap(path: string, file: string, content: object): void {
    const version = `..v${++this.#version}`;
    mkdirSync(join(path, version));
    writeFileSync(join(path, version, file), JSON.stringify(content), { mode: 0o600 });
    symlinkSync(version, join(path, "..new"));
    renameSync(join(path, "..new"), join(path, "..data"));
  }
}

test("a changed configuration takes effect completely or not at all, and its hash is announced", async (t) => {
  using folder = new TemporaryFolder("reload");
  const upstream = await startUpstream(t);
  const [port = 0, metrics = 0, databroker = 0] = await freePorts(3);
  const broker = { listen: `127.0.0.1:${databroker}` };
  const cookieSecretFile = join(folder.path, "cookie-secret");
  writeFileSync(cookieSecretFile, secret(5), { mode: 0o600 });
  const route = (name: string): object => ({
    from: `http://${name}.localhost:${port}`,
    to: `http://127.0.0.1:${upstream}`,
    allow_public_unauthenticated_access: true,
    allow_websockets: true,
    timeout: "0s",
  });
  const written = (routes: readonly object[], more: object = {}): object => ({
    authenticate_service_url: `http://authenticate.localhost:${port}`,
    address: `127.0.0.1:${port}`,
    insecure_server: true,
    metrics_address: `127.0.0.1:${metrics}`,
    node_name: "node-1",
    data_dir: join(folder.path, "data"),
    shared_secret: secret(3),
    cookie_secret_file: cookieSecretFile,
    idp_provider: "oidc",
    idp_provider_url: "http://idp.localhost:1",
    idp_client_id: "cardea",
    idp_client_secret: "secret",
    drain_delay: "0s",
    drain_timeout: "1s",
    broker,
    routes,
    ...more,
  });
  const mount = join(folder.path, "mount");
  const mounted = new Mounted(mount, "cardea.yaml", written([route("app"), route("old")]));
  const swap = (content: object): void => mounted.swap(mount, "cardea.yaml", content);
  const logFile = join(folder.path, "log");
  const child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", mainFile, "run", "-c", mounted.path],
    logFile,
  });
  t.after(() => child.end("SIGTERM"));
  const ready = async (): Promise<boolean> =>
    (await fetch(`http://127.0.0.1:${metrics}/readyz`).catch(() => undefined))?.ok === true;
  await waitFor("the process to be ready", ready, patience);

  const readMetrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text();
  const currentHash = async (): Promise<string> =>
    /cardea_config_info\{hash="(\w+)"\} 1/.exec(await readMetrics())?.[1] ?? "";
  const reloads = async (result: string): Promise<number> =>
    Number(new RegExp(`cardea_config_reloads_total\\{result="${result}"\\} (\\d+)`).exec(await readMetrics())?.[1]);
  const status = async (name: string): Promise<number> => {
    const headers = { host: `${name}.localhost:${port}` };
    const req = get({ host: "127.0.0.1", port, path: "/", headers, agent: false });
    const [res] = (await once(req, "response")) as [IncomingMessage];
    res.resume();
    return res.statusCode ?? 0;
  };
  const logged = (text: string): Promise<string> =>
    waitFor(
      `the log to contain ${text}`,
      () =>
        child
          .log()
          .split("\n")
          .find((line) => line.includes(text)),
      patience,
    );
  const dial = async (name: string): Promise<WebSocket> => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { host: `${name}.localhost:${port}` } });
    socket.on("error", () => {});
    await once(socket, "open");
    return socket;
  };
  const hashes = [await currentHash()];
  const another = (): Promise<string> =>
    waitFor(
      "another hash",
      async () => {
        const hash = await currentHash();
        return hash !== hashes.at(-1) && hash;
      },
      patience,
    );
  await waitFor("the first check of the files", async () => (await reloads("unchanged")) > 0, patience);
  assert.doesNotMatch(child.log(), /a file has changed/, "no file has changed");
  const live = await dial("app");
  const old = await dial("old");
  const closed = once(old, "close");

  // The link changes to a new version.
  swap(written([route("app"), route("new")]));
  hashes.push(await another());
  assert.deepEqual([await status("new"), await status("old")], [200, 404]);
  assert.equal((await closed)[0], 4404);

  // An invalid configuration is refused with all problems, and no part of it takes effect.
  swap(
    written([
      { ...route("newer"), to: "nonsense://" },
      { ...route("other"), colour: "red" },
    ]),
  );
  const refusal = await logged("the new configuration is refused");
  assert.match(refusal, /nonsense/);
  assert.match(refusal, /colour/);
  assert.deepEqual([await currentHash(), await status("new"), await ready()], [hashes.at(-1), 200, true]);
  assert.match(await readMetrics(), /cardea_config_last_reload_success 0/);

  // Keys that need a restart keep their value; the others take effect.
  swap(written([route("app"), route("newest")], { address: "127.0.0.1:1", broker: { ...broker, lease: "7s" } }));
  hashes.push(await another());
  const waiting = JSON.parse(await logged("next start")) as { keys: string[] };
  assert.deepEqual(waiting.keys, ["address", "broker.lease"]);
  assert.deepEqual([await status("newest"), await status("new")], [200, 404]);
  assert.match(await readMetrics(), /cardea_config_last_reload_success 1/);

  // A file that the configuration names changes.
  writeFileSync(`${cookieSecretFile}.new`, secret(9), { mode: 0o600 });
  renameSync(`${cookieSecretFile}.new`, cookieSecretFile);
  hashes.push(await another());

  // A reload is requested without any change.
  const unchanged = await reloads("unchanged");
  child.signal("SIGHUP");
  await waitFor("the check", async () => (await reloads("unchanged")) > unchanged, patience);

  // A connection on a route that never changed is unaffected.
  live.send("still here");
  assert.equal(String((await once(live, "message"))[0]), "still here");
  live.close();

  assert.equal((await child.end("SIGTERM"))?.code, 0);
  const exported = await run(["log", "export", "-c", mounted.path]);
  assert.equal(exported.code, 0, exported.err);
  const activated = exported.out // a hash appears again with its body
    .split("\n")
    .filter((line) => line.includes("ConfigurationActivated"))
    .map((line) => hashes.findIndex((hash) => line.includes(hash)));
  assert.deepEqual([...new Set(activated)], [0, 1, 2, 3]);
});
