/**
 * docs/regions-setup.md, read: its commands are valid shell, and every broker and proxy accepts its configuration.
 * `npm run test:regions-setup` does everything that the page says, on nine machines.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { formatProblem, parseConfig } from "../../src/config/index.ts";
import { certificate, cookieSecret, sharedSecret } from "../config/support.ts";
import { type Step, stepsOf } from "../support/page-steps.ts";
import { machineNames, regions } from "./regions/setup-page.ts";

const page = readFileSync(new URL("../../docs/regions-setup.md", import.meta.url), "utf8");
const steps = stepsOf(page, machineNames);
const commands = steps.filter((step) => step.type === "run");
const files = steps.filter((step) => step.type === "file");

/** What section 3 gives the services, by the name of its file. */
const pair = certificate([...machineNames, "app.example.com", "admin.example.com", "authenticate.example.com"]);
const given: Readonly<Record<string, string>> = {
  "ca.crt": pair.cert,
  "machine.crt": pair.cert,
  "machine.key": pair.key,
  "site.crt": pair.cert,
  "site.key": pair.key,
  shared_secret: sharedSecret,
  cookie_secret: cookieSecret,
  idp_client_secret: "from-the-provider",
  nats_password: "from-section-3",
  database_url: "postgres://cardea:from-section-3@eu-1:5432,us-1:5432,ap-1:5432/cardea?sslmode=verify-full",
};

/** The file as the page makes it on a machine: some files have words that a later command replaces. */
function written(step: Extract<Step, { type: "file" }>, machine: string): string {
  const [region = ""] = machine.split("-");
  return step.text(machine).replace("HOSTNAME", machine).replaceAll("REGION", region);
}

test("every block for a machine is a step, and every output follows the commands that print it", () => {
  const blocks = [...page.matchAll(/^```(\w*)\n[\s\S]*?^```$/gm)].map(([, language = ""]) => language);
  const isCommand = (language: string): boolean => language === "sh";
  const isOutput = (language: string): boolean => language === "text";
  assert.equal(commands.length, blocks.filter(isCommand).length);
  assert.equal(steps.length - commands.length - files.length, blocks.filter(isOutput).length);
  assert.equal(steps.length, blocks.length);
  for (const [i, step] of steps.entries())
    if (step.type === "prints") assert.equal(steps[i - 1]?.type, "run", `docs/regions-setup.md:${step.line}`);
  for (const { line, machines } of [...commands, ...files]) {
    assert.ok(machines.length > 0, `docs/regions-setup.md:${line}`);
    for (const machine of machines)
      assert.ok(machineNames.includes(machine), `docs/regions-setup.md:${line} ${machine}`);
  }
});

test("an exit code that the page names belongs to its step", () => {
  const [, first, , second] = stepsOf(
    [
      ...["On **eu-1**:", "```sh\ntrue\n```", "It exits with 1 too, and it prints within a minute:", "```text\nx\n```"],
      ...["On **eu-1**:", "```sh\ntrue\n```", "It prints:", "```text\nx\n```", ""],
    ].join("\n\n"),
    machineNames,
  );
  assert.ok(first?.type === "prints" && second?.type === "prints");
  assert.deepEqual([first.when, first.code, second.when, second.code], ["soon", 1, "at-once", null]);
});

test("the commands are valid shell", () => {
  for (const step of commands) {
    const [machine = ""] = step.machines;
    const { status, stderr } = spawnSync("bash", ["-n"], { input: step.text(machine), encoding: "utf8" });
    assert.equal(status, 0, `docs/regions-setup.md:${step.line}: ${stderr}`);
  }
});

for (const kind of ["broker", "proxy"] as const)
  test(`the configuration of each ${kind} is valid, belongs to its region, and names only files of section 3`, () => {
    const step = files.find(({ path }) => path === `/etc/cardea/${kind}.yaml`) ?? assert.fail(kind);
    assert.equal(step.machines.length, 2 * regions.length);
    for (const machine of step.machines) {
      const parsed = parseConfig(written(step, machine), `${kind}.yaml`, {
        env: {},
        readFile(path) {
          const text = given[path.replace("/etc/cardea/", "")];
          return text === undefined
            ? { ok: false, reason: "section 3 does not install it" }
            : { ok: true, text, mode: 0o400 };
        },
      });
      assert.ok(parsed.ok, parsed.ok ? "" : `${machine}: ${parsed.problems.map(formatProblem).join("\n")}`);
      const { config } = parsed;
      assert.equal(config.region, machine.split("-")[0]);
      for (const { hostname } of config.broker.urls)
        assert.ok(hostname.startsWith(config.region), `${machine} ${hostname}`);
      if (kind === "broker") assert.equal(config.broker.advertisedUrl?.hostname, machine);
    }
  });

test("section 3 installs every file that a configuration names", () => {
  const installs = commands.filter(({ heading }) => heading.startsWith("3. ")).map((step) => step.text("eu-1"));
  for (const name of Object.keys(given))
    assert.ok(
      installs.some(
        (text) => text.includes(`/etc/cardea/${name}`) || new RegExp(`for secret in .*\\b${name}\\b`).test(text),
      ),
      name,
    );
});
