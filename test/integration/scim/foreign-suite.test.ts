/**
 * A SCIM compliance suite that others wrote, scim2-tester of the Python Package Index, against a running installation.
 *
 * The suite is installed into `.cache` once. Where that is not possible, the test is skipped and says why.
 * `SCIM_TESTER_PYTHON` names an interpreter that has the suite already.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Installation, startInstallation } from "../identity/installation.ts";
import { raiseLevel, scimClient } from "./scim-client.ts";

/** The versions whose results docs/scim.md states. */
const packages = ["scim2-tester==0.2.8", "scim2-client[httpx]==0.7.5", "scim2-models==0.6.12"];
const venv = fileURLToPath(new URL("../../../.cache/scim2-tester-0.2.8", import.meta.url));
const script = fileURLToPath(new URL("foreign-suite.py", import.meta.url));
const installMsMax = 180_000;
const suiteMsMax = 300_000;

type Result = Readonly<{ status: string; title: string; type: string | null; reason: string | null; data: string }>;
type Ran = Readonly<{ ok: boolean; out: string; err: string }>;

/**
 * What the suite refuses and the standard allows: an empty list equals an unassigned attribute (RFC 7643 §2.5), and the
 * documentation of Entra ID and of Okta shows `"members": []`.
 */
const deviations = ["check_remove_attribute Group: Attribute 'members' was not removed"];

test("scim2-tester finds nothing that the standard requires and this server lacks", async (t) => {
  const python = await findSuite();
  if (typeof python !== "string") return t.skip(python.missing);
  const at = await startInstallation(t, ({ url, upstream }) => ({
    scim_clients: { subject: { match: "subject" }, email: { match: "email" } },
    routes: [{ from: url("app", ""), to: upstream, allow_any_authenticated_user: true }],
  }));
  await raiseLevel(at);
  for (const client of ["subject", "email"]) await runSuite(t, at, { python, client });
});

async function runSuite(
  t: TestContext,
  at: Installation,
  { python, client }: Readonly<{ python: string; client: string }>,
): Promise<void> {
  const { token } = await scimClient(at, client);
  const args = [script, `http://127.0.0.1:${at.port}/scim/v2`, new URL(at.url("authenticate")).host];
  const ran = await run(python, args, { input: token, timeoutMs: suiteMsMax });
  assert.ok(ran.ok, ran.err);
  const results = ran.out
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Result);
  const failed = results.filter(({ status }) => status !== "SUCCESS");
  assert.deepEqual(
    failed.map(({ title, type, reason }) => `${title} ${type}: ${reason}`),
    deviations,
    failed.map(({ title, data }) => `${title}: ${data}`).join("\n"),
  );
  const passed = results.length - failed.length;
  assert.ok(passed >= 100, `the suite made ${passed} checks only`);
  t.diagnostic(`client ${client}: ${passed} of ${results.length} checks pass`);
}

/** An interpreter with the suite, or why there is none. */
async function findSuite(): Promise<string | Readonly<{ missing: string }>> {
  const named = process.env["SCIM_TESTER_PYTHON"];
  if (named !== undefined && named !== "") return named;
  const python = join(venv, "bin", "python");
  const installed = join(venv, "installed");
  if (existsSync(installed)) return python;
  mkdirSync(join(venv, ".."), { recursive: true });
  const made = existsSync(python)
    ? { ok: true, err: "" }
    : await run("python3", ["-m", "venv", venv], { timeoutMs: installMsMax });
  if (!made.ok) return { missing: `needs python3 with venv: ${lastLine(made.err)}` };
  const pip = ["-m", "pip", "install", "--quiet", "--no-input", "--retries", "0", ...packages];
  const done = await run(python, pip, { timeoutMs: installMsMax });
  if (!done.ok) return { missing: `pip could not install ${packages.join(" ")}: ${lastLine(done.err)}` };
  writeFileSync(installed, `${packages.join("\n")}\n`);
  return python;
}

function run(
  command: string,
  args: readonly string[],
  { input = "", timeoutMs }: Readonly<{ input?: string; timeoutMs: number }>,
): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { timeout: timeoutMs, maxBuffer: 16 * 1024 * 1024 };
    const child = execFile(command, args, options, (error, out, err) =>
      resolve({ ok: error === null, out, err: err === "" ? (error?.message ?? "") : err }),
    );
    child.stdin?.on("error", () => {}); // the command does not exist; the callback reports it
    child.stdin?.end(input);
  });
}

const lastLine = (text: string): string => text.trim().split("\n").at(-1) ?? "";
