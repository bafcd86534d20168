/** `cardea demo`: the demo identity provider and app as a process of their own. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";

const program = join(import.meta.dirname, "..", "..", "..", "src", "main.ts");

function start(args: readonly string[]) {
  const child = spawn(process.execPath, [program, "demo", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  return { child, lines: createInterface({ input: child.stdout }), exited: once(child, "exit") };
}

test("demo runs the provider and the app until it receives SIGTERM", { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "cardea-demo-"));
  const secret = join(folder, "secret");
  writeFileSync(secret, "a-secret-of-a-demonstration\n");
  const { child, lines, exited } = start([
    ...["--client-secret-file", secret, "--provider-port", "0", "--app-port", "0", "--data-dir", folder],
    ...["--issuer", "http://idp.localhost:9080", "--app-urls", "http://one.localhost:9080,http://two.localhost:9080"],
  ]);
  try {
    const [line] = (await once(lines, "line")) as [string];
    const { provider, app } = JSON.parse(line) as { provider: string; app: string };
    for (const url of [provider, app]) assert.equal((await fetch(new URL("/health", url))).status, 200);
    const metadata = (await (await fetch(new URL("/.well-known/openid-configuration", provider))).json()) as object;
    assert.equal("issuer" in metadata && metadata.issuer, "http://idp.localhost:9080");
    const page = await (await fetch(app)).text();
    for (const link of ["http://one.localhost:9080/", "http://two.localhost:9080/"])
      assert.ok(page.includes(link), link);
    child.kill("SIGTERM");
    assert.deepEqual(await exited, [0, null]);
  } finally {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
});

const wrong: readonly (readonly [string, readonly string[], number, RegExp])[] = [
  ["no secret", [], 2, /--client-secret-file/],
  ["a missing secret file", ["--client-secret-file", "/nowhere/secret"], 3, /\/nowhere\/secret cannot be read/],
  ["an empty secret", ["--client-secret-file", "/dev/null"], 3, /must contain a secret/],
  ["an issuer with a path", ["--issuer", "http://idp.localhost/x"], 2, /--issuer/],
  ["an alias without a host", ["--client-secret-file", program, "--host-aliases", "a.localhost"], 2, /name=host/],
];
for (const [what, args, code, message] of wrong) {
  test(`${what} is refused with a one-line message`, { timeout: 120_000 }, async () => {
    const { child, exited } = start(args);
    let err = "";
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    assert.deepEqual(await exited, [code, null]);
    assert.match(err, message);
    assert.equal(err.trim().split("\n").length, 1, err);
  });
}
