/**
 * Bench: WebSocket messages through one proxy process on one core, beside nginx `proxy_pass` with upgrade and without
 * authentication: by rate, and by the proxy's processor time for a message and its echo.
 *
 *   node bench/proxy-websocket-messages.ts [--seconds 4] [--rounds 3] [--connections 64] [--against <other main.ts>]
 *
 * Callers and upstream are one process on the other core (support/websocket-load.ts). Several messages are on their way
 * on each connection, and no two are equal. The rounds alternate; the median counts. The load is busy for the printed
 * share of its core: near 100 % the rate is the load's, and processor time alone compares.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { parseArgs } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { type Budget, reportBudgets, whole } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { writeNginxConf } from "./support/nginx-conf.ts";
import { cpuMsOf, type Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";
import type { LoadOrder, LoadResult } from "./support/websocket-load.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "4" },
    rounds: { type: "string", default: "3" },
    connections: { type: "string", default: "64" },
    against: { type: "string" },
  },
});
const goal = 0.6;
const sizes = [
  { payload: 64, window: 8 },
  { payload: 4_096, window: 4 },
] as const;

type Subject = Readonly<{ name: string; port: number; headers: readonly string[]; pinned: Pinned }>;
/** Messages a second, and microseconds of the proxy for each. */
type Figure = Readonly<{ rate: number; micros: number }>;

await withStand(async (stand) => {
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const program = new URL("./support/websocket-load.ts", import.meta.url).pathname;
  const load = fork(program, [String(upstream)], {
    execPath: "taskset",
    execArgv: ["-c", coreOfLoad, process.execPath],
  });
  stand.atEnd(async () => void load.kill("SIGKILL"));
  const passing = `server { listen 127.0.0.1:${nginx} backlog=4096; location / { proxy_pass http://127.0.0.1:${upstream}; proxy_http_version 1.1;
    proxy_read_timeout 1h; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host; } }`;
  const conf = writeNginxConf(stand.folder, "proxy", passing);
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", conf], nginx);
  const route = ["allow_websockets: true"];
  const subjects: Subject[] = [
    { name: "nginx", port: nginx, headers: [`Host: 127.0.0.1:${nginx}`], pinned: nginxProcess },
    { name: "cardea", ...(await startCardea(stand, { upstreamPort: upstream, route })) },
  ];
  if (values.against !== undefined) {
    const options = { upstreamPort: upstream, route, name: "against", program: values.against };
    subjects.push({ name: "against", ...(await startCardea(stand, options)) });
  }
  const budgets: Budget[] = [];
  for (const size of sizes) {
    const figures = new Map<string, Figure[]>(subjects.map(({ name }) => [name, []]));
    for (let round = 0; round <= Number(values.rounds); round++)
      for (const { name, port, headers, pinned } of subjects) {
        const ms = round === 0 ? 1_000 : Number(values.seconds) * 1_000;
        const order: LoadOrder = { port, headers, connections: Number(values.connections), ...size, ms };
        const cpuBefore = pinned.cpuMs();
        const busyBefore = cpuMsOf(load.pid ?? 0);
        load.send(order);
        const [result] = (await once(load, "message")) as [LoadResult];
        const busy = (cpuMsOf(load.pid ?? 0) - busyBefore) / result.ms;
        const rate = (result.messages / result.ms) * 1_000;
        const micros = ((pinned.cpuMs() - cpuBefore) / result.messages) * 1_000;
        if (round > 0) figures.get(name)?.push({ rate, micros });
        console.log(
          `${String(size.payload).padStart(5)} B  ${name.padEnd(7)} ${whole(rate).padStart(9)}/s  ${micros.toFixed(2).padStart(6)} µs each  load busy ${whole(busy * 100)} %`,
        );
      }
    budgets.push(...budgetsOf(size.payload, figures));
  }
  reportBudgets(budgets);
});

function budgetsOf(payload: number, figures: ReadonlyMap<string, readonly Figure[]>): readonly Budget[] {
  const of = (name: string, what: keyof Figure): number => {
    const sorted = (figures.get(name) ?? []).map((figure) => figure[what]).sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? Number.NaN;
  };
  const row = (what: string, ratio: number, detail: string): Budget => ({
    what: `WebSocket messages of ${payload} B, ${what}, beside nginx`,
    result: `${ratio.toFixed(2)} × (${detail})`,
    budget: `≥ ${goal} ×`,
    met: ratio >= goal,
  });
  const [rate, micros] = [of("cardea", "rate"), of("cardea", "micros")];
  return [
    row("by rate", rate / of("nginx", "rate"), `${whole(rate)}/s`),
    row(
      "by processor time",
      of("nginx", "micros") / micros,
      `${micros.toFixed(2)} µs beside ${of("nginx", "micros").toFixed(2)}`,
    ),
  ];
}
