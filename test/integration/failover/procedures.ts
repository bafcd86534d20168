/**
 * An installation with its own store and a real identity provider that runs the commands of docs/backup.md as written.
 *
 * It is one process, or a broker and a separate process for sign-in and proxying.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { delimiter, join } from "node:path";
import type { TestContext } from "node:test";
import { promisify } from "node:util";
import { run as runCardea } from "../../cli/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { type Member, startMember } from "../../support/member.ts";
import { startProvider } from "../../support/oidc-provider.ts";
import { mainFile } from "../../support/program.ts";
import { Visitor } from "../../support/visitor.ts";
import { waitFor } from "../../support/wait-for.ts";

const run = promisify(execFile);
const root = new URL("../../../", import.meta.url).pathname;
export const patience = { withinMs: 60_000 };
export const newSecret = (): string => randomBytes(32).toString("base64");

/** The first `count` blocks of commands after a sentence of docs/backup.md. */
export function commandsAfter(after: string, count: number): string[] {
  const page = readFileSync(join(root, "docs/backup.md"), "utf8");
  const at = page.indexOf(after);
  assert.ok(at !== -1, `docs/backup.md has no "${after}"`);
  const blocks = [...page.slice(at).matchAll(/```sh\n([^`]*)```/g)].slice(0, count).map(([, text]) => text ?? "");
  assert.equal(blocks.length, count);
  return blocks;
}

export class CommandFailedError extends Error {
  readonly code: number;
  constructor(args: readonly string[], { code, err }: Readonly<{ code: number; err: string }>) {
    super(`cardea ${args.join(" ")} ended with ${code}: ${err}`);
    this.name = "CommandFailedError";
    this.code = code;
  }
}

/** Runs a `cardea` command in this process, which is faster than a new one. @returns its output */
async function runOrFail(args: readonly string[]): Promise<string> {
  const { code, out, err } = await runCardea(args);
  if (code !== 0) throw new CommandFailedError(args, { code, err });
  return out;
}

export type Installation = Awaited<ReturnType<typeof startInstallation>>;
type Settings = Readonly<Record<string, unknown>>;

/** @param store settings of the process with the log; `split` runs that broker as a separate process */
export async function startInstallation(
  t: TestContext,
  store: Settings,
  { split = false }: Readonly<{ split?: boolean }> = {},
) {
  const folder = new TemporaryFolder("procedures");
  const ports = await freePorts(4);
  const [port = 0, metrics = 0, brokerPort = 0, brokerMetrics = 0] = ports;
  const url = (host: string): string => `http://${host}.localhost:${port}/`;
  const client = { id: "cardea", secret: newSecret() };
  const redirectUris = [`${url("authenticate")}oauth2/callback`];
  const provider = await startProvider(t, [{ ...client, redirectUris }]);
  const upstream = createServer((_req, res) => res.end("hello"));
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  const address = upstream.address();
  const dataDir = join(folder.path, "data");
  const config = join(folder.path, "cardea.yaml");
  const broker: Member = { name: "broker", port: brokerPort, metrics: brokerMetrics, config, child: undefined };
  const front: Member = { name: "front", port, metrics, config: join(folder.path, "front.yaml"), child: undefined };
  const all: Member = { name: "all", port, metrics, config, child: undefined };
  /** Processes by the name of the unit that an operator starts and stops, in start order. */
  const units = new Map<string, Member>(
    split
      ? [
          ["cardea-broker", broker],
          ["cardea", front],
        ]
      : [["cardea", all]],
  );
  const commandMember = split ? front : all;
  const visitors: Visitor[] = [];
  const secrets = { shared_secret: newSecret(), cookie_secret: newSecret() };

  const configure = (more: Settings = {}): void => {
    const to = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
    const common = {
      ...{ authenticate_service_url: url("authenticate"), insecure_server: true, drain_delay: "0s" },
      ...{ idp_provider: "oidc", idp_provider_url: provider.issuer.href, idp_client_id: client.id },
      ...{ idp_client_secret: client.secret, idp_scopes: ["openid", "email", "profile", "offline_access"] },
      ...{ drain_timeout: "1s", log_level: "info", ...secrets },
      routes: [{ from: url("app").slice(0, -1), to, allow_any_authenticated_user: true }],
    };
    const settingsOf = ({ name, port, metrics }: Member) => ({
      ...{ address: `127.0.0.1:${port}`, metrics_address: `127.0.0.1:${metrics}`, node_name: name },
      data_dir: name === "all" ? dataDir : join(dataDir, name),
    });
    const urls = [`http://127.0.0.1:${brokerPort}`];
    const parts = new Map<Member, Settings>([
      [all, store],
      [
        broker,
        { ...store, services: ["databroker"], address: undefined, broker: { listen: `127.0.0.1:${brokerPort}`, urls } },
      ],
      [front, { services: ["authenticate", "proxy"], broker: { urls } }],
    ]);
    for (const member of units.values()) {
      const text = JSON.stringify({ ...common, ...settingsOf(member), ...parts.get(member), ...more });
      writeFileSync(member.config, text, { mode: 0o600 });
    }
  };
  const startUnit = async (unit: string): Promise<void> => {
    const member = units.get(unit);
    assert.ok(member !== undefined, `no unit ${unit}`);
    await startMember(member, join(folder.path, `${member.name}.log`));
  };
  const stopUnit = async (unit: string): Promise<void> => {
    const member = units.get(unit);
    assert.ok(member !== undefined, `no unit ${unit}`);
    await member.child?.end("SIGTERM", { withinMs: 30_000 });
    member.child = undefined;
  };
  const start = async (): Promise<void> => {
    for (const unit of units.keys()) await startUnit(unit);
  };
  const stop = async (): Promise<void> => {
    for (const unit of [...units.keys()].reverse()) await stopUnit(unit);
  };
  const cardeaOn = (file: string, args: readonly string[]): Promise<string> => runOrFail([...args, "-c", file]);
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
    ...{ secrets, configure, start, stop, dataDir, config },
    cardea: (...args: readonly string[]): Promise<string> => cardeaOn(commandMember.config, args),
    /** Runs a command that needs no server. @throws CommandFailedError */
    check: (...args: readonly string[]): Promise<string> => runOrFail(args),
    log: (): string => [...units.values()].map(({ child }) => child?.log() ?? "").join("\n"),
    async restart() {
      await stop();
      await start();
    },
    async signIn(name: string) {
      const visitor = new Visitor();
      visitors.push(visitor);
      provider.person.name = name;
      const { status, body } = await visitor.navigate(url("app"));
      assert.equal(status, 200, `${name} signs in: ${body.slice(-500)}`);
      const statusOfApp = async (): Promise<number> => (await visitor.request(url("app"))).status;
      return {
        name,
        isIn: async () => (await statusOfApp()) === 200,
        /** Whether the visitor is refused or sent to sign in; a 503 decides nothing. */
        async isOut() {
          const answer = await statusOfApp();
          return answer >= 300 && answer < 500;
        },
      };
    },
    /** The number of events in the log that reassert a lost denial. */
    async reasserted(): Promise<number> {
      // On a busy machine a connection to Postgres may time out.
      const stdout = await waitFor("the log to be read", () => cardeaOn(config, ["log", "export"]), patience);
      return stdout.split("\n").filter((line) => line.includes('"reasserted"')).length;
    },
    /**
     * Runs a block of commands of the page.
     * @param others actions of `systemctl start` and `stop` for units that are not the installation's
     */
    async perform(
      commands: string,
      env: Readonly<Record<string, string>>,
      others: Readonly<Record<string, () => Promise<void>>> = {},
    ): Promise<void> {
      const bin = join(folder.path, "bin");
      mkdirSync(bin, { recursive: true });
      writeFileSync(join(bin, "cardea"), `#!/bin/sh\nexec "${process.execPath}" --no-warnings "${mainFile}" "$@"\n`);
      chmodSync(join(bin, "cardea"), 0o755);
      const PATH = [bin, ...(env["PATH"] === undefined ? [] : [env["PATH"]]), process.env["PATH"]].join(delimiter);
      for (const line of commands.trim().split("\n")) {
        const [, action, unit = ""] = /^systemctl (stop|start) (\S+)$/.exec(line) ?? [];
        const other = others[`${action} ${unit}`];
        if (other !== undefined) await other();
        else if (action === "stop") await stopUnit(unit);
        else if (action === "start") await startUnit(unit);
        else await run("sh", ["-e", "-c", line], { cwd: folder.path, env: { ...process.env, ...env, PATH } });
      }
    },
    folder: folder.path,
  };
}

