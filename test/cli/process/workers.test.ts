/** Workers: processes that share a listener, and the databroker beside them. All processes are real. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { mergeMetrics } from "../../../src/cli/process/workers.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";
import { run } from "../support.ts";

const patience = { withinMs: 90_000 };
const secret = Buffer.from(Array.from({ length: 32 }, (_, i) => i * 7 + 3)).toString("base64");

test("metrics of several processes are merged into one page, each family once, each sample with its worker", () => {
  const one = '# HELP a Some.\n# TYPE a counter\na 1\na{route="x {y}"} 2\n# TYPE b gauge\nb{} NaN\n';
  const other = "# HELP a Some.\n# TYPE a counter\na 3\n";
  assert.equal(
    mergeMetrics(
      new Map([
        ["1", one],
        ["2", other],
      ]),
    ),
    '# HELP a Some.\n# TYPE a counter\na{worker="1"} 1\na{worker="1",route="x {y}"} 2\na{worker="2"} 3\n# TYPE b gauge\nb{worker="1"} NaN\n',
  );
});

test("workers beside a databroker need its listen address", async () => {
  using folder = new TemporaryFolder("workers");
  const config = join(folder.path, "cardea.yaml");
  const written = {
    authenticate_service_url: "https://authenticate.example.com",
    insecure_server: true,
    address: "127.0.0.1:8443",
    idp_provider: "oidc",
    idp_provider_url: "https://idp.example.com",
    idp_client_id: "cardea",
    idp_client_secret: "secret",
    shared_secret: secret,
    cookie_secret: secret,
    workers: 2,
    routes: [{ from: "https://app.example.com", to: "http://127.0.0.1:1", allow_any_authenticated_user: true }],
  };
  writeFileSync(config, JSON.stringify(written), { mode: 0o600 });
  const refused = await run(["check", "-c", config]);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /broker\.listen: is missing, so the workers could not reach the databroker beside them/);
  writeFileSync(config, JSON.stringify({ ...written, broker: { listen: "127.0.0.1:5443" } }), { mode: 0o600 });
  assert.equal((await run(["check", "-c", config])).code, 0);
});

test("workers share a port, are separate nodes, reload together, and are restarted when they die", async (t) => {
  using folder = new TemporaryFolder("workers");
  const upstream = createServer((_req, res) => res.end("upstream"));
  upstream.listen(0, "127.0.0.1");
  await once(upstream, "listening");
  t.after(() => upstream.close());
  const [port = 0, metrics = 0, broker = 0] = await freePorts(3);
  const config = join(folder.path, "cardea.yaml");
  const write = (...names: string[]): void =>
    writeFileSync(
      config,
      JSON.stringify({
        authenticate_service_url: `http://authenticate.localhost:${port}`,
        address: `127.0.0.1:${port}`,
        insecure_server: true,
        metrics_address: `127.0.0.1:${metrics}`,
        node_name: "node",
        workers: 2,
        broker: { listen: `127.0.0.1:${broker}` },
        data_dir: join(folder.path, "data"),
        shared_secret: secret,
        cookie_secret: secret,
        idp_provider: "oidc",
        idp_provider_url: "http://idp.localhost:1",
        idp_client_id: "cardea",
        idp_client_secret: "secret",
        drain_delay: "0s",
        drain_timeout: "1s",
        routes: names.map((name) => ({
          from: `http://${name}.localhost:${port}`,
          to: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
          allow_public_unauthenticated_access: true,
        })),
      }),
      { mode: 0o600 },
    );
  write("app");
  const logFile = join(folder.path, "log");
  const args = ["--no-warnings", mainFile, "run", "-c", config];
  const child = await Child.start({ command: process.execPath, args, logFile });
  t.after(() => child.kill());
  const fetchFrom = async (path: string): Promise<Response | undefined> =>
    fetch(`http://127.0.0.1:${metrics}${path}`).catch(() => undefined);
  const readMetrics = async (): Promise<string> => (await (await fetchFrom("/metrics"))?.text()) ?? "";
  const ready = async (): Promise<boolean> => {
    if (!child.running) throw new Error(child.log().slice(-2_000));
    return (await fetchFrom("/readyz"))?.ok === true && (await readMetrics()).includes("cardea_workers 2");
  };
  const status = async (name: string): Promise<number> => {
    const headers = { host: `${name}.localhost:${port}` };
    const [res] = (await once(get({ host: "127.0.0.1", port, headers, agent: false }), "response")) as [
      IncomingMessage,
    ];
    res.resume();
    return res.statusCode ?? 0;
  };
  const pids = (): number[] => {
    const found = new Map<string, number>();
    for (const line of child.log().split("\n")) {
      const { worker, pid, message } = (line.startsWith("{") ? JSON.parse(line) : {}) as Record<
        string,
        string | number
      >;
      if (typeof worker === "string" && message === "started") found.set(worker, Number(pid));
    }
    return [...found.values()];
  };
  await waitFor("both workers to be ready", ready, patience);

  // Two workers on at most two cores collect garbage on their main threads.
  const gc = [...child.log().matchAll(/"worker":"[12]".*"gc":"(.*?)","message":"started"/g)].map(([, text]) => text);
  const expected = availableParallelism() <= 2 ? "main thread" : "helper threads";
  assert.deepEqual(gc, [expected, expected]);

  // Connections are distributed in turn, so each worker answers half of them.
  for (let i = 0; i < 20; i++) assert.equal(await status("app"), 200);
  const page = await readMetrics();
  for (const worker of ["1", "2"]) {
    assert.match(page, new RegExp(`cardea_proxy_requests_total\\{worker="${worker}",[^}]*\\} [1-9]`));
    assert.match(page, new RegExp(`cardea_replica_grants\\{worker="${worker}"\\} [1-9]`));
  }
  assert.match(page, /cardea_broker_leading\{worker="databroker"/);

  // A new configuration reaches both workers.
  write("app", "new");
  child.signal("SIGHUP");
  const hashes = async (): Promise<string[]> =>
    [...(await readMetrics()).matchAll(/cardea_config_info\{worker="\d",hash="(\w+)"\}/g)].map(
      ([, hash]) => hash ?? "",
    );
  const before = /cardea_config_info\{worker="1",hash="(\w+)"\}/.exec(page)?.[1];
  await waitFor(
    "both workers to apply it",
    async () => {
      const found = await hashes();
      return found.length === 2 && new Set(found).size === 1 && found[0] !== before;
    },
    patience,
  );
  for (let i = 0; i < 4; i++) assert.equal(await status("new"), 200);

  // One worker dies; the other one continues, and the first is restarted.
  const [first = 0] = pids();
  process.kill(first, "SIGSTOP");
  const pending = Array.from({ length: 6 }, () => status("app"));
  let answered = 0;
  for (const each of pending) void each.then(() => answered++);
  await waitFor("all requests but the one of the stopped worker to be answered", () => answered === 5, patience);
  process.kill(first, "SIGKILL");
  assert.deepEqual(
    await Promise.all(pending),
    pending.map(() => 200),
    "no caller is left with a worker that has exited",
  );
  await waitFor("one worker to remain", async () => (await readMetrics()).includes("cardea_workers 1"), patience);
  const meanwhile = new Map<number, number>();
  await waitFor(
    "both workers to be ready again",
    async () => {
      for (let i = 0; i < 4; i++) {
        const answer = await status("app");
        meanwhile.set(answer, (meanwhile.get(answer) ?? 0) + 1);
      }
      return ready();
    },
    patience,
  );
  assert.deepEqual([...meanwhile.keys()], [200], "a worker accepts no connection before it has a lease");
  assert.equal(new Set([...pids(), first]).size, 3);

  // All workers stop together, and each was a node with its own name.
  const last = pids();
  assert.equal((await child.end("SIGTERM", { withinMs: 60_000 })).code, 0);
  for (const pid of last) assert.throws(() => process.kill(pid, 0), /ESRCH/);
  const exported = await run(["log", "export", "-c", config]);
  assert.equal(exported.code, 0, exported.err);
  const activated = exported.out.split("\n").filter((line) => line.includes("ConfigurationActivated"));
  for (const node of ["node-w1", "node-w2"])
    assert.equal(
      activated.filter((line) => line.includes(`"${node}"`)).length,
      2,
      `${node} announced both configurations`,
    );
});
