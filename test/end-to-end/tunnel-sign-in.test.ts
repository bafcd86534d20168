/**
 * `cardea tcp`, `ssh-proxy` and `token` as a person uses them, with real git and curl.
 *
 * - The first connection opens a browser, once for all that wait.
 * - One sign-in serves every process and every TCP host. It is replaced only when its own proxy no longer accepts it.
 */
import assert from "node:assert/strict";
import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { TemporaryFolder } from "../support/child.ts";
import { mainFile } from "../support/program.ts";
import { waitFor } from "../support/wait-for.ts";
import { startDev } from "./support.ts";

const root = new URL("../../", import.meta.url).pathname;
const run = promisify(execFile);

/** A browser that signs in as alice and records each address it opens. */
function writeBrowser(folder: string): Readonly<{ command: string; opened: () => number }> {
  const [command, log] = [join(folder, "browser.mjs"), join(folder, "opened")];
  const lines = [
    `#!${process.execPath}`,
    'import { appendFileSync } from "node:fs";',
    `import { Visitor } from ${JSON.stringify(new URL("../support/visitor.ts", import.meta.url).pathname)};`,
    `appendFileSync(${JSON.stringify(log)}, process.argv[2] + "\\n");`,
    "const visitor = new Visitor();",
    "const page = await visitor.navigate(process.argv[2]);",
    'await visitor.navigate(page.url, { form: { user: "alice", password: "x" } });',
    "visitor.close();",
  ];
  writeFileSync(command, `${lines.join("\n")}\n`, { mode: 0o700 });
  writeFileSync(log, "");
  return { command, opened: () => readFileSync(log, "utf8").split("\n").length - 1 };
}

/** The answer of the service to a line; "": the connection was closed without one. */
function line(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    let received = "";
    socket.on("error", () => {}); // `close` follows
    socket.on("data", (chunk) => {
      received += chunk;
    });
    socket.on("close", () => resolve(received));
    socket.write("PING\r\n");
  });
}