/** Asserts who stays signed in and who stays denied after a backup and a restore. */
export async function assertBackupRestores(
  server: Installation,
  { back, restore }: Readonly<{ back: () => Promise<void>; restore: () => Promise<void> }>,
  round: number,
): Promise<void> {
  const before = await server.signIn("alice");
  const unaffected = await server.signIn("erin");
  const suspended = await server.signIn(`carol-${round}`);
  await back();
  assert.ok(await before.isIn(), "the backup ended a session");
  const between = await server.signIn("bob");
  await server.cardea("sessions", "revoke", "--user", "alice");
  await server.cardea("users", "suspend", suspended.name);
  await waitFor("both to be denied", async () => (await before.isOut()) && (await suspended.isOut()), patience);

  await restore();
  // A node that rebuilds answers 503; until then it serves what it knows.
  for (const revoked of [before, suspended])
    assert.ok(!(await revoked.isIn()), `${revoked.name}'s session ended after the backup`);
  await waitFor("a session created after the backup to end", () => between.isOut(), patience);
  await waitFor("a session from before the backup to be permitted", () => unaffected.isIn(), patience);
  for (const revoked of [before, suspended])
    assert.ok(await revoked.isOut(), `${revoked.name}'s session ended after the backup`);
  const after = [await server.signIn("alice"), await server.signIn("bob")];
  const isSuspended = async (): Promise<boolean> => {
    const users = JSON.parse(await server.cardea("users", "list", "--json")) as unknown;
    return JSON.stringify(users).includes('"suspended"');
  };
  await waitFor("the log to hold the suspension again", isSuspended, patience);
  await server.cardea("users", "restore", suspended.name);
  after.push(await server.signIn(suspended.name));

  let reasserted: number | undefined;
  // The second restart starts from the data of the first; one round shows that.
  for (const restart of round === 1 ? [1, 2] : [1]) {
    await server.stop();
    const now = await server.reasserted();
    assert.ok(now > 0);
    assert.equal(now, reasserted ?? now, "a restart recorded a denial again");
    reasserted = now;
    await server.start();
    for (const person of [...after, unaffected])
      assert.ok(await person.isIn(), `${person.name} stays signed in over restart ${restart}`);
    for (const person of [before, suspended, between]) assert.ok(await person.isOut(), `${person.name} stays out`);
  }
}
