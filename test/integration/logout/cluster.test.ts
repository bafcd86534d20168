/**
 * Logout by a real provider on a Postgres cluster of separate processes: the logout token arrives at the authenticate
 * host through a proxy's gateway, and every proxy has ended the session, a WebSocket included.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { waitFor } from "../../support/wait-for.ts";
import { type Browser, startBrowser } from "../cluster/browser.ts";
import { sendUntilDecided as ask, openSocket, sendRequest } from "../cluster/client.ts";
import { type Cluster, startCluster } from "../cluster/cluster.ts";

let cluster: Cluster;
before(
  async () => {
    cluster = await startCluster({ timing: "default", regions: ["north", "south"] });
    await waitFor("the level", async () => (await cluster.cardea("cluster", "finalize", "--wait")).code === 0, {
      withinMs: 120_000,
    });
  },
  { timeout: 400_000 },
);
after(() => cluster?.stop());

const newBrowser = (): Browser =>
  startBrowser((url) => (url.hostname === "idp.localhost" ? Number(url.port) : cluster.proxy(1).ports.address));
const at = (n: number, browser: Browser) => {
  const value = browser.cookie("app.localhost", cluster.config.cookie.name) ?? assert.fail("no cookie");
  return {
    port: cluster.proxy(n).ports.address,
    host: cluster.host("app"),
    cookie: `${cluster.config.cookie.name}=${value}`,
  };
};
/** Again while no leader can record a session, which a busy machine may cause. */
async function signIn(browser: Browser, user: string): Promise<void> {
  const url = `http://${cluster.host("app")}/`;
  await waitFor("a sign-in", async () => (await browser.navigate(url, { user })).permitted, { withinMs: 120_000 });
}
const issuer = (): string => `http://idp.localhost:${cluster.setup.idpPort}`;

test("a person who signs out at the provider is signed out on every proxy, and their WebSocket is cut", async () => {
  const [browser, other] = [newBrowser(), newBrowser()];
  for (const each of [browser, other]) await signIn(each, "alice");
  const socket = await openSocket(at(2, browser));
  const otherSocket = await openSocket(at(2, other));
  for (const n of [1, 2]) assert.equal((await ask(at(n, browser))).permitted, true);

  const page = await browser.navigate(`${issuer()}/session/end`);
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.body)?.[1] ?? assert.fail(page.body);
  await browser.navigate(`${issuer()}/session/end/confirm`, { form: { xsrf, logout: "yes" } });

  assert.equal((await socket.closed).code, 4401);
  for (const n of [1, 2])
    await waitFor(`proxy ${n} to refuse`, async () => !(await sendRequest(at(n, browser))).permitted);
  assert.equal(otherSocket.isOpen(), true, "another browser of the same person has another session there");
  assert.equal((await ask(at(1, other))).permitted, true);
  const sessions = await cluster.cardea("sessions", "list", "--user", "alice", "--status", "all", "--json");
  const reasons = (JSON.parse(sessions.out) as { status: string; reason: string | null }[]).map(({ reason }) => reason);
  assert.deepEqual(
    reasons.filter((reason) => reason === "identity-provider"),
    ["identity-provider"],
  );
});

test("a logout token is answered while the leader changes, or with 503, and is recorded once it was answered with 200", async () => {
  const browser = newBrowser();
  await signIn(browser, "bob");
  const leader = await cluster.leader();
  const page = await browser.navigate(`${issuer()}/session/end`);
  const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.body)?.[1] ?? assert.fail(page.body);
  const killed = leader.kill();
  await browser.navigate(`${issuer()}/session/end/confirm`, { form: { xsrf, logout: "yes" } });
  await killed;
  await leader.start();
  // The provider waits for two seconds, and reports a failure; the authenticate service retries for five.
  for (const n of [1, 2])
    await waitFor(`proxy ${n} to refuse`, async () => !(await sendRequest(at(n, browser))).permitted, {
      withinMs: 60_000,
    });
});
