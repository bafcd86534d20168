/**
 * `cardea audit witness` as a process, beside a running server and an outside witness over HTTP: it co-signs what
 * continues what it has signed, and `cardea audit verify --witness` checks the saved file.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { type CommandOutput, run } from "../cli/support.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { mainFile } from "../support/program.ts";
import { waitFor } from "../support/wait-for.ts";
import { startWitness } from "../support/witness.ts";

const patience = { withinMs: 30_000 };
const secret = (byte: number): string =>
  Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");

function cardea(...args: readonly string[]): Promise<CommandOutput> {
  return new Promise((resolve) => {
    execFile(process.execPath, ["--no-warnings", mainFile, ...args], { timeout: 60_000 }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

test("a witness co-signs the seals of a running server; down, ahead or behind, it loses nothing that is saved", async (t) => {
  using folder = new TemporaryFolder("audit-witness");
  const upstream = createServer((_request, response) => void response.end("hello"));
  await new Promise<void>((done) => upstream.listen(0, "127.0.0.1", done));
  t.after(() => {
    upstream.closeAllConnections();
    upstream.close();
  });
  const [port = 0, broker = 0, metrics = 0] = await freePorts(3);
  const path = (name: string): string => join(folder.path, name);
  const file = path("cardea.yaml");
  const config = {
    ...{ services: "all", address: `127.0.0.1:${port}`, insecure_server: true, node_name: "node-1" },
    authenticate_service_url: `http://authenticate.localhost:${port}`,
    ...{ idp_provider: "oidc", idp_provider_url: "http://idp.localhost:1", idp_client_id: "cardea" },
    ...{ idp_client_secret: "a secret", broker: { listen: `127.0.0.1:${broker}` } },
    ...{ metrics_address: `127.0.0.1:${metrics}`, databroker_storage_type: "file", data_dir: path("data") },
    ...{ shared_secret: secret(3), cookie_secret: secret(5) },
    audit: { seal_interval: "1s", sinks: [{ file: path("decisions.jsonl") }] },
    routes: [
      {
        ...{ from: `http://app.localhost:${port}`, to: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}` },
        allow_public_unauthenticated_access: true,
      },
    ],
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  const args = ["--no-warnings", mainFile, "run", "-c", file];
  const server = await Child.start({ command: process.execPath, args, logFile: path("log") });
  t.after(() => server.end("SIGTERM"));
  const measured = async (of: string): Promise<string> => {
    assert.ok(server.running, server.log());
    const answer = await fetch(`http://127.0.0.1:${metrics}${of}`);
    return answer.ok ? await answer.text() : "";
  };
  await waitFor("the process to be ready", async () => (await measured("/readyz")) !== "", patience);
  const sealed = async (): Promise<number> =>
    Number(/^cardea_audit_sealed\S* (\d+)$/m.exec(await measured("/metrics"))?.[1] ?? 0);
  /** Decides something, and waits for its seal. @returns the seals of the log */
  const moreSeals = async (): Promise<number> => {
    const before = await sealed();
    await new Promise<void>((resolve, reject) => {
      get({ port, host: "127.0.0.1", path: "/", headers: { host: `app.localhost:${port}` } }, (response) => {
        response.resume().on("end", resolve);
      }).on("error", reject);
    });
    await waitFor("a seal", async () => (await sealed()) > before, patience);
    return sealed();
  };

  const ours = await cardea("audit", "witness", "-c", file, "--print-key");
  assert.equal(ours.code, 0, ours.err);
  const witness = await startWitness(t, ours.out.trim());
  const saved = path("witness.note");
  const key = ["--witness-key", witness.key];
  const url = ["--witness-url", new URL("/", witness.url).href];
  const cosign = ["audit", "witness", "-c", file, "--from-server", ...url, ...key, "--output", saved];
  const verify = ["audit", "verify", path("decisions.jsonl"), "-c", file, "--from-server", "--witness", saved, ...key];

  const first = await moreSeals();
  witness.state.mode = "broken";
  const down = await cardea(...cosign);
  assert.deepEqual([down.code, existsSync(saved)], [3, false], down.out + down.err);
  assert.match(down.err, /^cardea audit witness: the witness http:\/\/127\.0\.0\.1:\d+ does not answer\n$/);
  witness.state.mode = "good";
  const signed = await cardea(...cosign);
  assert.equal(signed.code, 0, signed.err);
  assert.equal(signed.out, `witness.example/w1 has co-signed ${first} seals\n`);
  const checked = await cardea(...verify);
  assert.equal(checked.code, 0, checked.out + checked.err);
  assert.match(
    checked.out,
    new RegExp(`^witness.example/w1 has co-signed the first ${first} of ${first} seals, at `, "m"),
  );

  // The first request names size 0, and gets 409 with the size; the next proves that the larger tree continues it.
  const second = await moreSeals();
  assert.deepEqual((await run(cosign)).out, `witness.example/w1 has co-signed ${second} seals\n`);
  assert.ok(witness.answers.includes(409), "the witness was asked with a stale size first");
  const note = readFileSync(saved, "utf8");
  witness.state.mode = "broken";
  const later = await run(cosign);
  assert.deepEqual([later.code, readFileSync(saved, "utf8")], [3, note], "what is saved stays");
  const third = await moreSeals();
  assert.match((await run(verify)).out, new RegExp(`has co-signed the first ${second} of ${third} seals`));

  // An export that leaves seals out is not what the witness has co-signed, and is not co-signed either.
  const exported = await run(["audit", "seals", "-c", file, "--from-server"]);
  const lines = exported.out.trim().split("\n");
  assert.equal(lines.length, third);
  writeFileSync(path("fewer.jsonl"), `${lines.slice(0, first).join("\n")}\n`);
  const fewer = [
    "audit",
    "verify",
    path("decisions.jsonl"),
    "--seals",
    path("fewer.jsonl"),
    "--witness",
    saved,
    ...key,
  ];
  const refused = await run(fewer);
  assert.equal(refused.code, 1);
  assert.match(
    refused.out,
    new RegExp(`^WITNESS: .* has co-signed ${second} seals of .*, and there are ${first}$`, "m"),
  );
  witness.state.mode = "good";
  const lost = await run([...cosign.filter((arg) => arg !== "--from-server"), "--seals", path("fewer.jsonl")]);
  assert.equal(lost.code, 3);
  assert.match(
    lost.err,
    new RegExp(`has signed a tree of ${second} seals, and there are ${first}: the log has lost seals`),
  );
  assert.equal(readFileSync(saved, "utf8"), note);
});
