/**
 * Grafana dashboards of deploy/grafana: a real Prometheus that scrapes a real node has data for every panel, and every
 * metric is one of the code and of the documents.
 */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startDev } from "../end-to-end/support.ts";
import { Child, TemporaryFolder } from "../support/child.ts";
import { freePorts } from "../support/free-port.ts";
import { Visitor } from "../support/visitor.ts";
import { waitFor } from "../support/wait-for.ts";

const root = join(import.meta.dirname, "../..");
const folder = join(root, "deploy/grafana");
type Panel = Readonly<{ id: number; title: string; targets: readonly Readonly<{ expr: string }>[] }>;
type Dashboard = Readonly<{ uid: string; title: string; panels: readonly Panel[] }>;
const dashboards = globSync("*.json", { cwd: folder }).map(
  (file) => JSON.parse(readFileSync(join(folder, file), "utf8")) as Dashboard,
);
const expressions = dashboards.flatMap(({ title, panels }) =>
  panels.flatMap((panel) => panel.targets.map(({ expr }) => ({ where: `${title}: ${panel.title}`, expr }))),
);
const prometheus = ["/usr/bin/prometheus", "/usr/local/bin/prometheus"].find((path) => existsSync(path));

test("each panel has an id, a place of its own and an expression", () => {
  assert.equal(dashboards.length, 2);
  for (const { panels } of dashboards) {
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    assert.equal(
      new Set(panels.map((panel) => JSON.stringify((panel as unknown as { gridPos: object }).gridPos))).size,
      panels.length,
    );
    for (const { targets } of panels) assert.ok(targets.length > 0);
  }
});

test("every metric of a panel and of an alert on audit is in the documents and in the code", () => {
  const pages = globSync("docs/*.md", { cwd: root }).map((path) => readFileSync(join(root, path), "utf8"));
  const code = globSync("src/**/*.ts", { cwd: root })
    .map((path) => readFileSync(join(root, path), "utf8"))
    .join("\n");
  const rules = readFileSync(join(root, "deploy/prometheus/audit.rules.yaml"), "utf8");
  const text = [...expressions.map(({ expr }) => expr), rules].join("\n");
  for (const name of new Set(text.match(/\bcardea_\w+/g) ?? [])) {
    const metric = name.replace(/_bucket$/, "");
    assert.ok(
      pages.some((page) => page.includes(`\`${metric}`)),
      `no document has ${metric}`,
    );
    // Gauges of one kind are made from a prefix and the name of a measure.
    const prefixed = /^(cardea_(?:broker|replica|region))_(.+)$/.exec(metric);
    const measure = prefixed?.[2]?.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    assert.ok(
      code.includes(`"${metric}"`) || (measure !== undefined && new RegExp(`\\b${measure}:`).test(code)),
      metric,
    );
  }
});

test("Prometheus has data for every panel of both dashboards", {
  skip: prometheus === undefined ? "prometheus is not installed" : false,
}, async (t) => {
  const dev = await startDev(t);
  const visitor = new Visitor();
  t.after(() => visitor.close());
  using files = new TemporaryFolder("grafana");
  const [port = 0] = await freePorts(1);
  const scrape = { job_name: "cardea", static_configs: [{ targets: [`127.0.0.1:${dev.port + 13}`] }] };
  const config = { global: { scrape_interval: "1s" }, scrape_configs: [scrape] };
  writeFileSync(join(files.path, "prometheus.yml"), JSON.stringify(config));
  const child = await Child.start({
    command: prometheus ?? "",
    args: [
      ...[`--config.file=${join(files.path, "prometheus.yml")}`, `--storage.tsdb.path=${join(files.path, "data")}`],
      ...[`--web.listen-address=127.0.0.1:${port}`, "--log.level=error"],
    ],
    logFile: join(files.path, "log"),
  });
  t.after(() => child.end("SIGTERM"));
  async function query(expr: string): Promise<Readonly<{ status: string; values: readonly number[]; error: string }>> {
    const plain = expr.replaceAll("$instance", ".*").replaceAll("$__rate_interval", "1m");
    const answer = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(plain)}`);
    const body = (await answer.json()) as {
      status: string;
      error?: string;
      data?: { result: readonly { value: [number, string] }[] };
    };
    const values = (body.data?.result ?? []).map(({ value }) => Number(value[1]));
    return { status: body.status, values, error: body.error ?? "" };
  }
  await waitFor(
    "Prometheus",
    () =>
      fetch(`http://127.0.0.1:${port}/-/ready`).then(
        ({ ok }) => ok,
        () => false,
      ),
    {
      withinMs: 60_000,
    },
  );
  let missing: readonly string[] = [];
  await waitFor(
    "data for every panel",
    async () => {
      await visitor.request(dev.url("public"));
      await visitor.request(dev.url("app"));
      const answers = await Promise.all(
        expressions.map(async ({ where, expr }) => ({ where, ...(await query(expr)) })),
      );
      for (const { where, status, error } of answers) assert.equal(status, "success", `${where}: ${error}`);
      const empty = answers.filter(({ values }) => values.length === 0 || values.every(Number.isNaN));
      missing = empty.map(({ where }) => where);
      return empty.length === 0;
    },
    { withinMs: 60_000, everyMs: 3_000 },
  ).catch((cause: unknown) => {
    throw new Error(`no data: ${missing.join("; ")}\n${child.log()}`, { cause });
  });
});
