/**
 * Bench: one authorised HTTP request through one proxy process on one core, beside nginx `proxy_pass` and @fastify/http-proxy,
 * both without any authentication, in the same run. Session, policy, signed assertion and audit are on.
 *
 *   node bench/proxy.ts [--seconds 5] [--connections 64]
 *
 * Once more with requests and answers of which none is like the one before it, which nothing that the proxy remembers helps with.
 *
 * The proxy under test has one core to itself; the upstream (nginx) and the load (wrk) share another. Rounds take turns, so
 * that a machine that grows busy slows all three. Prints requests a second, p50 and p99, and the ratios, which are what counts.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { tellBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { beside, byWrk, inRounds } from "./support/load.ts";
import { helloServer, passingServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, connections: { type: "string", default: "64" } },
});

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
  const cardea = await startCardea(stand, { upstreamPort: upstream });

  const url = (port: number): string => `http://127.0.0.1:${port}/`;
  const how = { seconds: Number(values.seconds), rounds: 3 };
  const load = byWrk(Number(values.connections));
  const [first, second, third] = await inRounds(
    [
      { name: "nginx proxy_pass, no auth", url: url(nginx), headers: [], pinned: nginxProcess },
      { name: "@fastify/http-proxy, no auth", url: url(yardstick), headers: [], pinned: yardstickProcess },
      { name: "cardea, authorised", url: url(cardea.port), headers: cardea.headers, pinned: cardea.pinned },
    ],
    how,
    load,
  );
  const script = join(folder, "items.lua");
  writeFileSync(script, 'local n = 0\nrequest = function() n = n + 1; return wrk.format("GET", "/item/" .. n) end\n');
  const [fourth, fifth] = await inRounds(
    [
      { name: "nginx, nothing alike", url: url(nginx), headers: [], pinned: nginxProcess, script },
      { name: "cardea, nothing alike", url: url(cardea.port), headers: cardea.headers, pinned: cardea.pinned, script },
    ],
    how,
    load,
  );
  if (first === undefined || second === undefined || third === undefined || fourth === undefined || fifth === undefined)
    throw new Error("a subject has no figure");
  tellBudgets([
    beside("authorised requests, beside nginx without auth", { seen: third, neighbour: first, ratioMin: 0.6 }),
    beside("authorised requests, beside @fastify/http-proxy without auth", {
      seen: third,
      neighbour: second,
      ratioMin: 1.8,
    }),
    beside("each request and answer another, beside nginx without auth", {
      seen: fifth,
      neighbour: fourth,
      ratioMin: null,
    }),
  ]);
});
