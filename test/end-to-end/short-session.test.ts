/** A session shorter than a minute, by `cookie_expire`: it ends on time on every node, and the next sign-in works. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { TemporaryFolder } from "../support/child.ts";
import { Visitor } from "../support/visitor.ts";
import { waitFor } from "../support/wait-for.ts";
import { startDev } from "./support.ts";

const root = new URL("../../", import.meta.url).pathname;

test("a session of eight seconds serves requests, ends by itself, and is followed by another", {
  timeout: 180_000,
}, async (t) => {
  const folder = new TemporaryFolder("short-session");
  t.after(() => folder.remove());
  const config = join(folder.path, "cardea.yaml");
  const base = readFileSync(join(root, "cardea.dev.yaml"), "utf8");
  writeFileSync(config, base.replace(/^routes:\n/m, "cookie_expire: 8s\n\nroutes:\n"), { mode: 0o600 });
  const dev = await startDev(t, "-c", config);
  const visitor = new Visitor();
  t.after(() => visitor.close());
  const signIn = async (): Promise<void> => {
    const page = await visitor.navigate(dev.url("app"));
    if (page.url.host.startsWith("app.")) return; // the provider remembers the person
    const app = await visitor.navigate(page.url, { form: { user: "alice", password: "x" } });
    assert.equal(app.status, 200);
    assert.ok(app.url.host.startsWith("app."), app.url.href);
  };
  const isServed = async (): Promise<boolean> => (await visitor.request(dev.url("app"))).status === 200;

  await signIn();
  await waitFor("the session to end", async () => !(await isServed()));
  await signIn();
  await waitFor("the second session to end", async () => !(await isServed()));

  const metrics = await (await fetch(`http://127.0.0.1:${dev.port + 13}/metrics`)).text();
  assert.match(metrics, /^cardea_code_exchanges_total\{result="exchanged"\} [2-9]$/m);
});
