/**
 * The cluster of docker-compose.yml: one command starts it, one URL is enough for people, and it keeps working while
 * parts of it are killed.
 *
 * The tests form one scenario and run in order.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { whyNoEngine } from "../../support/containers.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type CommandOutput, ComposeCluster, type Person } from "./compose-cluster.ts";

const reason =
  process.env["CI_CONTAINERS"] === "1"
    ? undefined
    : ((await whyNoEngine()) ?? "it builds images; CI_CONTAINERS=1 runs it");

const app = "http://app.localhost:8080/";
const eng = "http://eng.localhost:8080/";
const proxies = ["proxy-1", "proxy-2"];
/**
 * A broker is silent for broker.takeover (3 s) before another takes over. Nodes renew at the new one within a second.
 */
const takeoverBounds = { withinMs: 20_000, everyMs: 250 };

type Receipt = Readonly<{
  complete: boolean;
  nodes: readonly Readonly<{ node: string; region: string; status: string }>[];
}>;

describe("the compose cluster", { skip: reason ?? false, timeout: 580_000 }, () => {
  let cluster: ComposeCluster;
  let alice: Person;

  before(
    async () => {
      cluster = await ComposeCluster.start();
      alice = cluster.newPerson();
    },
    { timeout: 400_000 },
  );
  after(() => cluster?.down(), { timeout: 120_000 });

  const receiptOf = (output: CommandOutput): Receipt => {
    assert.equal(output.code, 0, `${output.err}${output.out}`);
    return (JSON.parse(output.out.trim().split("\n").at(-1) ?? "") as { receipt: Receipt }).receipt;
  };
  const revoke = async (user: string): Promise<Receipt> =>
    receiptOf(await cluster.cardea("authenticate", "sessions", "revoke", "--user", user, "--wait", "--json"));
  const appliedBy = ({ nodes }: Receipt): readonly string[] =>
    nodes
      .filter(({ status, node }) => status === "applied" && node.startsWith("proxy-"))
      .map(({ node }) => node)
      .sort();
  /** Requests go to the proxies in turn, so four requests reach both. */
  async function expectPermitted(person: Person): Promise<void> {
    for (let i = 0; i < 4; i++) {
      const stop = await person.go(app);
      assert.deepEqual([stop.status, stop.url.hostname], [200, "app.localhost"]);
    }
  }
  async function expectSignInPage(person: Person): Promise<void> {
    for (let i = 0; i < 4; i++) assert.equal((await person.go(app)).url.hostname, "idp.localhost");
  }

  test("every configuration is valid in its own container", async () => {
    for (const service of ["broker-1", "proxy-1", "authenticate"]) {
      const output = await cluster.cardea(service, "check");
      assert.equal(output.code, 0, output.err);
    }
  });

  test("the cluster has a leader and a proxy in each region", async () => {
    const { leader, nodes } = await cluster.status();
    assert.ok(leader !== null);
    const placed = nodes.filter(({ role }) => role === "proxy").map(({ node, region }) => `${node} in ${region}`);
    assert.deepEqual(placed.sort(), ["proxy-1 in region-a", "proxy-2 in region-b"]);
  });

  test("services run without root, cannot write to their own files, and have only their own secrets", async () => {
    const inside = async (service: string, command: string): Promise<string> =>
      (await cluster.compose("exec", "--no-TTY", service, "sh", "-c", command)).out.trim();
    assert.equal(await inside("proxy-1", "id -u"), "1000");
    assert.equal(await inside("proxy-1", "touch /opt/cardea/x 2>/dev/null || echo refused"), "refused");
    assert.deepEqual((await inside("proxy-1", "ls /run/secrets")).split("\n"), [
      "ca.crt",
      "cookie_secret",
      "nats_password",
      "shared_secret",
    ]);
    assert.equal(await inside("demo", "ls /run/secrets"), "idp_client_secret");
    assert.equal(
      await inside("broker-1", "cat /run/secrets/postgres_superuser_password 2>/dev/null || echo none"),
      "none",
    );
  });

  test("Postgres, NATS and the databroker API refuse clients without TLS", async () => {
    const plain = `
      const pg = require("/opt/cardea/node_modules/pg");
      const url = require("node:fs").readFileSync("/run/secrets/database_url", "utf8").split("?")[0];
      new pg.Client({ connectionString: url, ssl: false }).connect().then(() => console.log("accepted"), (e) => console.log(e.message));
      fetch("http://broker-2:5443/healthz").then((r) => console.log("accepted"), () => console.log("no answer"));
      fetch("https://broker-2:5443/v1/status").then((r) => console.log("accepted"), (e) => console.log(e.cause.code));`;
    const output = await cluster.compose("exec", "--no-TTY", "broker-1", "node", "-e", plain);
    const lines = output.out.trim().split("\n").sort();
    assert.equal(lines.length, 3, output.err);
    assert.match(lines.join("\n"), /no encryption/);
    assert.match(lines.join("\n"), /no answer/);
    assert.match(lines.join("\n"), /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED|UNABLE_TO_GET_ISSUER/);
  });

  test("alice signs in at the one URL, and both proxies permit her requests", async () => {
    const page = await alice.signIn(app, "alice");
    assert.deepEqual([page.status, page.url.href], [200, app]);
    assert.match(page.body, /data-verdict="verified"/, "the app accepts the proxy's signature");
    await expectPermitted(alice);
    assert.equal((await alice.signIn(eng, "alice")).status, 200);
    const bob = cluster.newPerson();
    const refused = await bob.signIn(eng, "bob");
    assert.deepEqual([refused.status, refused.url.hostname], [403, "eng.localhost"]);
  });

  test("a revocation cuts alice's streams on both proxies, and the receipt names both", async () => {
    const clocks = await Promise.all([alice.openClock(app), alice.openClock(app)]);
    const receipt = await revoke("alice");
    assert.equal(receipt.complete, true);
    assert.deepEqual(appliedBy(receipt), proxies);
    assert.deepEqual(await Promise.all(clocks.map(({ closed }) => closed)), [4401, 4401]);
    await expectSignInPage(alice);
  });

  test("after the leading broker is killed, sessions stay valid, and the other broker soon leads and revokes", async () => {
    await alice.signIn(app, "alice");
    const { leader } = await cluster.status();
    const dead = leader?.brokerId ?? "";
    await cluster.compose("kill", dead);
    await expectPermitted(alice);
    const next = await waitFor(
      "another leader",
      async () => {
        const seen = (await cluster.status()).leader;
        return seen !== null && seen.brokerId !== dead ? seen : undefined;
      },
      takeoverBounds,
    );
    assert.ok(next.epoch > (leader?.epoch ?? 0));
    await expectPermitted(alice);
    assert.deepEqual(appliedBy(await revoke("alice")), proxies);
    await expectSignInPage(alice);
    await cluster.compose("start", dead);
  });

  test("requests and revocations work while a NATS server is down", async () => {
    await alice.signIn(app, "alice");
    await cluster.compose("kill", "nats-1");
    await expectPermitted(alice);
    assert.deepEqual(appliedBy(await revoke("alice")), proxies);
    await expectSignInPage(alice);
    await cluster.compose("start", "nats-1");
  });

  test("while a proxy is stopped, the other one serves, and receipts do not wait for the stopped one", async () => {
    await alice.signIn(app, "alice");
    await cluster.compose("stop", "proxy-1");
    await expectPermitted(alice);
    const receipt = await revoke("alice");
    assert.equal(receipt.complete, true);
    assert.deepEqual(appliedBy(receipt), ["proxy-2"]);
    await expectSignInPage(alice);
    await cluster.compose("start", "proxy-1");
    await waitFor(
      "proxy-1 to be back",
      async () => (await cluster.status()).nodes.some(({ node }) => node === "proxy-1"),
      takeoverBounds,
    );
  });

  test("after a proxy is killed and restarted on its data folder, receipts count the new boot at once", async () => {
    await alice.signIn(app, "alice");
    await cluster.compose("kill", "proxy-2");
    await expectPermitted(alice);
    await cluster.compose("up", "--detach", "--wait", "--no-recreate", "proxy-2");
    const receipt = await revoke("alice");
    assert.equal(receipt.complete, true);
    assert.deepEqual(appliedBy(receipt), proxies);
    await expectSignInPage(alice);
  });

  test("secrets and sessions survive a restart of all services", async () => {
    await alice.signIn(app, "alice");
    await cluster.compose("restart", "--timeout", "15");
    await waitFor(
      "alice's requests to be permitted again",
      async () => {
        const stop = await alice.go(app);
        return stop.status === 200 && stop.url.hostname === "app.localhost";
      },
      { withinMs: 90_000, everyMs: 500 },
    );
    await expectPermitted(alice);
  });

  test("finally the log is intact, and every node has the same state", async () => {
    const verified = await cluster.cardea("broker-1", "log", "verify");
    assert.equal(verified.code, 0, verified.err);
    await waitFor(
      "one digest",
      async () => {
        const { leader, nodes } = await cluster.status();
        // Killed boots stay listed, without a digest, until they are removed. Each has a successor.
        const withDigest = nodes.filter(({ digest }) => digest !== null);
        const names = new Set(withDigest.map(({ node }) => node));
        const agree =
          leader !== null &&
          withDigest.length === 3 &&
          names.size === 3 &&
          nodes.every(({ node }) => names.has(node)) &&
          withDigest.every(({ digest }) => digest === leader.digest);
        if (!agree) throw new Error(JSON.stringify({ leader, nodes }));
        return true;
      },
      { withinMs: 60_000, everyMs: 500 },
    );
  });
});
