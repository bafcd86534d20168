/**
 * Audit outage: NATS and the file of one proxy's audit records are away for minutes, under steady traffic.
 *
 *   npm run chaos:audit-outage                         30 minutes at 100 requests a second
 *   npm run chaos:audit-outage -- --minutes N --per-second R
 *
 * The cluster is real. Afterwards it measures how long each sink needs to have everything, and compares the clients'
 * own histories with both sinks: records and declared gaps account for every answer. Exit codes: 0 no violation,
 * 1 a violation, 2 usage error, 3 it could not run.
 */
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { ensureServices } from "../scripts/ensure-services.ts";
import { TemporaryFolder } from "../test/support/child.ts";
import type { ClusterProcess } from "./cluster/cluster-process.ts";
import { type Topology, topologies } from "./cluster/topology.ts";
import { checkHistory } from "./judge/checker.ts";
import { buildProgram } from "./program.ts";
import { auditFiguresOf, formatAuditFigures } from "./report/audit-figures.ts";
import { judgeOptions } from "./run/judge-run.ts";
import { metricIn } from "./run/metric.ts";
import { runOnStage, type Seen, type Stage } from "./run/stage.ts";

const usage = "usage: npm run chaos:audit-outage -- [--minutes N] [--per-second R]     N to 240, R to 1000";
const violationsPrinted = 10;
const pollEveryMs = 100;
const sayEveryMs = 60_000;
const recoversWithinMs = 600_000;
const beforeMs = 5_000;
/** A sink that has all but what was decided in the last moments has caught up. */
const caughtUpMs = 1_000;

type Wanted = Readonly<{ minutes: number; perSecond: number }>;

process.exit(await main()); // open handles must not keep the process alive

async function main(): Promise<number> {
  const wanted = readArguments();
  if (wanted === undefined) {
    console.error(usage);
    return 2;
  }
  if (!(await ensureServices("stores")) || !buildProgram()) return 3;
  using folder = new TemporaryFolder("audit-outage");
  const topology = topologyFor(wanted);
  try {
    const seen = await runOnStage({
      topology,
      seed: 1,
      folder: folder.path,
      weakened: null,
      smallDisks: false, // they are for half an hour too small
      print: (line) => console.log(line),
      act: (stage) => breakSinks(stage, wanted),
    });
    return judge(seen, topology);
  } catch (error) {
    console.error(error);
    return 3;
  }
}

function readArguments(): Wanted | undefined {
  try {
    const { values } = parseArgs({
      options: { minutes: { type: "string", default: "30" }, "per-second": { type: "string", default: "100" } },
    });
    const wanted = { minutes: Number(values.minutes), perSecond: Number(values["per-second"]) };
    const isValid = wanted.minutes > 0 && wanted.minutes <= 240 && wanted.perSecond >= 1 && wanted.perSecond <= 1_000;
    return isValid ? wanted : undefined;
  } catch {
    return undefined;
  }
}

/** One proxy, and little beside plain requests. */
function topologyFor({ perSecond }: Wanted): Topology {
  return {
    ...topologies["one-region"],
    regions: [{ name: "eu", kind: "home", brokers: 1, proxies: 1, natsServers: 1, databases: 2 }],
    load: { perSecond, plainPerNode: 20, downloadsPerNode: 1, socketsPerNode: 4, slowReadersPerNode: 1 },
    sessions: 60,
    answersPerSecondMin: perSecond / 2,
  };
}

async function breakSinks({ cluster, faults, say }: Stage, { minutes }: Wanted): Promise<void> {
  const [proxy] = cluster.proxies;
  if (proxy === undefined) throw new RangeError("the cluster has a proxy");
  await delay(beforeMs);
  const nats = await faults.begin({ kind: "kill-all-nats", target: cluster.home.name, scenario: null });
  const file = await faults.begin({ kind: "block-audit-file", target: proxy.name, scenario: null });
  const until = performance.now() + minutes * 60_000;
  while (performance.now() < until) {
    await delay(Math.min(sayEveryMs, Math.max(0, until - performance.now())));
    say((await samplesOf(proxy)).map(describe).join("; "));
  }
  const before = await samplesOf(proxy);
  const healedAt = performance.now();
  await Promise.all([
    file.heal().then(() => recovered(proxy, "file", { before, healedAt, say })),
    nats.heal().then(() => recovered(proxy, "nats", { before, healedAt, say })),
  ]);
  await delay(beforeMs);
}

type Sample = Readonly<{ sink: "file" | "nats"; queued: number; written: number; lagMs: number; spoolBytes: number }>;

/** A busy machine may need several attempts. */
async function samplesOf(proxy: ClusterProcess): Promise<readonly Sample[]> {
  const page = await proxy.metrics().catch(() => null);
  if (page === null) {
    await delay(pollEveryMs);
    return samplesOf(proxy);
  }
  const value = (name: string, sink: string): number => metricIn(page, name, { sink }) ?? Number.NaN;
  const names = { file: `file ${proxy.auditFile}`, nats: "nats" };
  return (["file", "nats"] as const).map((sink) => ({
    sink,
    queued: value("cardea_audit_sink_queued_records", names[sink]),
    written: value("cardea_audit_sink_written_records", names[sink]),
    lagMs: value("cardea_audit_sink_lag_seconds", names[sink]) * 1_000,
    spoolBytes: metricIn(page, "cardea_audit_spool_bytes") ?? Number.NaN,
  }));
}

function describe({ sink, queued, lagMs, spoolBytes }: Sample): string {
  return `${queued} records wait for ${sink}, the oldest for ${(lagMs / 1_000).toFixed(0)} s, in ${(spoolBytes / 1e6).toFixed(1)} MB`;
}

async function recovered(
  proxy: ClusterProcess,
  sink: Sample["sink"],
  { before, healedAt, say }: Readonly<{ before: readonly Sample[]; healedAt: number; say: Stage["say"] }>,
): Promise<void> {
  const from = before.find((each) => each.sink === sink);
  let firstAt = Number.NaN;
  while (performance.now() - healedAt < recoversWithinMs) {
    const now = (await samplesOf(proxy)).find((each) => each.sink === sink);
    const at = performance.now();
    if (from !== undefined && now !== undefined) {
      if (Number.isNaN(firstAt) && now.written > from.written) firstAt = at;
      if (now.written > from.written && now.lagMs < caughtUpMs) {
        const count = now.written - from.written;
        const perSecond = count / ((at - firstAt + pollEveryMs) / 1_000);
        const after = ((at - healedAt) / 1_000).toFixed(1);
        const begun = ((firstAt - healedAt) / 1_000).toFixed(1);
        say(
          `${sink} has everything ${after} s after its return: ${count} records from ${begun} s on, ${perSecond.toFixed(0)}/s`,
        );
        return;
      }
    }
    await delay(pollEveryMs);
  }
  say(`${sink} had not caught up after ${recoversWithinMs / 1_000} s`);
}

function judge({ history, ending }: Seen, topology: Topology): number {
  const { violations } = checkHistory(history, ending, judgeOptions(topology));
  for (const { what } of violations.slice(0, violationsPrinted)) console.log(`✖ ${what}`);
  if (ending.audit !== null) console.log(`audit: ${formatAuditFigures(auditFiguresOf(ending.audit))}`);
  const answered = history.request.filter(({ outcome }) => outcome === "answered").length;
  const verdict = violations.length === 0 ? "no violation" : `${violations.length} VIOLATIONS`;
  console.log(`audit outage: ${verdict}; ${answered} answers judged, ${history.command.length} commands`);
  return violations.length === 0 ? 0 : 1;
}
