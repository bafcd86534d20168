/**
 * Fuzzing of our HTTP/2 connections to upstreams, beside those of `node:http2`, for as long as asked.
 *
 *     npm run fuzz:http2-upstreams -- --seconds 600 --seed 1
 *
 * `--connections node` runs the legal ones with `http2_connections: node`. A case that differs is printed with its
 * number; `--seed N --cases 1` runs it alone.
 */
import { parseArgs } from "node:util";
import { runCase, runLegalOnNode } from "../test/proxy/http2/upstream-fuzz/run-case.ts";
import { ScriptServer } from "../test/proxy/http2/upstream-fuzz/server.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: "1" },
    cases: { type: "string", default: "Infinity" },
    connections: { type: "string", default: "cardea" },
    failures: { type: "string", default: "1" },
  },
});
const server = new ScriptServer();
const port = await server.start();
const until = performance.now() + Number(values.seconds) * 1_000;
const counts = new Map<string, number>();
const first = Number(values.seed);
let seed = first;
let failures = 0;
for (; performance.now() < until && seed < first + Number(values.cases); seed++) {
  try {
    const outcome = await (values.connections === "node"
      ? runLegalOnNode(server, port, seed)
      : runCase(server, port, { seed }));
    if (outcome === undefined) continue;
    const { kind, complete, failed } = outcome;
    for (const [name, n] of Object.entries({ [kind]: 1, complete, failed }))
      counts.set(name, (counts.get(name) ?? 0) + n);
  } catch (error) {
    console.error((error as Error).message);
    server.end();
    if (++failures >= Number(values.failures)) break;
  }
}
server.close();
console.log(`${seed - first} cases, ${failures} differ: ${JSON.stringify(Object.fromEntries(counts))}`);
process.exitCode = failures === 0 ? 0 : 1;