/** A repository with one commit, served by a plain web server. */
async function serveRepository(folder: string): Promise<Readonly<{ port: number; close(): void }>> {
  const git = (...args: string[]): void =>
    void execFileSync("git", ["-C", folder, ...args], { env: gitEnv, stdio: "pipe" });
  mkdirSync(folder);
  git("init", "--quiet", "--initial-branch=main");
  writeFileSync(join(folder, "README"), "cloned through the proxy\n");
  git("add", "README");
  git("commit", "--quiet", "--message=first");
  git("update-server-info");
  const server = createHttpServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://git").pathname.replace(/^\/repo\.git\//, "");
    try {
      response.end(path.includes("..") ? "" : readFileSync(join(folder, ".git", path)));
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, close: () => server.close() };
}
const gitEnv = {
  ...process.env,
  ...{ GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null", GIT_TERMINAL_PROMPT: "0", HOME: "/nonexistent" },
  ...{
    GIT_AUTHOR_NAME: "a",
    GIT_AUTHOR_EMAIL: "a@example.com",
    GIT_COMMITTER_NAME: "a",
    GIT_COMMITTER_EMAIL: "a@example.com",
  },
};

const missing = ["git", "curl"].find((program) => spawnSync(program, ["--version"]).status !== 0);

test("the first connection opens a browser once, and its credential serves every process until it is revoked", {
  skip: missing === undefined ? false : `no ${missing} on this machine`,
  timeout: 300_000,
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
  const any = "allow_any_authenticated_user: true";
  const repository = await serveRepository(join(folder.path, "repository"));
  t.after(() => repository.close());
  routes.push(
    `  - from: tcp+http://line.localhost:6379\n    to: tcp://127.0.0.1:${port}\n    ${any}\n`,
    `  - from: tcp+http://tunnel.localhost/*.wild.internal:6379\n    to: tcp://127.0.0.1:${port}\n    ${any}\n`,
    `  - from: tcp+http://tunnel.localhost/own.internal:6379\n    to: tcp://127.0.0.1:${port}\n    ${any}\n    idp_client_id: own\n    idp_client_secret: a secret of sixteen letters\n`,
    `  - from: http://git.localhost:8080\n    to: http://127.0.0.1:${repository.port}\n    ${any}\n`,
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
    let [out, output] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      output += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    t.after(() => child.kill());
    const ended = once(child, "close").then(([code]) => code as number | null);
    return { child, output: () => output, out: () => out, ended };
  };
  const listen = async (target: string) => {
    const tcp = start("tcp", target, "--json");
    const at = await waitFor("the local port", () => /"listening":"127\.0\.0\.1:(\d+)"/.exec(tcp.output())?.[1], {
      withinMs: 30_000,
    });
    return { ...tcp, port: Number(at) };
  };

  const tcp = await listen("eng.internal:6379");
  assert.equal(browser.opened(), 0, "no browser opens before the first connection");
  assert.deepEqual(await Promise.all([1, 2, 3].map(() => line(tcp.port))), ["+PONG\r\n", "+PONG\r\n", "+PONG\r\n"]);
  assert.equal(browser.opened(), 1, tcp.output());
  assert.equal(readdirSync(join(folder.path, "cache/cardea/tokens")).filter((name) => name.endsWith(".jwt")).length, 1);

  const other = start("ssh-proxy", "eng.internal", "6379");
  other.child.stdin.write("PING\r\n");
  await waitFor("the answer on standard output", () => other.output().includes("+PONG"));
  assert.equal(browser.opened(), 1, "another process of the same person uses the credential");

  const refused = await listen("sales.internal:6379");
  assert.equal(await line(refused.port), "");
  assert.match(refused.output(), /you may not use this route \(403\)/);
  assert.equal(browser.opened(), 1, "signing in again would change nothing");

  // One sign-in serves every TCP host of the installation, and any host of it can be the proxy.
  const tokens = join(folder.path, "cache/cardea/tokens");
  const at = (host: string): string => `http://${host}.localhost:${dev.port}`;
  const expectPong = async (name: string, ...args: string[]): Promise<void> => {
    const ssh = start("ssh-proxy", name, "6379", ...args);
    ssh.child.stdin.write("PING\r\n");
    await waitFor(
      `an answer of ${name} ${args.join(" ")}`,
      () => ssh.out().includes("+PONG") || ssh.child.exitCode !== null,
    );
    assert.equal(ssh.out(), "+PONG\r\n", ssh.output());
  };
  await expectPong("line.localhost");
  await expectPong("a.wild.internal");
  await expectPong("line.localhost", "--proxy-url", at("line"));
  assert.equal(browser.opened(), 1, "one sign-in serves all TCP hosts");
  await expectPong("eng.internal", "--proxy-url", at("app"));
  await expectPong("line.localhost", "--proxy-url", `${at("authenticate")}/`);
  assert.equal(browser.opened(), 3, "a host without a TCP route has its own sign-in");

  // A host that refuses a credential that is valid elsewhere does not discard it.
  const before = readdirSync(tokens).sort();
  const own = start("ssh-proxy", "own.internal", "6379");
  assert.equal(await own.ended, 1, own.output());
  assert.match(own.output(), /does not accept your credential for this route; name the route's own host.* \(401\)/);
  assert.deepEqual([readdirSync(tokens).sort(), browser.opened()], [before, 3]);

  // For scripts, standard output has only the token. curl and git use it; without it the answer says how to get one.
  const none = start("token", at("git"), "--no-sign-in");
  assert.deepEqual([await none.ended, none.out()], [1, ""]);
  assert.match(none.output(), /you are not signed in at .*; sign in with: cardea login http:/);
  const first = start("token", at("git"));
  assert.equal(await first.ended, 0, first.output());
  assert.match(first.out(), /^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/, "only the token is printed");
  const second = start("token", at("git"), "--no-sign-in");
  assert.deepEqual([await second.ended, second.output()], [0, first.out()], "the same token, without a sign-in");
  assert.equal(browser.opened(), 4);
  for (const name of readdirSync(tokens)) assert.equal(statSync(join(tokens, name)).mode & 0o777, 0o600, name);
  const token = first.out().trim();
  const clone = (...args: string[]) => {
    const into = join(folder.path, `clone-${args.length}`);
    const child = spawn("git", [...args, "clone", `${at("git")}/repo.git`, into], { env: gitEnv });
    let err = "";
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    return { into, err: () => err, ended: once(child, "close").then(([code]) => code as number | null) };
  };
  const unsigned = clone();
  assert.notEqual(await unsigned.ended, 0);
  assert.match(
    unsigned.err(),
    /could not read Username|Authentication failed/,
    "git gets a 401, not a page of the provider",
  );
  const cloned = clone("-c", `http.extraHeader=X-Pomerium-Authorization: ${token}`);
  assert.equal(await cloned.ended, 0, cloned.err());
  assert.equal(readFileSync(join(cloned.into, "README"), "utf8"), "cloned through the proxy\n");
  const curl = async (...args: string[]): Promise<string> => {
    const common = ["--silent", "--include", "--resolve", `*:${dev.port}:127.0.0.1`];
    return (await run("curl", [...common, ...args, `${at("git")}/repo.git/HEAD`])).stdout;
  };
  const refusedCurl = await curl();
  assert.match(refusedCurl, /^HTTP\/1\.1 401 /);
  assert.match(refusedCurl, /^www-authenticate: Pomerium login="\/\.pomerium\/api\/v1\/login"\r$/im);
  assert.match(
    refusedCurl,
    /^curl: +curl -H "Authorization: Pomerium \$\(cardea token http:\/\/git\.localhost:\d+\)"/m,
  );
  assert.match(await curl("--header", `Authorization: Pomerium ${token}`), /ref: refs\/heads\/main/);
  assert.match(await curl("--header", "Accept: text/html"), /^HTTP\/1\.1 302 /, "a browser is sent to sign in");

  const revoked = await dev.cardea("sessions", "revoke", "--user", "alice", "--wait");
  assert.equal(revoked.code, 0, revoked.err);
  assert.equal(await line(tcp.port), "+PONG\r\n");
  assert.equal(browser.opened(), 5, "a credential that its own proxy no longer accepts is replaced");
  assert.doesNotMatch(
    tcp.output() + other.output() + refused.output(),
    /eyJ[\w-]+\.eyJ/,
    "the credential is never printed",
  );
});
