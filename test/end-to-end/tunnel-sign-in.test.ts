/**
 * `cardea tcp` and `ssh-proxy` as a person uses them: nobody has signed in, so the first connection opens a browser, once for all that
 * wait; the credential serves every process from then on, and is replaced when it counts no longer.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { waitFor } from "../support/wait-for.ts";
import { startDev } from "./support.ts";

const mainFile = new URL("../../src/main.ts", import.meta.url).pathname;
const root = new URL("../../", import.meta.url).pathname;

/** A browser whose person is alice, and that writes down each address it is opened with. */
function writeBrowser(folder: string): Readonly<{ command: string; opened: () => number }> {
  const [command, log] = [join(folder, "browser.mjs"), join(folder, "opened")];
  const lines = [
    `#!${process.execPath}`,
    'import { appendFileSync } from "node:fs";',
    `import { Visitor } from ${JSON.stringify(new URL("../support/visitor.ts", import.meta.url).pathname)};`,
    `appendFileSync(${JSON.stringify(log)}, process.argv[2] + "\\n");`,
    "const visitor = new Visitor();",
    "const page = await visitor.go(process.argv[2]);",
    'await visitor.go(page.url, { form: { user: "alice", password: "x" } });',
    "visitor.close();",
  ];
  writeFileSync(command, `${lines.join("\n")}\n`, { mode: 0o700 });
  writeFileSync(log, "");
  return { command, opened: () => readFileSync(log, "utf8").split("\n").length - 1 };
}

/** What the service says to a line; "": the connection was broken off. */
function line(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let said = "";
    socket.on("error", () => {}); // `close` follows
    socket.on("data", (chunk) => {
      said += chunk;
    });
    socket.on("close", () => resolve(said));
    socket.write("PING\r\n");
  });
}

test("the first connection opens a browser, once; what it brings serves every process, until a revocation asks for it anew", {
  timeout: 180_000,
}, async (t) => {
  const folder = new TemporaryFolder("tunnel-sign-in");
  t.after(() => folder.remove());
  const browser = writeBrowser(folder.path);
  const service = createServer((socket: Socket) => {
    socket.on("error", () => {});
    socket.on("data", () => socket.end("+PONG\r\n"));
  });
  service.listen(0, "127.0.0.1");
  await once(service, "listening");
  t.after(() => service.close());
  const { port } = service.address() as AddressInfo;
  const routes = ["eng", "sales"].map(
    (group) =>
      `  - from: tcp+http://tunnel.localhost/${group}.internal:6379\n    to: tcp://127.0.0.1:${port}\n    policy: {allow: {and: [groups: {has: ${group}}]}}\n`,
  );
  const config = join(folder.path, "cardea.yaml");
  const base = readFileSync(join(root, "cardea.dev.yaml"), "utf8");
  writeFileSync(config, base.replace(/^routes:\n/m, `routes:\n${routes.join("")}`), { mode: 0o600 });
  const dev = await startDev(t, "-c", config);
  const env = {
    ...process.env,
    XDG_CACHE_HOME: join(folder.path, "cache"),
    CARDEA_PROXY_URL: `http://tunnel.localhost:${dev.port}`,
  };
  const start = (...args: string[]) => {
    const child = spawn(process.execPath, [mainFile, ...args, "--browser-cmd", browser.command], { env });
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
    t.after(() => child.kill());
    return { child, said: () => said };
  };
  const listen = async (target: string) => {
    const tcp = start("tcp", target, "--json");
    const at = await waitFor("the local port", () => /"listening":"127\.0\.0\.1:(\d+)"/.exec(tcp.said())?.[1], {
      withinMs: 30_000,
    });
    return { ...tcp, port: Number(at) };
  };

  const tcp = await listen("eng.internal:6379");
  assert.equal(browser.opened(), 0, "nobody is asked before somebody comes");
  assert.deepEqual(await Promise.all([1, 2, 3].map(() => line(tcp.port))), ["+PONG\r\n", "+PONG\r\n", "+PONG\r\n"]);
  assert.equal(browser.opened(), 1, tcp.said());
  assert.equal(readdirSync(join(folder.path, "cache/cardea/tokens")).length, 1);

  const other = start("ssh-proxy", "eng.internal", "6379");
  other.child.stdin.write("PING\r\n");
  await waitFor("the answer on standard output", () => other.said().includes("+PONG"));
  assert.equal(browser.opened(), 1, "another process of the same person");

  const refused = await listen("sales.internal:6379");
  assert.equal(await line(refused.port), "");
  assert.match(refused.said(), /you may not use it \(403\)/);
  assert.equal(browser.opened(), 1, "signing in again would change nothing");

  const revoked = await dev.cardea("sessions", "revoke", "--user", "alice", "--wait");
  assert.equal(revoked.code, 0, revoked.err);
  assert.equal(await line(tcp.port), "+PONG\r\n");
  assert.equal(browser.opened(), 2, "a credential that counts no longer is replaced");
  assert.doesNotMatch(tcp.said() + other.said() + refused.said(), /eyJ[\w-]+\.eyJ/, "and never printed");
});
