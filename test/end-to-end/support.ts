/** Test support for the end-to-end tests: a separate `cardea dev`, its command line, and a browser. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type Browser, chromium } from "playwright-core";
import { assertAuditFile } from "../support/audit-schema.ts";
import { Child } from "../support/child.ts";
import { findChromium } from "../support/chromium.ts";
import { freeBasePort } from "../support/free-port.ts";
import { mainFile } from "../support/program.ts";
import { waitFor } from "../support/wait-for.ts";

const startMsMax = 30_000;
/** The longest time (ms) that a page may take, on a busy machine. */
export const pageMsMax = 120_000;

export type Dev = Readonly<{
  port: number;
  dataDir: string;
  url(host: string, path?: string): string;
  /** Runs another `cardea …` command against it. */
  cardea(...args: string[]): Promise<Readonly<{ code: number | null; out: string; err: string }>>;
  restart(): Promise<void>;
  log(): string;
}>;

/** The ports of `cardea dev`, as offsets from the main one. */
const devPorts = [0, 11, 12, 13];

export async function startDev(t: Pick<TestContext, "after">, ...extra: string[]): Promise<Dev> {
  const folder = mkdtempSync(join(tmpdir(), "cardea-dev-"));
  const dataDir = join(folder, "data");
  const logFile = join(folder, "dev.log");
  const port = await freeBasePort(devPorts);
  const start = (): Promise<Child> =>
    Child.start({
      command: process.execPath,
      args: [mainFile, "dev", "--port", String(port), "--data-dir", dataDir, ...extra],
      logFile,
    });
  const ready = (): Promise<boolean> =>
    waitFor(
      "cardea dev to be ready",
      async () => (await fetch(`http://127.0.0.1:${port + 13}/readyz`).catch(() => undefined))?.ok === true,
      {
        withinMs: startMsMax,
      },
    );
  let child = await start();
  t.after(async () => {
    await child.end("SIGTERM");
    const auditFile = join(dataDir, "audit/decisions.jsonl");
    if (existsSync(auditFile)) assertAuditFile(auditFile); // it begins with the first decision
    rmSync(folder, { recursive: true, force: true });
  });
  await ready();
  return {
    port,
    dataDir,
    url: (host, path = "/") => `http://${host}.localhost:${port}${path}`,
    cardea: (...args) => runCardea([...args, "--data-dir", dataDir]),
    async restart() {
      await child.end("SIGTERM");
      child = await start();
      await ready();
    },
    log: () => readFileSync(logFile, "utf8"),
  };
}

function runCardea(args: readonly string[]): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [mainFile, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, out, err }));
  });
}

export const executablePath = findChromium();

export async function startBrowser(): Promise<Browser> {
  const args =
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";
  assert.ok(executablePath !== undefined, "no Chromium on this machine");
  const browser = await chromium.launch({ executablePath, args: args.split(" "), timeout: pageMsMax });
  const plain = browser.newContext.bind(browser);
  browser.newContext = async (options) => {
    const context = await plain(options);
    context.setDefaultTimeout(pageMsMax);
    return context;
  };
  return browser;
}
