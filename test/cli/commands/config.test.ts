/** A real process stores its configuration without secrets, and the command line shows it. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { configTextOf } from "../../../src/events/index.ts";
import { openSqliteLog } from "../../../src/replication/log/index.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

/** The request of a visitor, decided again by the server with another policy of its route. */
async function replayOfServer({
  folder,
  file,
  port,
}: Readonly<{ folder: TemporaryFolder; file: string; port: number }>): Promise<void> {
  const host = `first.localhost:${port}`;
  const visit = async (): Promise<number> =>
    new Promise((resolve, reject) => {
      request({ host: "127.0.0.1", port, headers: { host }, path: "/a|b`c`" }, (answer) => {
        answer.resume().once("end", () => resolve(answer.statusCode ?? 0));
      })
        .once("error", reject)
        .end();
    });
  const policy = join(folder.path, "policy.yaml");
  writeFileSync(policy, "deny:\n  or:\n    - http_method: { is: GET }\n"); // beside the shorthand that lets everyone in
  const replay = (...args: string[]) => run(["policy", "replay", "-c", file, "--route", "first.localhost", ...args]);
  const differs = await waitFor("the record", async () => {
    await visit();
    const output = await replay("--policy", policy, "--json");
    assert.ok(output.code === 0 || output.code === 1, output.err);
    return output.code === 1 ? output : undefined;
  });
  const { digest, differences } = JSON.parse(differs.out) as { digest: string; differences: { change: string }[] };
  assert.match(digest, /^[0-9a-f]{64}$/);
  assert.deepEqual(
    differences.map(({ change }) => change),
    ["loses"],
  );
  const markdown = await replay("--policy", policy, "--markdown", "--since", "2026-01-01T00:00:00Z", "--facts", "now");
  assert.equal(markdown.code, 1, markdown.err);
  assert.match(markdown.out, /^### What-if: the edited policy of route `first\.localhost`\n/);
  assert.match(
    markdown.out,
    /\| loses \| `first\.localhost` \| not signed in \| \d+ \| `GET first\.localhost\/a%7Cb%60c%60` /,
  );
  const text = await replay("--policy", policy);
  assert.match(text.out, /\n {2}loses {2}not signed in {2}\d+ ×, first GET .*\ndigest [0-9a-f]{64}\n$/s);
  writeFileSync(policy, "allow: [");
  const broken = await replay("--policy", policy);
  assert.deepEqual([broken.code, /the policy is not valid \(line 1/.test(broken.err)], [2, true], broken.err);
  for (const args of [
    ["--people", policy, "--policy", policy],
    ["--facts", "later", "--policy", policy],
    ["--markdown"],
  ])
    assert.equal((await replay(...args)).code, 2, args.join(" "));
}

const patience = { withinMs: 60_000 };
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

test("the configuration of a node is listed and shown by its hash, a reload adds another one, and no stored byte contains a secret", async (t) => {
  using folder = new TemporaryFolder("config");
  const [port = 0, metrics = 0] = await freePorts(2);
  const file = join(folder.path, "cardea.yaml");
  const planted = ["planted-client-secret", "planted-header", "planted-query", "planted-check", secret(3), secret(5)];
  const write = (routes: readonly object[]): void =>
    writeFileSync(
      file,
      JSON.stringify({
        authenticate_service_url: `http://authenticate.localhost:${port}`,
        address: `127.0.0.1:${port}`,
        insecure_server: true,
        metrics_address: `127.0.0.1:${metrics}`,
        ...{ node_name: "node-1", data_dir: join(folder.path, "data") },
        ...{ shared_secret: secret(3), cookie_secret: secret(5) },
        ...{ idp_provider: "oidc", idp_provider_url: "http://idp.localhost:1", idp_client_id: "cardea" },
        idp_client_secret: "planted-client-secret",
        signout_redirect_url: "https://www.example.com/bye?key=planted-query",
        ...{ drain_delay: "0s", drain_timeout: "1s" },
        routes,
      }),
      { mode: 0o600 },
    );
  const route = (name: string): object => ({
    from: `http://${name}.localhost:${port}`,
    to: "http://127.0.0.1:1",
    allow_public_unauthenticated_access: true,
    set_request_headers: { "X-Api-Key": "planted-header" },
  });
  write([route("first")]);
  const child = await Child.start({
    command: process.execPath,
    args: ["--no-warnings", mainFile, "run", "-c", file],
    logFile: join(folder.path, "log"),
  });
  t.after(() => child.end("SIGTERM"));

  type Listed = Readonly<{ configHash: string; recordedAt: number | null; nodes: readonly string[] }>;
  const listed = async (count: number): Promise<readonly Listed[] | undefined> => {
    const output = await run(["config", "list", "-c", file, "--json"]);
    if (output.code !== 0) return undefined; // the process is starting, or has not stored its configuration yet
    const all = JSON.parse(output.out) as readonly Listed[];
    return all.length >= count ? all : undefined;
  };
  const [first] = await waitFor("the stored configuration", () => listed(1), patience);
  assert.deepEqual(first?.nodes, ["node-1"]);
  const shown = await run(["config", "show", first?.configHash.slice(0, 12) ?? "", "-c", file]);
  assert.equal(shown.code, 0, shown.err);
  assert.match(shown.out, /^{\n {2}"accessLogFields"/);
  assert.match(shown.out, /"from": "http:\/\/first\.localhost:\d+\/"/);
  assert.match(shown.out, /"X-Api-Key": "hmac-sha256:[\w-]{43}"/);

  write([route("first"), route("second")]);
  // The node stores the second body first and only then renews its lease with the hash.
  const runsSecond = async (): Promise<readonly Listed[] | undefined> => {
    const all = await listed(2);
    return all?.[1]?.nodes.length === 1 ? all : undefined;
  };
  const both = await waitFor("the node to run the second configuration", runsSecond, patience);
  assert.deepEqual(
    both.map(({ nodes }) => nodes.length),
    [0, 1],
    "the first configuration is still stored and runs on no node",
  );
  const table = await run(["config", "list", "-c", file]);
  assert.match(table.out, new RegExp(`^CONFIG +STORED +BYTES +NODES\n${first?.configHash.slice(0, 12)} `));
  assert.equal((await run(["config", "show", "0".repeat(64), "-c", file])).code, 3);
  assert.equal((await run(["config", "show", "not-a-hash", "-c", file])).code, 2);

  const [a = "", b = ""] = both.map(({ configHash }) => configHash.slice(0, 12));
  const history = await run(["config", "history", "-c", file]);
  assert.equal(history.code, 0, history.err);
  assert.match(history.out, new RegExp(`^NODE +CONFIG +SINCE\nnode-1 +${b} +2`));
  assert.match(history.out, new RegExp(`${a} +2\\S+Z +2\\S+Z\n${b} +2\\S+Z +now`));
  const diff = await run(["config", "diff", a, b, "-c", file]);
  assert.deepEqual([diff.code, diff.err], [1, ""]);
  assert.match(diff.out, /^routes\[\w+\]\n {2}\+ .*second\.localhost/m);
  assert.equal((await run(["config", "diff", a, a, "-c", file])).out, "the configurations are equal\n");
  await replayOfServer({ folder, file, port });

  await child.end("SIGTERM");
  const path = join(folder.path, "data", "cardea.db");
  const log = await openSqliteLog({ path, cluster: "cardea" });
  const texts: string[] = [];
  for (const { configHash } of both) {
    const stored = await log.configuration(configHash as never);
    texts.push(stored === undefined ? "" : configTextOf(stored.body));
  }
  await log.close();
  assert.ok(texts.every((text) => text.includes('"X-Api-Key"')));
  const bytes = readdirSync(join(folder.path, "data"))
    .filter((name) => name.startsWith("cardea.db"))
    .map((name) => readFileSync(join(folder.path, "data", name)));
  assert.ok(bytes.length > 0);
  for (const each of planted)
    for (const text of [...bytes, ...texts.map((body) => Buffer.from(body))]) assert.equal(text.includes(each), false);
});
