/**
 * The balancer settings of docs/operations.md, taken from the page: HAProxy routes by them, nginx accepts them, the
 * YAML parses.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { parse } from "yaml";
import { TemporaryFolder } from "../support/child.ts";
import { freePort } from "../support/free-port.ts";
import { findHaproxy, startHaproxy } from "../support/haproxy.ts";
import { findNginx } from "../support/nginx.ts";
import { waitFor } from "../support/wait-for.ts";

const page = readFileSync(join(import.meta.dirname, "../../docs/operations.md"), "utf8");
const section = page.slice(page.indexOf("### Health checks and routes that deny"), page.indexOf("\n## Workers"));
const blocks = (language: string): readonly string[] =>
  [...section.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, "gs"))].map((match) => match[1] ?? "");

/** A proxy as a balancer sees it: it responds only to health checks and names itself. */
async function startProxy(t: TestContext, name: string) {
  const state = { ready: true, all: true };
  const server = createServer((request, response) => {
    const isCheck = request.url?.startsWith("/readyz") === true;
    const ok = request.url === "/readyz?routes=all" ? state.all : request.url === "/readyz" ? state.ready : true;
    response.writeHead(ok ? 200 : 503).end(isCheck ? "" : name);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { state, port: (server.address() as AddressInfo).port };
}

test("HAProxy leaves out a node without a lease, and uses it when no other node serves all routes", {
  skip: findHaproxy() === undefined ? "HAProxy is not installed" : false,
}, async (t) => {
  using folder = new TemporaryFolder("haproxy");
  const [one, two] = [await startProxy(t, "one"), await startProxy(t, "two")];
  const port = await freePort();
  const [config = assert.fail("no haproxy block")] = blocks("haproxy");
  const local = config
    .replace("bind :8080", `bind 127.0.0.1:${port}`)
    .replaceAll("check port 9902", "check")
    .replaceAll("192.0.2.1:8080", `127.0.0.1:${one.port}`)
    .replaceAll("192.0.2.2:8080", `127.0.0.1:${two.port}`);
  const file = join(folder.path, "haproxy.cfg");
  const timeouts = "defaults\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n";
  writeFileSync(file, `${timeouts}${local}`);
  const haproxy = await startHaproxy(file, { port, env: {}, logFile: join(folder.path, "haproxy.log") });
  t.after(() => haproxy.kill());
  const answers = async (): Promise<string> => {
    const texts: string[] = [];
    for (let n = 0; n < 4; n++) texts.push(await (await fetch(`http://127.0.0.1:${port}/`)).text());
    return [...new Set(texts)].sort().join();
  };
  await waitFor("both nodes to serve", async () => (await answers()) === "one,two");
  one.state.all = false;
  await waitFor("only the node that serves all routes to serve", async () => (await answers()) === "two");
  two.state.all = false;
  await waitFor("both nodes to serve what they can", async () => (await answers()) === "one,two");
  two.state.ready = false;
  await waitFor("only the ready node to serve", async () => (await answers()) === "one");
});

test("nginx accepts the settings", {
  skip: findNginx() === undefined ? "nginx is not installed" : false,
}, () => {
  using folder = new TemporaryFolder("nginx");
  const [config = assert.fail("no nginx block")] = blocks("nginx");
  const file = join(folder.path, "nginx.conf");
  writeFileSync(file, `pid ${folder.path}/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n${config}}\n`);
  execFileSync(findNginx() ?? "", ["-t", "-q", "-p", folder.path, "-c", file], { stdio: "pipe" });
  assert.doesNotMatch(config, /http_503 .*non_idempotent|non_idempotent .*http_503/);
});

test("the settings for Kubernetes and Envoy parse, and check all routes", () => {
  const [probe, envoy] = blocks("yaml").map((text) => parse(text));
  assert.equal(probe.readinessProbe.httpGet.path, "/readyz?routes=all");
  assert.equal(probe.livenessProbe.httpGet.path, "/healthz");
  const [cluster] = envoy.clusters;
  assert.equal(cluster.health_checks[0].http_health_check.path, "/readyz?routes=all");
  assert.equal(cluster.load_assignment.endpoints[0].lb_endpoints[0].endpoint.health_check_config.port_value, 9902);
});
