/**
 * Protocols other than HTTP through a real `cardea dev` and the Cardea client.
 *
 * A person signs in with a real Chromium, then uses a real psql and ssh, a line protocol and UDP. A revocation cuts the
 * ones that are running.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePort } from "../support/free-port.ts";
import { findPostgresBinaries, startPostgres } from "../support/postgres.ts";
import { withClient } from "../support/postgres-client.ts";
import { mainFile } from "../support/program.ts";
import { findSshd } from "../support/sshd.ts";
import { waitFor } from "../support/wait-for.ts";
import { executablePath, startBrowser, startDev } from "./support.ts";

const root = new URL("../../", import.meta.url).pathname;
const sshd = findSshd() ?? "/nowhere";
const psql = [join(findPostgresBinaries() ?? "/nowhere", "psql"), "/usr/bin/psql"].find((path) => existsSync(path));

function missing(): string | false {
  if (executablePath === undefined) return "no Chromium on this machine";
  if (psql === undefined || findPostgresBinaries() === undefined) return "no Postgres on this machine";
  if (findSshd() === undefined || process.getuid?.() !== 0) return "no sshd that can be started on this machine";
  return false;
}

type Run = Readonly<{ child: ReturnType<typeof spawn>; output(): string; ended: Promise<number | null> }>;
function start(command: string, args: readonly string[], env: Record<string, string> = {}): Run {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  return { child, output: () => output, ended: once(child, "close").then(([code]) => code as number | null) };
}

/**
 * Repeats a command until it succeeds, as a person would. A node that its machine paused permits nothing before its
 * next grant.
 */
async function untilDone(what: string, begin: () => Run): Promise<Run> {
  return waitFor(`${what} to pass`, async () => {
    const run = begin();
    if ((await run.ended) === 0) return run;
    throw new Error(run.output());
  });
}

async function startSshd(t: TestContext, folder: string): Promise<number> {
  const port = await freePort();
  mkdirSync("/run/sshd", { recursive: true });
  for (const name of ["host", "user"])
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(folder, name)]);
  writeFileSync(join(folder, "authorized"), readFileSync(join(folder, "user.pub")), { mode: 0o600 });
  const lines = ["UsePAM no", "StrictModes no", "PermitRootLogin yes", "PasswordAuthentication no", "PidFile none"];
  lines.push(`HostKey ${join(folder, "host")}`, `AuthorizedKeysFile ${join(folder, "authorized")}`);
  lines.push("ListenAddress 127.0.0.1", `Port ${port}`);
  writeFileSync(join(folder, "sshd_config"), `${lines.join("\n")}\n`);
  const child = await Child.start({
    command: sshd,
    args: ["-D", "-e", "-f", join(folder, "sshd_config")],
    logFile: join(folder, "sshd.log"),
  });
  t.after(() => child.kill());
  return port;
}

