/**
 * Bench: one authorised HTTP request through one proxy process on one core, beside nginx `proxy_pass` and
 * @fastify/http-proxy, both without any authentication, in the same run. Session, policy, signed assertion and audit
 * are on.
 *
 * node bench/proxy.ts [--seconds 5] [--connections 64]
 *
 * A second Cardea process stores no audit records: what spool, sinks, seals and the store for readers cost together is
 * in each run.
 *
 * Eight people's browsers send the requests (support/browsers.ts): on a connection the cookie, user agent and
 * languages are equal, and path, query, `Referer` and `Accept` differ. Every response has a different head.
 *
 * The proxy under test has one core to itself; the upstream (nginx) and the load (wrk) share another. Rounds
 * alternate, so that a machine that grows busy slows all three. Prints requests per second, p50 and p99, and the
 * ratios, which are what counts.
 */
import { parseArgs } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { peopleCount, writeBrowserScript } from "./support/browsers.ts";
import { reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { beside, byWrk, inRounds, type Subject } from "./support/load.ts";
import { helloServer, passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, connections: { type: "string", default: "64" } },
});

/** Processor time of what happens to a record after it is formatted. */
const auditUsMax = 5;

await withStand(async (stand) => {
  const { folder } = stand;
  const [upstream = 0, nginx = 0, yardstick = 0] = await freePorts(3);
  await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", helloServer(upstream))], upstream);
  const nginxConf = writeNginxConf(folder, "proxy", passingServer(nginx, upstream));
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", nginxConf], nginx);
  const yardstickProcess = await stand.start(
    coreOfProxy,
    process.execPath,
    [new URL("./support/http-proxy-yardstick.ts", import.meta.url).pathname, String(yardstick), String(upstream)],
    yardstick,
  );
  const cardea = await startCardea(stand, { upstreamPort: upstream, people: peopleCount });
  const bare = await startCardea(stand, {
    ...{ upstreamPort: upstream, people: peopleCount, name: "bare", audit: "{sinks: []}" },
  });
  const script = writeBrowserScript(folder, "browsers", cardea);
  const subject = (name: string, port: number, pinned: Pinned): Subject => ({
    name,
    url: `http://127.0.0.1:${port}/`,
    headers: [],
    pinned,
    script,
  });
  const [first, second, third, fourth] = await inRounds(
    [
      subject("nginx proxy_pass, no auth", nginx, nginxProcess),
      subject("@fastify/http-proxy, no auth", yardstick, yardstickProcess),
      subject("cardea, authorised", cardea.port, cardea.pinned),
      {
        ...subject("cardea, no records are stored", bare.port, bare.pinned),
        script: writeBrowserScript(folder, "browsers-bare", bare),
      },
    ],
    { seconds: Number(values.seconds), rounds: 3 },
    byWrk(Number(values.connections)),
  );
  if (first === undefined || second === undefined || third === undefined || fourth === undefined)
    throw new Error("a subject has no figure");
  reportBudgets([
    beside("authorised requests, beside nginx without auth", { figure: third, neighbour: first, ratioMin: 0.6 }),
    beside("authorised requests, beside @fastify/http-proxy without auth", {
      figure: third,
      neighbour: second,
      ratioMin: 1.8,
    }),
    {
      what: "stored and sealed audit, of each request",
      result: `${(third.cpuUs - fourth.cpuUs).toFixed(1)} µs of ${third.cpuUs.toFixed(1)} µs of processor time`,
      budget: `≤ ${auditUsMax} µs`,
      met: third.cpuUs - fourth.cpuUs <= auditUsMax,
    },
  ]);
});
