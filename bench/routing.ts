/**
 * Bench: finding the route of a request among 10, 1,000 and 10,000, beside a linear search.
 *
 *   node bench/routing.ts
 *
 * Routes of one host with a path of three segments each, which is the hard case: hosts are found by name. Prints
 * nanoseconds and ratios.
 */
import { compileRouteTable } from "../src/proxy/index.ts";
import { route } from "../test/auth/authorize/support.ts";

const lookups = 200_000;
let smallest = Number.NaN;
for (const count of [10, 1_000, 10_000]) {
  const paths = Array.from({ length: count }, (_, n) => `/team-${n % 50}/service-${n}/v1`);
  const routes = paths.map((value, n) => route({ id: String(n), match: { kind: "prefix", value } }));
  const compiled = compileRouteTable(routes);
  const requestPaths = Array.from({ length: 997 }, (_, n) => `${paths[(n * 7_919) % count]}/items/${n}`);
  const tree = time(lookups, (n) =>
    compiled.match({ hostname: "app.example", port: null, path: requestPaths[n % 997] ?? "" }),
  );
  const oneByOne = time(Math.ceil(lookups / Math.sqrt(count)), (n) => {
    const path = requestPaths[n % 997] ?? "";
    return routes.find(({ match }) => path.startsWith(match.value));
  });
  if (Number.isNaN(smallest)) smallest = tree;
  console.log(
    `${String(count).padStart(6)} routes   ${tree.toFixed(0)} ns   ${(tree / smallest).toFixed(2)} × the first row   one by one ${oneByOne.toFixed(0)} ns (${(oneByOne / tree).toFixed(1)} ×)`,
  );
}

/** Nanoseconds per call, the best of five. */
function time(calls: number, call: (n: number) => unknown): number {
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const started = process.hrtime.bigint();
    for (let n = 0; n < calls; n++) if (call(n) === undefined) throw new Error("no route");
    best = Math.min(best, Number(process.hrtime.bigint() - started) / calls);
  }
  return best;
}