/** A service that answers a line with a line, like redis to PING. */
async function startLines(t: TestContext): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => socket.write(chunk.toString().startsWith("PING") ? "+PONG\r\n" : "-ERR\r\n"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function startUdpEcho(t: TestContext): Promise<number> {
  const socket = createSocket("udp4");
  socket.on("message", (payload, from) => socket.send(payload, from.port, from.address));
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  t.after(() => socket.close());
  return socket.address().port;
}

/** The `~/.ssh/config` from docs/tcp.md, with the names of this test. */
function writeSshConfig(folder: string, proxy: string): string {
  const page = readFileSync(join(root, "docs/tcp.md"), "utf8");
  const block =
    /In `~\/\.ssh\/config`:\n\n```\n([\s\S]*?)```/.exec(page)?.[1] ?? assert.fail("docs/tcp.md has no .ssh/config");
  const config = block
    .replaceAll("ProxyCommand cardea", `ProxyCommand ${process.execPath} ${mainFile}`)
    .replaceAll("https://proxy.example.com", proxy)
    .replace(/^Host ssh\.example\.com/m, "Host *.localhost")
    .replaceAll(/ +# from: .*$/gm, "");
  const common = [
    "BatchMode yes",
    "StrictHostKeyChecking no",
    "UserKnownHostsFile /dev/null",
    `IdentityFile ${join(folder, "user")}`,
  ];
  const file = join(folder, "ssh_config");
  writeFileSync(file, `${config}\nHost *\n${common.map((line) => `  ${line}\n`).join("")}`, { mode: 0o600 });
  return file;
}

/** @param routes `name`: the part of `from` after the scheme */
function configWith(folder: string, routes: readonly (readonly [kind: string, name: string, port: number])[]): string {
  const base = readFileSync(join(root, "cardea.dev.yaml"), "utf8");
  const written = routes.map(
    ([kind, name, port]) =>
      `  - from: ${kind}+http://${name}\n    to: ${kind}://127.0.0.1:${port}\n    allow_any_authenticated_user: true\n`,
  );
  const file = join(folder, "cardea.yaml");
  writeFileSync(file, base.replace(/^routes:\n/m, `routes:\n${written.join("")}`), { mode: 0o600 });
  return file;
}

async function signIn(t: TestContext, proxy: string, env: Record<string, string>): Promise<void> {
  const browser = await startBrowser();
  t.after(() => browser.close());
  const login = start(process.execPath, [mainFile, "login", proxy, "--no-browser"], env);
  const url = await waitFor("the sign-in address", () => /^http:\S+$/m.exec(login.output())?.[0], {
    withinMs: 30_000,
  });
  const page = await browser.newPage();
  await page.goto(url);
  await page.getByRole("button", { name: /alice/i }).click();
  assert.equal(await login.ended, 0, login.output());
  assert.match((await page.locator("body").textContent()) ?? "", /You're signed in/);
  assert.doesNotMatch(login.output(), /eyJ[\w-]+\.eyJ/, "the credential is never printed");
}

async function listenOn(t: TestContext, args: readonly string[], env: Record<string, string>): Promise<number> {
  const run = start(process.execPath, [mainFile, ...args, "--json"], env);
  t.after(async () => {
    run.child.kill("SIGTERM");
    await run.ended;
  });
  const listening = await waitFor("the local port", () => /"listening":"127\.0\.0\.1:(\d+)"/.exec(run.output())?.[1], {
    withinMs: 30_000,
  });
  return Number(listening);
}

test("a signed-in person uses psql, ssh, a line protocol and UDP, and a revocation cuts the running ones", {
  skip: missing(),
  timeout: 230_000,
}, async (t) => {
  const folder = new TemporaryFolder("tunnels");
  t.after(() => folder.remove());
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const [sshPort, linesPort, echoPort] = [await startSshd(t, folder.path), await startLines(t), await startUdpEcho(t)];
  const config = configWith(folder.path, [
    ["tcp", "tunnel.localhost/pg.internal:5432", postgres.port],
    ["tcp", "tunnel.localhost/ssh.internal:22", sshPort],
    ["tcp", "tunnel.localhost/*.wild.internal:22", sshPort],
    ["tcp", "tunnel.localhost/one.internal:22/two.internal:22", sshPort],
    ["tcp", "ssh.localhost:22", sshPort],
    ["tcp", "*.zone.localhost:22", sshPort],
    ["tcp", "tunnel.localhost/redis.internal:6379", linesPort],
    ["udp", "tunnel.localhost/dns.internal:53", echoPort],
  ]);
  const dev = await startDev(t, "-c", config);
  const proxy = `http://tunnel.localhost:${dev.port}`;
  const env = { XDG_CACHE_HOME: join(folder.path, "cache"), CARDEA_PROXY_URL: proxy };
  await signIn(t, proxy, env);
  const tokens = join(folder.path, "cache/cardea/tokens");
  const [file = ""] = readdirSync(tokens);
  assert.equal(statSync(join(tokens, file)).mode & 0o777, 0o600);

  const listing = start(process.execPath, [mainFile, "routes", "list", proxy], env);
  assert.equal(await listing.ended, 0, listing.output());
  assert.match(listing.output(), /^NAME +TYPE +ADDRESS +CONNECT WITH +DESCRIPTION/);
  assert.match(
    listing.output(),
    new RegExp(
      `redis.internal:6379 +tcp +tcp\\+http://tunnel.localhost/redis.internal:6379 +cardea tcp tcp\\+http://tunnel.localhost:${dev.port}/redis.internal:6379$`,
      "m",
    ),
  );
  assert.match(listing.output(), new RegExp(`Engineering +http +http://eng.localhost:${dev.port} `));
  const asJson = start(process.execPath, [mainFile, "routes", "list", "--json"], env);
  assert.equal(await asJson.ended, 0, asJson.output());
  assert.equal((JSON.parse(asJson.output()) as unknown[]).length, 13);
  const wrongAccount = { ...env, CARDEA_SERVICE_ACCOUNT: "bm8.bm8.bm8" };
  const refused = start(process.execPath, [mainFile, "routes", "list"], wrongAccount);
  assert.equal(await refused.ended, 1, refused.output());
  assert.match(refused.output(), /it does not accept your sign-in \(401\)/);

  const redis = await listenOn(t, ["tcp", "redis.internal:6379"], env);
  const line = connect(redis, "127.0.0.1");
  line.write("PING\r\n");
  assert.equal(String((await once(line, "data"))[0]), "+PONG\r\n");
  line.destroy();

  const dns = await listenOn(t, ["udp", "dns.internal:53"], env);
  const udpClient = createSocket("udp4");
  t.after(() => udpClient.close());
  udpClient.send("who?", dns, "127.0.0.1");
  assert.equal(String((await once(udpClient, "message"))[0]), "who?");

  const pg = await listenOn(t, ["tcp", "pg.internal:5432"], env);
  const url = new URL(postgres.connectionString());
  url.port = String(pg);
  const sql = (query: string): Run => start(psql ?? "", [url.href, "-XAtc", query]);
  const rows = await untilDone("psql", () =>
    sql("select count(*), sum(length(repeat('x', 1000))) from generate_series(1, 1000)"),
  );
  assert.equal(rows.output(), "1000|1000000\n");

  chmodSync(join(folder.path, "user"), 0o600);
  const ssh = (command: string): Run =>
    start(
      "ssh",
      [
        ...[
          "-F",
          "none",
          "-o",
          "BatchMode=yes",
          "-o",
          "StrictHostKeyChecking=no",
          "-o",
          "UserKnownHostsFile=/dev/null",
        ],
        ...["-i", join(folder.path, "user"), "-o", `ProxyCommand=${process.execPath} ${mainFile} ssh-proxy %h %p`],
        ...["root@ssh.internal", command],
      ],
      env,
    );
  const sshConfig = writeSshConfig(folder.path, proxy);
  for (const host of ["two.internal", "a.wild.internal", "ssh.localhost", "a.zone.localhost"]) {
    const run = await untilDone(`ssh to ${host}`, () =>
      start("ssh", ["-F", sshConfig, `root@${host}`, "echo through"], env),
    );
    assert.match(run.output(), /^through$/m, host);
  }
  const short = await untilDone("ssh", () => ssh("echo from $((6 * 7))"));
  assert.match(short.output(), /^from 42$/m);

  let [query, shell] = [sql("select pg_sleep(100)"), ssh("echo begun; sleep 100")];
  await waitFor("ssh to run", () => {
    if (shell.child.exitCode !== null) shell = ssh("echo begun; sleep 100");
    return /begun/.test(shell.output());
  });
  const sleeps = "select 1 from pg_stat_activity where query = 'select pg_sleep(100)'";
  await waitFor("psql to run", () => {
    if (query.child.exitCode !== null) query = sql("select pg_sleep(100)");
    return withClient(postgres.connectionString(), async (client) => (await client.query(sleeps)).rows.length > 0);
  });
  const revoked = await dev.cardea("sessions", "revoke", "--user", "alice", "--wait");
  assert.equal(revoked.code, 0, revoked.err);
  assert.notEqual(await query.ended, 0);
  assert.notEqual(await shell.ended, 0);
  t.diagnostic(`psql: ${query.output().trim().split("\n")[0]}; ssh: ${shell.output().trim().split("\n").at(-1)}`);
});
