/** One real process with a store of its own, a real identity provider, and the commands of docs/operations.md, run as the page has them. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { type Member, startMember } from "../../support/member.ts";
import { startProvider } from "../../support/oidc-provider.ts";
import { Visitor } from "../../support/visitor.ts";

const run = promisify(execFile);
const root = new URL("../../../", import.meta.url).pathname;
const mainFile = join(root, "src/main.ts");
export const patience = { withinMs: 60_000 };
export const aSecret = (): string => randomBytes(32).toString("base64");

/** The blocks of commands behind a sentence of docs/operations.md, in order. */
export function commandsIn(after: string, count: number): string[] {
  const page = readFileSync(join(root, "docs/operations.md"), "utf8");
  const at = page.indexOf(after);
  assert.ok(at !== -1, `docs/operations.md has no "${after}"`);
  const blocks = [...page.slice(at).matchAll(/```sh\n([^`]*)```/g)].slice(0, count).map(([, text]) => text ?? "");
  assert.equal(blocks.length, count);
  return blocks;
}

export type Server = Awaited<ReturnType<typeof startServer>>;

export async function startServer(t: TestContext, store: Readonly<Record<string, unknown>>) {
  const folder = new TemporaryFolder("procedures");
  const [port = 0, metrics = 0] = await freePorts(2);
  const url = (host: string): string => `http://${host}.localhost:${port}/`;
  const client = { id: "cardea", secret: aSecret() };
  const redirectUris = [`${url("authenticate")}oauth2/callback`];
  const provider = await startProvider(t, [{ ...client, redirectUris }]);
  const upstream = createServer((_req, res) => res.end("hello"));
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  const address = upstream.address();
  const dataDir = join(folder.path, "data");
  const member: Member = { name: "all", port, metrics, config: join(folder.path, "cardea.yaml"), child: undefined };
  const visitors: Visitor[] = [];
  const secrets = { shared_secret: aSecret(), cookie_secret: aSecret() };

  const configure = (more: Readonly<Record<string, unknown>> = {}): void => {
    const to = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
    const config = {
      ...{ authenticate_service_url: url("authenticate"), address: `127.0.0.1:${port}`, insecure_server: true },
      ...{ metrics_address: `127.0.0.1:${metrics}`, data_dir: dataDir, node_name: "all", drain_delay: "0s" },
      ...{ idp_provider: "oidc", idp_provider_url: provider.issuer.href, idp_client_id: client.id },
      ...{ idp_client_secret: client.secret, idp_scopes: ["openid", "email", "profile", "offline_access"] },
      ...{ drain_timeout: "1s", log_level: "info", ...secrets, ...store, ...more },
      routes: [{ from: url("app").slice(0, -1), to, allow_any_authenticated_user: true }],
    };
    writeFileSync(member.config, JSON.stringify(config), { mode: 0o600 });
  };
  const logFile = join(folder.path, "log");
  const start = (): Promise<void> => startMember(member, logFile);
  const stop = async (): Promise<void> => {
    await member.child?.end("SIGTERM", { withinMs: 30_000 });
    member.child = undefined;
  };
  const cardea = async (...args: string[]): Promise<string> => {
    const { stdout } = await run(process.execPath, ["--no-warnings", mainFile, ...args, "-c", member.config]);
    return stdout;
  };
  t.after(async () => {
    await stop();
    for (const visitor of visitors) await visitor.close();
    upstream.closeAllConnections();
    upstream.close();
    folder.remove();
  });
  configure();
  await start();

  return {
    ...{ secrets, configure, start, stop, cardea, dataDir },
    async restart() {
      await stop();
      await start();
    },
    async signIn(name: string) {
      const visitor = new Visitor();
      visitors.push(visitor);
      provider.person.name = name;
      assert.equal((await visitor.go(url("app"))).status, 200, `${name} signs in`);
      return { name, isIn: async () => (await visitor.ask(url("app"))).status === 200 };
    },
    /** How many events the log has that record a lost denial again. */
    async reasserted(): Promise<number> {
      const stdout = await cardea("log", "export");
      return stdout.split("\n").filter((line) => line.includes('"reasserted"')).length;
    },
    /** Runs commands of the page; `systemctl` starts and stops the process. */
    async perform(commands: string, env: Readonly<Record<string, string>>): Promise<void> {
      const bin = join(folder.path, "bin");
      mkdirSync(bin, { recursive: true });
      writeFileSync(join(bin, "cardea"), `#!/bin/sh\nexec "${process.execPath}" --no-warnings "${mainFile}" "$@"\n`);
      chmodSync(join(bin, "cardea"), 0o755);
      const PATH = `${bin}:${process.env["PATH"]}`;
      for (const line of commands.trim().split("\n")) {
        if (line.startsWith("systemctl stop ")) await stop();
        else if (line.startsWith("systemctl start ")) await start();
        else await run("sh", ["-e", "-c", line], { cwd: folder.path, env: { ...process.env, PATH, ...env } });
      }
    },
    folder: folder.path,
  };
}
