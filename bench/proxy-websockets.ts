/**
 * Bench: the resident memory per idle WebSocket of one proxy process, beside nginx `proxy_pass` without authentication.
 *
 *   node bench/proxy-websockets.ts [--count 10000]
 *
 * A proxy holds two sockets per WebSocket, so the limit on open files bounds the count. If it is too low, the bench
 * opens as many as fit and prints the number. It first opens and closes some, so that one-time costs do not count. At
 * the end each WebSocket carries a message, which proves that all are alive, and memory is measured again.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { writeNginxConf } from "./support/nginx-conf.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, type Stand, withStand } from "./support/stand.ts";
import type { CrowdAnswer, CrowdOrder } from "./support/websocket-crowd.ts";

const { values } = parseArgs({ options: { count: { type: "string", default: "10000" } } });
const bytesEachMax = 15 * 1_024;
const warmUp = 500;
/** Open files of a proxy besides the sockets. */
const otherFiles = 200;
/** Lets memory settle: an almost idle V8 returns spare memory 8 s after its last collection. */
const settleMs = 20_000;
const filesMax = Number(execFileSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }).replace("unlimited", "1e9"));
const count = Math.min(Number(values.count), Math.floor((filesMax - otherFiles) / 2));

type Subject = Readonly<{ name: string; port: number; headers: readonly string[]; pinned: Pinned }>;
type Seen = Readonly<{ idle: number; spoken: number }>;

await withStand(async (stand) => {
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const server = new URL("./support/websocket-echo-server.ts", import.meta.url).pathname;
  await stand.start(coreOfLoad, process.execPath, [server, String(upstream)], upstream);
  const passing = `server { listen 127.0.0.1:${nginx} backlog=4096; location / { proxy_pass http://127.0.0.1:${upstream}; proxy_http_version 1.1;
    proxy_read_timeout 1h; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host; } }`;
  const conf = writeNginxConf(stand.folder, "proxy", passing);
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", conf], nginx);
  const cardea = await startCardea(stand, { upstreamPort: upstream, route: ["allow_websockets: true"] });
  console.log(
    `${whole(count)} WebSockets${count < Number(values.count) ? `: the limit here is ${filesMax} open files` : ""}`,
  );
  const budgets: Budget[] = [];
  for (const subject of [
    { name: "nginx", port: nginx, headers: [`Host: 127.0.0.1:${nginx}`], pinned: nginxProcess },
    { name: "cardea", ...cardea },
  ]) {
    const { idle, spoken } = await crowd(stand, subject);
    const [idleText, spokenText] = [idle, spoken].map((bytes) => `${(bytes / 1_024).toFixed(1)} KB`);
    const promised = subject.name === "cardea";
    budgets.push({
      what: `one of ${whole(count)} idle WebSockets, ${subject.name}`,
      result: `${idleText} (${spokenText} when each has carried a message)`,
      budget: promised ? `≤ ${bytesEachMax / 1_024} KB` : "",
      met: promised ? Math.max(idle, spoken) <= bytesEachMax : null,
    });
  }
  reportBudgets(budgets);
});

/** Bytes per WebSocket. */
async function crowd(stand: Stand, { name, port, headers, pinned }: Subject): Promise<Seen> {
  const program = new URL("./support/websocket-crowd.ts", import.meta.url).pathname;
  const child = spawn("taskset", ["-c", coreOfLoad, process.execPath, program], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  stand.atEnd(async () => void child.kill("SIGKILL"));
  await order(child, { type: "open", count: warmUp, port, headers });
  await order(child, { type: "say" });
  await order(child, { type: "close" });
  await sleep(settleMs);
  const before = pinned.rssBytes();
  const open = await order(child, { type: "open", count, port, headers });
  if (open !== count) throw new Error(`${open} of ${count} are open`);
  await sleep(settleMs);
  const idle = pinned.rssBytes();
  await order(child, { type: "say" });
  await sleep(settleMs);
  const spoken = pinned.rssBytes();
  const mega = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MB`;
  console.log(
    `${name.padEnd(7)} resident ${mega(before)} before, ${mega(idle)} with all open, ${mega(spoken)} when each has carried a message`,
  );
  await order(child, { type: "close" });
  child.disconnect();
  return { idle: (idle - before) / count, spoken: (spoken - before) / count };
}

/** @returns how many are open once it is done */
async function order(child: ChildProcess, what: CrowdOrder): Promise<number> {
  const answered = once(child, "message") as Promise<[CrowdAnswer]>;
  const ended = once(child, "exit").then(() => {
    throw new Error("the crowd has ended");
  });
  child.send(what);
  const [{ open }] = await Promise.race([answered, ended]);
  return open;
}
