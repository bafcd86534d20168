/** Audit records of a real process: pulled over its restart, and with the addresses of those who acted. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AuditRecord } from "../../src/audit/index.ts";
import { Visitor } from "../support/visitor.ts";
import { waitFor } from "../support/wait-for.ts";
import { startDev } from "./support.ts";

test("a reader goes on after a restart of the process, and acts have the address of their caller", async (t) => {
  const dev = await startDev(t);
  const visitor = new Visitor();
  t.after(() => visitor.close());
  const api = dev.url("authenticate", "/.pomerium/admin/api/v1/users");
  assert.equal((await visitor.request(api, { headers: { authorization: "Bearer rubbish" } })).status, 401);
  const finalized = await dev.cardea("cluster", "finalize");
  assert.ok(finalized.out.includes("finalized"), finalized.out + finalized.err);
  await visitor.request(dev.url("app", "/before"));
  const tail = async (...args: readonly string[]) => {
    const { out, err } = await dev.cardea("audit", "tail", "--json", "--no-follow", ...args);
    const records = out
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as AuditRecord);
    const [, cursor = ""] = /--after (\S+)/.exec(err) ?? [];
    return { records, cursor, err };
  };
  let first = await tail("--last", "1000");
  await waitFor("the records", async () => {
    first = await tail("--last", "1000");
    return first.records.some((one) => one.kind === "decision") && first.records.some((one) => one.kind === "operator");
  });
  type Act = Extract<AuditRecord, { kind: "operator" | "authentication" }>;
  const acts = first.records.filter((one): one is Act => one.kind === "operator");
  const refused = acts.find(({ outcome }) => outcome === "refused");
  assert.deepEqual([refused?.command, refused?.code, refused?.actor], ["GET /users", "401", "anonymous"]);
  const posted = acts.find(({ command }) => command === "finalizeLevel" || command.startsWith("finalize"));
  assert.match(posted?.ip ?? "none", /^(127\.0\.0\.1|::1|::ffff:127\.0\.0\.1)$/, "also after a body was read");
  await dev.restart();
  await visitor.request(dev.url("app", "/after"));
  const paths: string[] = [];
  let { cursor } = first;
  await waitFor("the record after the restart", async () => {
    const next = await tail("--after", cursor);
    assert.ok(!next.err.includes("MISSED"), next.err);
    ({ cursor } = next);
    paths.push(...next.records.flatMap((one) => (one.kind === "decision" ? [one.path] : [])));
    return paths.includes("/after");
  });
  assert.ok(!paths.includes("/before"), "nothing twice");
  const status = await dev.cardea("audit", "status");
  assert.match(status.out, /^blind: \d+ records$/m);
});
