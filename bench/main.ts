/**
 * `npm run bench`: runs every bench in turn, each beside its yardstick, then prints all budgets in one table. The exit
 * code is 1 when a bench failed, not when a budget was missed: a person who knows what else the machine was doing
 * decides what that means.
 *
 *   npm run bench [-- name …]      for example `npm run bench -- revoke append`
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { type Budget, budgetsIn, budgetTable } from "./support/budget.ts";

const rows = [
  "apache",
  "latency",
  "bodies",
  "websockets",
  "websocket-messages",
  "tls",
  "grpc",
  "upstream-http2",
  "routes",
];
const ofProxy = rows.map((row) => `proxy-${row}`);
const all = [
  "decide",
  "audit",
  "audit-postgres",
  "audit-seal",
  "audit-steady",
  "follower",
  "append",
  "append-sign-ins",
  "revoke",
  "followers",
  "hostile-nats",
  "proxy",
  "workers",
  ...ofProxy,
  "live-cut",
  "idle",
  "start",
  "sign-ins",
  "growth",
  "snapshot",
  "regions",
];
const [, , ...named] = process.argv;
const strangers = named.filter((name) => !existsSync(fileOf(name)));
if (strangers.length > 0) throw new Error(`there is no bench called ${strangers.join(", ")}`);

const budgets: Budget[] = [];
let failed = false;
for (const name of named.length > 0 ? named : all.filter((each) => existsSync(fileOf(each)))) {
  console.log(`\n--- bench/${name}.ts`);
  const child = fork(fileOf(name), { stdio: "inherit" });
  child.on("message", (message) => budgets.push(...budgetsIn(message)));
  const [code] = await once(child, "exit");
  if (code === 0) continue;
  failed = true;
  budgets.push({ what: `bench/${name}.ts`, result: `ended with ${code}`, budget: "", met: false });
}
console.log(`\n${budgetTable(budgets)}`);
process.exitCode = failed ? 1 : 0;

function fileOf(name: string): URL {
  return new URL(`${name}.ts`, import.meta.url);
}
