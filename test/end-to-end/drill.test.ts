/** A drill as docs/drills.md has it: the canary signs in with `cardea login`, and the report opens in a browser. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { TemporaryFolder } from "../support/child.ts";
import { mainFile } from "../support/program.ts";
import { executablePath, startBrowser, startDev } from "./support.ts";

/** A browser that signs in as bob. */
function writeSignIn(folder: string): string {
  const command = join(folder, "browser.mjs");
  const lines = [
    `#!${process.execPath}`,
    `import { Visitor } from ${JSON.stringify(new URL("../support/visitor.ts", import.meta.url).pathname)};`,
    "const visitor = new Visitor();",
    "const page = await visitor.navigate(process.argv[2]);",
    'await visitor.navigate(page.url, { form: { user: "bob", password: "x" } });',
    "visitor.close();",
  ];
  writeFileSync(command, `${lines.join("\n")}\n`, { mode: 0o700 });
  return command;
}

test("a canary that signed in with cardea login is enough for a drill, and its report opens in a browser", {
  skip: executablePath === undefined ? "no Chromium on this machine" : false,
  timeout: 300_000,
}, async (t) => {
  using folder = new TemporaryFolder("drill");
  const dev = await startDev(t);
  const env = { ...process.env, XDG_CACHE_HOME: join(folder.path, "cache") };
  async function cardea(...args: string[]): Promise<Readonly<{ code: number; out: string; err: string }>> {
    const child = spawn(process.execPath, [mainFile, ...args], { stdio: ["ignore", "pipe", "pipe"], env });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    const [code] = await once(child, "close");
    return { code: Number(code), out, err };
  }
  const login = await cardea("login", dev.url("eng", ""), "--browser-cmd", writeSignIn(folder.path));
  assert.equal(login.code, 0, login.err);
  const added = await dev.cardea("groups", "add", "eng", "bob", "--wait");
  assert.equal(added.code, 0, added.err);
  const status = await dev.cardea("cluster", "status", "--json");
  const [node] = (JSON.parse(status.out) as { nodes: readonly { node: string }[] }).nodes;
  const file = join(folder.path, "drill.yaml");
  const proxy = { address: `127.0.0.1:${dev.port}`, metrics: `http://127.0.0.1:${dev.port + 13}` };
  const canary = { url: dev.url("eng"), user: "bob", group: "eng", route: "eng" };
  writeFileSync(file, JSON.stringify({ canary, proxies: { [node?.node ?? ""]: proxy } }));
  const report = join(folder.path, "report.html");
  const run = [
    "drill",
    "run",
    "group-removal",
    "-f",
    file,
    "--data-dir",
    dev.dataDir,
    "--quiet",
    "1s",
    "--rounds",
    "2",
  ];
  const drill = await cardea(...run, "--report", report, "--json");
  const record = JSON.parse(drill.out) as { verdicts: readonly { promise: string; result: string; text: string }[] };
  for (const promise of [
    "No request of the canary is permitted after a complete receipt",
    "Everything that the drill changed is as before",
  ])
    assert.equal(record.verdicts.find((verdict) => verdict.promise === promise)?.result, "held", drill.err);
  const browser = await startBrowser();
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(pathToFileURL(report).href);
  assert.equal(await page.locator("h1").textContent(), "Drill group-removal");
  assert.ok((await page.locator("svg.plot").count()) >= 6);
});
