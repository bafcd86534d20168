/**
 * Bench: authorised HTTP requests through one proxy process on one core, beside Apache with mod_auth_openidc with one
 * worker process on the same core, in the same run. Both admit one group. The load at
 * Apache uses the session of a real sign-in through the demo provider.
 *
 *   node bench/proxy-apache.ts [--seconds 5] [--connections 64]
 */
import { parseArgs } from "node:util";
import { freePort } from "../test/support/free-port.ts";
import { startApacheOpenidc } from "./support/apache-openidc.ts";
import { reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { beside, byWrk, inRounds } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, connections: { type: "string", default: "64" } },
});
const connections = Number(values.connections);

await withStand(async (stand) => {
  const upstreamPort = await freePort();
  const conf = writeNginxConf(stand.folder, "upstream", helloServer(upstreamPort));
  await stand.start(coreOfLoad, "nginx", ["-c", conf], upstreamPort);
  const apache = await startApacheOpenidc(stand, { upstreamPort, connections });
  const cardea = await startCardea(stand, { upstreamPort });
  const [first, second] = await inRounds(
    [
      { name: "Apache mod_auth_openidc", url: `http://127.0.0.1:${apache.port}/`, ...apache },
      { name: "cardea, authorised", url: `http://127.0.0.1:${cardea.port}/`, ...cardea },
    ],
    { seconds: Number(values.seconds), rounds: 3 },
    byWrk(connections),
  );
  if (first === undefined || second === undefined) throw new Error("a subject has no figure");
  reportBudgets([
    beside("authorised requests, beside Apache mod_auth_openidc", { figure: second, neighbour: first, ratioMin: 2.5 }),
  ]);
});
