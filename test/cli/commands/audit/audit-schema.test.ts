/** `cardea audit schema`: a script for the database that the configuration names. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { auditSchema } from "../../../../src/cli/commands/audit/audit-schema.ts";
import { UsageError } from "../../../../src/cli/terminal/command.ts";
import { base, goodRoute } from "../../../config/support.ts";
import { TemporaryFolder } from "../../../support/child.ts";

async function run(sinks: string, ...args: readonly string[]): Promise<string> {
  const folder = new TemporaryFolder("audit-schema");
  try {
    const path = join(folder.path, "c.yaml");
    writeFileSync(path, `${base}audit: {sinks: ${sinks}}\nbroker: {cluster_name: other}\n${goodRoute}`);
    let printed = "";
    const terminal = {
      out(text: string) {
        printed += text;
      },
      err: () => undefined,
      interactive: false,
      env: {},
    };
    await auditSchema.run(["-c", path, ...args], terminal);
    return printed;
  } finally {
    folder.remove();
  }
}

test("it has the schema, cluster, retention and roles, quoted, and not the password", async () => {
  const sinks = "[{postgres: true, url: 'postgres://a:hidden@db/audit', schema: mine, retention_days: 9}]";
  const script = await run(sinks, "--writer", 'w"x', "--reader", "r");
  assert.match(script, /^begin;/);
  assert.match(script, /insert into "mine"\.settings \(cluster, retention_days\) values \('other', 9\)/);
  assert.match(script, /grant insert on "mine"\.records to "w""x";/);
  assert.match(script, /grant select on .* to "r";/);
  assert.match(script, /commit;\n$/);
  assert.doesNotMatch(script, /hidden/);
});

test("without roles it grants nothing, and without such a sink it says so", async () => {
  assert.doesNotMatch(await run("[{postgres: true, url: 'postgres://db/audit'}]"), /grant/);
  await assert.rejects(run("[{file: a}]"), UsageError);
});
