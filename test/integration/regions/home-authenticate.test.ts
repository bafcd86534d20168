/**
 * A region without an authenticate service of its own: its people sign in at the one of the home region. Its proxies
 * reach that over the same links as everything else. While the region is cut off, no person is sent to the identity
 * provider, people who are signed in continue, and the region's broker says what it knows.
 */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { parseCommandId } from "../../../src/events/index.ts";
import { systemClock } from "../../../src/replication/runtime/index.ts";
import { BrokerUnavailableError, createBrokerClient } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type HttpReply, sendRequest } from "../cluster/client.ts";
import { loadConfigFile } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";
import { startTwoRegions, type TwoRegions } from "./two-regions.ts";

let regions: TwoRegions;

before(
  async () => {
    regions = await startTwoRegions({ timing: "default", lateMs: 40, westProxies: 1, westAuthenticate: "home" });
  },
  { timeout: 590_000 },
);
after(() => regions?.stop());

/** As a browser that has no session. */
function visit(at: ClusterProcess, route: string, path = "/"): Promise<HttpReply> {
  return sendRequest({
    port: at.ports.address,
    host: regions.host(route),
    path,
    headers: { accept: "text/html", "sec-fetch-mode": "navigate" },
    timeoutMs: 60_000,
  });
}

test("people of a region without an authenticate service see the page before the provider while it is cut off", {
  timeout: 300_000,
}, async (t) => {
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  const session = await regions.session("ivan");
  assert.equal((await regions.get(proxy, "app", session)).permitted, true);
  const signIn = await waitFor("a redirect to sign-in", async () => {
    const answer = await visit(proxy, "app");
    return answer.status === 302 && answer.headers.location;
  });
  const { pathname, search } = new URL(signIn);

  regions.wan.cut();
  t.after(() => regions.wan.heal());
  const cutAt = performance.now();
  await waitFor("sign-ins to be refused", async () => (await visit(proxy, "app")).status === 503, {
    withinMs: 30_000,
  });
  t.diagnostic(`sign-ins were refused ${Math.round(performance.now() - cutAt)} ms after the cut`);
  for (const path of ["/", "/.pomerium/sign_in", "/deep/link?q=1"]) {
    const askedAt = performance.now();
    const page = await visit(proxy, "app", path);
    const tookMs = Math.round(performance.now() - askedAt);
    assert.deepEqual(
      [page.status, page.headers["retry-after"], page.headers.location],
      [503, "5", undefined],
      `${path}: ${page.body.slice(0, 300)}`,
    );
    assert.ok(tookMs < 3_000, `${path}: at once, and not after ${tookMs} ms`);
    assert.match(page.body, /You can(?:'|&#39;)t sign in right now/);
  }
  // A sign-in that a proxy began before the cut cannot reach the service: it ends with an error, never at the provider.
  const begun = await visit(proxy, "authenticate", `${pathname}${search}`);
  assert.ok(begun.status >= 502 && begun.status <= 504, `${begun.status}: ${begun.body.slice(0, 300)}`);
  assert.equal(begun.headers.location, undefined);
  assert.equal((await regions.getNow(proxy, "app", session)).permitted, true, "who is signed in continues");
  assert.equal((await visit(regions.east.proxy, "app")).status, 302, "the home region signs people in");

  regions.wan.heal();
  await waitFor("sign-ins in the west", async () => (await visit(proxy, "app")).status === 302, { withinMs: 30_000 });
});

test("the region's broker says that home is out of reach, and how long leases count; receipts are 503 with the code", {
  timeout: 300_000,
}, async (t) => {
  const [proxy] = regions.west.proxies;
  assert.ok(proxy);
  const session = await regions.session("judy");
  assert.equal((await regions.get(proxy, "app", session)).permitted, true);
  const config = loadConfigFile(regions.authenticate.configFile);
  const client = createBrokerClient({
    ...{ urls: [new URL(regions.west.broker.brokerUrl)], cluster: config.broker.clusterName, role: "operator" },
    ...{ name: "test", secret: config.sharedSecret, clock: systemClock, submitMs: 5_000 },
    randomBytes,
    logger: { debug() {}, info() {}, warn() {}, error() {} },
  });
  t.after(() => client.close());
  await waitFor("the region to know both regions", async () => (await client.status()).regions?.length === 2);
  regions.wan.cut();
  t.after(() => regions.wan.heal());

  const status = await waitFor(
    "the region to know that it is cut off",
    async () => {
      const answer = await client.status();
      return answer.home === undefined || answer.home === null ? undefined : answer;
    },
    { withinMs: 30_000 },
  );
  assert.equal(status.leader, null);
  assert.equal(status.home?.region, "west");
  assert.ok((status.home?.leasesUntil ?? 0) > Date.now(), "leases by age count");
  assert.ok(status.nodes.some(({ node }) => node === "proxy-west-1"));
  assert.deepEqual(
    status.home?.lastKnown?.regions.map(({ region }) => region),
    ["east", "west"],
  );

  const receipt = client.receipt({ type: "link", link: session.link }, { wait: "all", timeoutMs: 60_000 });
  const askedAt = performance.now();
  await assert.rejects(
    receipt,
    (error) => error instanceof BrokerUnavailableError && error.reason === "home-unreachable",
  );
  assert.ok(performance.now() - askedAt < 3_000, "at once");
  const command = await client.submit({
    commandId: parseCommandId(randomUUID()),
    actor: "operator:alice#1",
    command: { type: "restoreUser", userId: session.userId },
  });
  assert.ok(command.type === "unavailable" && command.code === "home-unreachable" && command.outcome === "none");
});
