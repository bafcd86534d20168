/**
 * Bench: pages of the console of a node with 100,000 sessions and 10,000 routes: the server's time for a page, and the
 * longest piece of work between two turns of the event loop, which is what a request meanwhile waits. Beside them the
 * price of a request to the operator API that stays within the process.
 *
 *   node bench/console.ts [--sessions 100000] [--routes 10000] [--rounds 20] [--paths /,/decisions]
 *
 * A real broker with its log in memory, a node, and the authenticate host in one process. All is measured in processor
 * time of the main thread, which other processes on the machine do not lengthen. Budgets: 30 ms a page, 5 ms a piece.
 */
import { randomUUID } from "node:crypto";
import type { TestContext } from "node:test";
import { parseArgs } from "node:util";
import type { FastifyInstance } from "fastify";
import { consoleViews } from "../src/console/views/register-console.ts";
import { type CommandId, type CommandResult, type SessionId, type UnixMs, userIdOf } from "../src/events/index.ts";
import { compiled, route, source } from "../test/auth/authorize/support.ts";
import { type OperatorWorld, startOperatorWorld } from "../test/console/api/operator-support.ts";
import { type Budget, reportBudgets } from "./support/budget.ts";
import { percentile } from "./support/histogram.ts";

const { values } = parseArgs({
  options: {
    sessions: { type: "string", default: "100000" },
    routes: { type: "string", default: "10000" },
    rounds: { type: "string", default: "20" },
    paths: { type: "string" },
  },
});
const [sessions, routes, rounds] = [Number(values.sessions), Number(values.routes), Number(values.rounds)];
const pageMsMax = 30;
const pieceMsMax = 5;
const atOnce = 256;
const issuer = "https://idp.example.com";

const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
};
const ends: (() => unknown)[] = [];
const scope = { after: (end: () => unknown) => void ends.push(end) } as unknown as TestContext;
const policy = compiled(route({ id: "r", policy: source({ allow: { and: [{ groups: { has: "group-7" } }] } }) })).get(
  "r" as never,
);
if (policy === undefined) throw new Error("the policy does not compile");
let app: FastifyInstance | undefined;
const world = await startOperatorWorld(scope, {
  console: {},
  plugins: [
    (built) => {
      app = built;
    },
  ],
  routes: Array.from({ length: routes }, (_, n) => ({
    ...{ id: `route-${n}`, from: `https://app-${n}.example.com/`, policy, routeGroups: ["all"] },
  })),
});
await fill(world);
const headers = { authorization: `Bearer ${await world.token({ ttlS: 3_600 })}`, accept: "text/html" };
const paths =
  values.paths?.split(",") ?? consoleViews.filter(({ path }) => !path.includes(":")).map(({ path }) => path);
const budgets: Budget[] = [];
for (const path of paths) {
  const { ms, pieceMs, status } = await measure(`/.pomerium/admin${path}`);
  console.log(
    `${path.padEnd(24)} ${status}  p50 ${percentile(ms, 50).toFixed(1)} ms, p95 ${percentile(ms, 95).toFixed(1)} ms, first ${ms[0]?.toFixed(1)} ms, longest piece ${pieceMs.toFixed(1)} ms`,
  );
  const [page, piece] = [percentile(ms.slice(1), 95), pieceMs];
  budgets.push(
    {
      what: `console ${path}, p95`,
      result: `${page.toFixed(1)} ms`,
      budget: `≤ ${pageMsMax} ms`,
      met: page <= pageMsMax,
    },
    {
      what: `console ${path}, longest piece`,
      result: `${piece.toFixed(1)} ms`,
      budget: `≤ ${pieceMsMax} ms`,
      met: piece <= pieceMsMax,
    },
  );
}
const api = await measure("/.pomerium/admin/api/v1/counts", 500);
console.log(
  `GET /counts within the process: p50 ${percentile(api.ms, 50).toFixed(2)} ms, p95 ${percentile(api.ms, 95).toFixed(2)} ms`,
);
reportBudgets(budgets);
for (const end of ends.reverse()) await end();
process.exit();

/** Ten sessions a person. */
async function fill({ world: { broker, replica, operator } }: OperatorWorld): Promise<void> {
  const beganAt = performance.now();
  const databroker = broker.databroker("authenticate");
  for (let from = 0; from < sessions; from += atOnce)
    refuse(
      await Promise.all(
        Array.from({ length: Math.min(atOnce, sessions - from) }, (_, i) => {
          const person = Math.floor((from + i) / 10);
          const subject = `person-${person}`;
          const now = Date.now();
          return databroker.submit({
            commandId: randomUUID() as CommandId,
            actor: "service:authenticate",
            command: {
              type: "createSession",
              sessionId: randomUUID() as string as SessionId,
              userId: userIdOf(issuer, subject),
              idpId: "demo",
              issuedAt: now as UnixMs,
              expiresAt: (now + 36_000_000) as UnixMs,
              profile: {
                issuer,
                subject,
                email: `${subject}@example.com`,
                emailVerified: true,
                name: `Person ${person}`,
                claims: {},
              },
              tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
              groupIds: [`group-${person % 200}`] as never,
              maxSessionsPerUser: 1_000,
            },
          });
        }),
      ),
    );
  const { leader } = await operator.status();
  if (leader !== null) await replica.waitFor(leader.head, 60_000);
  console.log(`${sessions} sessions in ${((performance.now() - beganAt) / 1_000).toFixed(1)} s`);
}

function refuse(results: readonly CommandResult[]): void {
  const bad = results.find(({ type }) => type !== "done");
  if (bad !== undefined) throw new Error(JSON.stringify(bad));
}

/** Pages for their time, and others for their pieces: watching the turns takes time itself. */
async function measure(
  url: string,
  times = rounds,
): Promise<Readonly<{ ms: number[]; pieceMs: number; status: number }>> {
  const ms: number[] = [];
  let status = 0;
  for (let round = 0; round < times; round++) {
    const beganAt = cpuMs();
    const answer = await app?.inject({ url, headers });
    ms.push(cpuMs() - beganAt);
    status = answer?.statusCode ?? 0;
  }
  let pieceMs = 0;
  for (let round = 0; round < times; round++) {
    let isOver = false;
    const turns = (async () => {
      for (let before = cpuMs(); !isOver; ) {
        await new Promise((resolve) => setImmediate(resolve));
        const now = cpuMs();
        pieceMs = Math.max(pieceMs, now - before);
        before = now;
      }
    })();
    await app?.inject({ url, headers });
    isOver = true;
    await turns;
  }
  return { ms, pieceMs, status };
}
