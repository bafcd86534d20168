/**
 * Bench: authorised requests a second through one proxy process on one core with 10, 1,000 and 10,000 routes in its configuration, each row beside
 * the one with 10, in the same run.
 *
 *   node bench/proxy-routes.ts [--seconds 5] [--connections 64]
 *
 * All routes are of one host and differ in paths of three segments, which is the hard case: hosts are found by name. Each has a policy of its
 * own. Requests go to 997 routes that lie all over the configuration, as far as there are so many, with something below the route's path.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { freePort } from "../test/support/free-port.ts";
import { tellBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { beside, byWrk, inRounds, type Subject } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, connections: { type: "string", default: "64" } },
});
const sizes = [10, 1_000, 10_000];
/** A prime number of requests, and steps between routes that share no factor with any size. */
const [asked, step] = [997, 7_919];

await withStand(async (stand) => {
  const upstreamPort = await freePort();
  const conf = writeNginxConf(stand.folder, "upstream", helloServer(upstreamPort));
  await stand.start(coreOfLoad, "nginx", ["-c", conf], upstreamPort);
  const subjects: Subject[] = [];
  for (const size of sizes) {
    const paths = Array.from({ length: size }, (_, n) => `/team-${n % 50}/service-${n}/v1/`);
    const routes = ({ from, to, policy }: Readonly<Record<"from" | "to" | "policy", string>>): string =>
      paths.map((prefix) => `  - {from: "${from}", to: "${to}", prefix: ${prefix}, policy: ${policy}}`).join("\n");
    const cardea = await startCardea(stand, { name: `cardea-${size}`, upstreamPort, routes });
    const script = join(stand.folder, `paths-${size}.lua`);
    const targets = Array.from({ length: asked }, (_, n) => `"${paths[(n * step) % size]}items/${n}"`);
    writeFileSync(
      script,
      `local n, paths = 0, {${targets.join(",")}}
request = function() n = n % #paths + 1; return wrk.format("GET", paths[n]) end\n`,
    );
    subjects.push({
      name: `${size.toLocaleString("en")} routes`,
      url: `http://127.0.0.1:${cardea.port}/`,
      script,
      ...cardea,
    });
  }
  const how = { seconds: Number(values.seconds), rounds: 3 };
  const [first, ...more] = await inRounds(subjects, how, byWrk(Number(values.connections)));
  if (first === undefined) throw new Error("there is no first row");
  tellBudgets(
    more.map((seen) =>
      beside(`authorised requests with ${seen.name}, beside 10`, { seen, neighbour: first, ratioMin: null }),
    ),
  );
});
