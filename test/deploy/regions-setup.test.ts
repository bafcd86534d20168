/**
 * docs/regions-setup.md, followed literally: nine machines with Postgres, NATS, HAProxy, brokers and proxies, from its
 * files and commands alone.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { findHaproxy } from "../support/haproxy.ts";
import { whyNoMachines } from "../support/machines.ts";
import { waitFor } from "../support/wait-for.ts";
import { type Browser, regions, type SetupPage, startSetupPage } from "./regions/setup-page.ts";

const skip = findHaproxy() === undefined ? "HAProxy is not installed" : whyNoMachines();
const options = { skip, timeout: 590_000 };
let setup: SetupPage | undefined;
const page = (): SetupPage => setup ?? assert.fail("the machines did not start");

after(() => setup?.stop());

const application = [200, "the application\n"] as const;
const app = "https://app.example.com/";
const admin = "https://admin.example.com/";

async function open(browser: Browser, url: string): Promise<readonly [number, string]> {
  const { status, body } = await browser.open(url);
  return [status, body];
}

test("the files and commands of the page lead to three regions", options, async (t) => {
  setup = await startSetupPage(t);
  for (const section of [1, 2, 3]) await page().follow(section);
  await page().startOutside();
  for (const section of [4, 5, 6, 7, 8, 9]) await page().follow(section);
});

test("people sign in in each region, and their session is valid in the others", options, async () => {
  for (const region of regions) {
    const browser = page().browser(region, "alice");
    assert.deepEqual(await open(browser, app), application, region);
    for (const other of regions)
      assert.deepEqual(await open(browser.near(other), app), application, `${region}, then ${other}`);
  }
});

test("a revocation from a remote region is enforced in all", options, async () => {
  await page().follow(10);
  for (const region of regions) {
    const { hops } = await page().browser(region, "alice").open(app);
    assert.ok(hops.some(isAtProvider), `${region}: the person signs in again, ${hops.join(" ")}`);
  }
});

/** Drops what crosses between `ap` and the other regions on one port. */
async function cutPort(port: number): Promise<void> {
  const rules = ["--destination-port", "--source-port"].flatMap((side) => [
    `iptables --insert INPUT --protocol tcp ${side} ${port} ! --source 10.3.0.0/24 --jump DROP`,
    `iptables --insert OUTPUT --protocol tcp ${side} ${port} ! --destination 10.3.0.0/24 --jump DROP`,
  ]);
  for (const name of ["ap-1", "ap-2", "ap-3"]) await page().machines.machine(name).must(rules.join("\n"));
}

test(
  "while NATS is cut, a revocation at home is enforced in the region, and its receipt completes",
  options,
  async () => {
    const near = page().browser("ap", "dave");
    assert.deepEqual(await open(near, app), application);
    await cutPort(7422);
    const { code, out } = await revokeAtHome("dave");
    assert.equal(code, 0, out);
    assert.match(out, /proxy-ap-2 +ap +proxy +applied/);
    assert.ok((await near.open(app)).hops.some(isAtProvider), "the person signs in again");
    await page().follow(13);
  },
);

test(
  "while HTTPS to the home region is cut, a revocation is enforced there by NATS as long as the region decides",
  options,
  async () => {
    const [revoked, other] = [page().browser("ap", "erin"), page().browser("ap", "frank")];
    assert.deepEqual(await open(revoked, app), application);
    assert.deepEqual(await open(other, app), application);
    await cutPort(5443);
    const { code, out } = await revokeAtHome("erin", "--timeout 1s");
    assert.equal(code, 1, out);
    assert.match(out, /proxy-ap-2 +ap +proxy +unconfirmed/);
    await waitFor(
      "the region to refuse the one and serve the other",
      async () => (await revoked.open(app)).status !== 200 && (await other.open(app)).status === 200,
    );
    await page().follow(13);
  },
);

const revokeAtHome = (person: string, flags = "--timeout 60s") =>
  page()
    .machines.machine("eu-2")
    .run(`cardea sessions revoke --user ${person}@example.com --wait ${flags} -c /etc/cardea/proxy.yaml`);

test("a region that is cut off does what the page's table says, and heals", options, async () => {
  const near = page().browser("ap", "bob");
  assert.deepEqual(await open(near, app), application);
  assert.deepEqual(await open(near, admin), application);
  await page().follow(11);
  await waitFor(
    "admin to answer 503, and app to continue",
    async () => (await near.open(admin)).status === 503 && (await near.open(app)).status === 200,
    { withinMs: 30_000 },
  );
  assert.equal((await page().browser("ap", "carol").open(app)).status, 503, "no one signs in");
  await page().follow(12);
  assert.equal((await near.open(app)).status, 503, "after the window");
  await page().follow(13);
  const { hops } = await near.open(app);
  assert.ok(hops.some(isAtProvider), hops.join(" "));
});

test(
  "the home region moves by one command, the old primary follows, and sessions and sign-ins go on",
  options,
  async () => {
    const before = page().browser("ap", "grace");
    assert.deepEqual(await open(before, app), application);
    await page().follow(14);
    const { status, hops } = await before.open(app);
    assert.deepEqual([status, hops.filter(isAtProvider)], [200, []], "the session is valid after the move");
    for (const region of regions)
      assert.deepEqual(await open(page().browser(region, "heidi"), app), application, region);
  },
);

test(
  "a region that is lost is a problem until it is retired by one command, and is listed again when it is back",
  options,
  async () => {
    await page().follow(15);
    assert.deepEqual(await open(page().browser("ap", "judy"), app), application);
  },
);

test("a region that is retired in order is in no status, and the others go on", options, async () => {
  await page().follow(16);
  for (const region of ["eu", "us"] as const)
    assert.deepEqual(await open(page().browser(region, "ivan"), app), application, region);
});

const isAtProvider = (url: string): boolean => url.startsWith("https://idp.example.com/");
