/**
 * Bench: authorised requests a second through one proxy process on one core with 10, 1,000 and 10,000 routes in its
 * configuration, each row beside the one with 10, in the same run.
 *
 * node bench/proxy-routes.ts [--seconds 5] [--connections 64]
 *
 * All routes belong to one host and differ in paths of three segments, which is the hard case: hosts are found by name.
 * Each has its own policy. Eight people's browsers send the requests (support/browsers.ts) to 797 routes across the
 * whole configuration, or to all if there are fewer.
 */
import { parseArgs } from "node:util";
import { freePort } from "../test/support/free-port.ts";
import { peopleCount, writeBrowserScript } from "./support/browsers.ts";
import { reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { beside, byWrk, inRounds, type Subject } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import { coreOfLoad, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, connections: { type: "string", default: "64" } },
});
const sizes = [10, 1_000, 10_000];
/** A prime number of routes, and steps between routes that share no factor with any size. */
const [visited, step] = [797, 7_919];

await withStand(async (stand) => {
  const upstreamPort = await freePort();
  const conf = writeNginxConf(stand.folder, "upstream", helloServer(upstreamPort));
  await stand.start(coreOfLoad, "nginx", ["-c", conf], upstreamPort);
  const subjects: Subject[] = [];
  for (const size of sizes) {
    const paths = Array.from({ length: size }, (_, n) => `/team-${n % 50}/service-${n}/v1/`);
    const routes = ({ from, to, policy }: Readonly<Record<"from" | "to" | "policy", string>>): string =>
      paths.map((prefix) => `  - {from: "${from}", to: "${to}", prefix: ${prefix}, policy: ${policy}}`).join("\n");
    const cardea = await startCardea(stand, { name: `cardea-${size}`, upstreamPort, routes, people: peopleCount });
    const prefixes = Array.from({ length: visited }, (_, n) => paths[(n * step) % size] ?? "/");
    const script = writeBrowserScript(stand.folder, `paths-${size}`, { ...cardea, prefixes });
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
  reportBudgets(
    more.map((figure) =>
      beside(`authorised requests with ${figure.name}, beside 10`, { figure, neighbour: first, ratioMin: null }),
    ),
  );
});
