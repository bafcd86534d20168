/**
 * Bench: first paint of the pages of the console on the embedded default: a `cardea dev` with its log on disk, and a
 * Chromium that loads each page with an empty cache.
 *
 *   node bench/first-paint.ts [--rounds 3] [--paths /,/decisions]
 *
 * The times are those of the browser (`PerformanceObserver`, entries of the type `paint`), from the start of the
 * navigation, with the machine's load beside them. Budget: the slowest
 * first contentful paint below 1 s.
 */
import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import type { Browser, Page } from "playwright-core";
import { consoleViews } from "../src/console/views/register-console.ts";
import { startBrowser, startDev } from "../test/end-to-end/support.ts";
import { type Budget, reportBudgets } from "./support/budget.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "3" }, paths: { type: "string" } } });
const rounds = Number(values.rounds);
const paintMsMax = 1_000;
const paintWaitMs = 10_000;

type Paints = Readonly<{ first: number; content: number; answered: number }>;

const ends: (() => unknown)[] = [];
const [browser, dev] = await Promise.all([
  startBrowser(),
  startDev({ after: (end) => void (end && ends.push(end as () => unknown)) }),
]);
try {
  const page = await signedIn(browser);
  const session = await page.context().newCDPSession(page);
  const paths =
    values.paths?.split(",") ?? consoleViews.filter(({ path }) => !path.includes(":")).map(({ path }) => path);
  const budgets: Budget[] = [];
  for (const path of paths) {
    const paints: Paints[] = [];
    for (let round = 0; round < rounds; round++) {
      await session.send("Network.clearBrowserCache");
      paints.push(await paintsOf(page, path));
    }
    const list = (key: keyof Paints): string => paints.map((each) => each[key].toFixed(0)).join(", ");
    console.log(
      `${path.padEnd(20)} answered ${list("answered")} ms, paint ${list("first")} ms, content ${list("content")} ms`,
    );
    const worst = Math.max(...paints.map(({ content }) => content));
    budgets.push({
      what: `first contentful paint of ${path}`,
      result: `${worst.toFixed(0)} ms`,
      budget: `< ${paintMsMax} ms`,
      met: worst < paintMsMax,
    });
  }
  console.log(
    `load of the machine ${loadavg()
      .map((load) => load.toFixed(1))
      .join(", ")}`,
  );
  reportBudgets(budgets);
} finally {
  await browser.close();
  for (const end of ends.reverse()) await end();
}

/** As an administrator of the demo. */
async function signedIn(of: Browser): Promise<Page> {
  const page = await (await of.newContext()).newPage();
  await page.goto(dev.url("authenticate", "/.pomerium/admin/"));
  await page.getByRole("button", { name: /alice/i }).click();
  await page.locator("#lead").waitFor();
  return page;
}

async function paintsOf(page: Page, path: string): Promise<Paints> {
  await page.goto("about:blank");
  const answer = await page.goto(dev.url("authenticate", `/.pomerium/admin${path}`), { waitUntil: "load" });
  if (answer?.status() !== 200) throw new Error(`${path} answers ${answer?.status()}`);
  const found: unknown = await page.evaluate(`new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("nothing was painted")), ${paintWaitMs});
    const seen = {};
    new PerformanceObserver((list) => {
      for (const { name, startTime } of list.getEntries()) seen[name] = startTime;
      const [navigation] = performance.getEntriesByType("navigation");
      if (seen["first-contentful-paint"] !== undefined)
        resolve({ first: seen["first-paint"], content: seen["first-contentful-paint"], answered: navigation.responseEnd });
    }).observe({ type: "paint", buffered: true });
  })`);
  return found as Paints;
}
