/** Judge run: one run on a cluster of its own, its verdict, and its report. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { renderRunReport } from "../../src/cli/drill/report/report-page.ts";
import { parseUnixMs } from "../../src/events/index.ts";
import { TemporaryFolder } from "../../test/support/child.ts";
import type { Keep } from "../arguments.ts";
import { authenticateOf, regionOf, type Topology } from "../cluster/topology.ts";
import { natsIn } from "../faults/fault-kinds.ts";
import type { Plan } from "../faults/plan.ts";
import type { TrafficOptions } from "../judge/check-traffic.ts";
import { checkHistory } from "../judge/checker.ts";
import { areOnlyLate } from "../judge/violation.ts";
import { auditFiguresOf, formatAuditFigures } from "../report/audit-figures.ts";
import { measure } from "../report/measure.ts";
import { type RecordParts, recordOf } from "../report/record.ts";
import { formatWaited, type ReportParts, report, summaryLine } from "../report/report.ts";
import { groupOf, isFirstMember, isStrict, windowMsOf } from "../world.ts";
import { runOnStage, type Seen, type StageOptions } from "./stage.ts";

export type RunToJudge = Pick<StageOptions, "topology" | "seed" | "weakened" | "act"> &
  Readonly<{
    name: string;
    purpose: string;
    /** What runs the same again. */
    command: string;
    /** Null: scenarios decide what is broken. */
    plan: Plan | null;
    keep: Keep;
  }>;

/**
 * How late a reader's event loop may stamp bytes that had reached its machine before a cut. A longer stall is recorded
 * and excuses more.
 */
const allowanceMs = 250;
/**
 * The most bytes that the kernel of a stopped process may still send on one connection: docs/receipts.md,
 * docs/adr/0032.
 */
const kernelBytesMax = 81_920;
const violationsPrinted = 10;

export function judgeOptions(topology: Topology): TrafficOptions {
  return {
    groupOf,
    windowMsOf,
    isFirstMember,
    regionOf: (node) => regionOf(topology, node),
    home: topology.regions.find(({ kind }) => kind === "home")?.name ?? "",
    isStrict,
    operatorNodeOf: (region) => authenticateOf({ name: region }),
    allowanceMs,
    kernelBytesMax,
    clients: "load",
    upstream: "upstream",
  };
}

/** @returns 0 no violation, 1 a violation, 3 it could not run, 4 nothing worse than that it took too long */
export async function judgeRun(run: RunToJudge, reportsFolder: string): Promise<number> {
  const { plan, topology } = run;
  const size = plan === null ? "" : `: ${plan.faults.length} faults in ${plan.seconds} s`;
  console.log(`${run.name}${size}, ${topology.name}`);
  mkdirSync(reportsFolder, { recursive: true });
  if (plan !== null) writeFileSync(join(reportsFolder, `${run.name}.plan.json`), JSON.stringify(plan, null, 2));
  using folder = new TemporaryFolder("chaos");
  const print = (line: string): void => console.log(line);
  try {
    const seen = await runOnStage({ ...run, smallDisks: true, folder: folder.path, print });
    return reportRun(run, seen, { reportsFolder, folder: folder.path });
  } catch (error) {
    console.error(error);
    console.log(`chaos ${run.name}: could not run: ${error instanceof Error ? error.message : String(error)}`);
    keepFiles(run.name, { reportsFolder, folder: folder.path });
    return 3;
  }
}

type Folders = Readonly<{ reportsFolder: string; folder: string }>;

function reportRun(run: RunToJudge, seen: Seen, folders: Folders): number {
  const { history, ending, restarts, startedAt } = seen;
  const { name, command, plan, topology } = run;
  const options = judgeOptions(topology);
  const { violations } = checkHistory(history, ending, options);
  const parts: ReportParts = {
    name,
    command,
    plan,
    history,
    ending,
    violations,
    restarts,
    startedAt,
    weakened: run.weakened?.rule ?? null,
    measures: measure(history, options),
    takeovers: Math.max(0, (ending.log ?? []).filter(({ type }) => type === "EpochOpened").length - 1),
  };
  const summary = summaryLine(parts);
  const file = (ending: string): string => join(folders.reportsFolder, `${name}${ending}`);
  writeFileSync(file(".md"), report(parts));
  const record = recordOf(recordPartsOf(run, seen, { parts, summary }));
  writeFileSync(file(".json"), JSON.stringify(record));
  writeFileSync(file(".html"), renderRunReport(record));
  if (run.keep === "always" || (violations.length > 0 && run.weakened === null)) keepFiles(name, folders);
  for (const { what } of violations.slice(0, violationsPrinted)) console.log(`✖ ${what}`);
  const { records } = ending;
  if (records !== null) console.log(`audit: ${records.verified} numbers in files match ${records.seals} seals`);
  if (ending.audit !== null) console.log(`audit: ${formatAuditFigures(auditFiguresOf(ending.audit))}`);
  console.log(`report: chaos/reports/${name}.html, .md, .json`);
  console.log(summary);
  if (violations.length === 0) return 0;
  return areOnlyLate(violations) ? 4 : 1;
}

const kinds = { databroker: "broker", authenticate: "authenticate", proxy: "proxy" } as const;

function recordPartsOf(
  { name, purpose, command, plan, topology, weakened }: RunToJudge,
  { history, startedAt, startedAtMs, endedAt, processes }: Seen,
  { parts, summary }: Readonly<{ parts: ReportParts; summary: string }>,
): RecordParts {
  const nats = topology.regions.flatMap((region) =>
    natsIn(region).map((server) => ({ name: server, region: region.name })),
  );
  const facts = [
    { name: "Takeovers", value: String(parts.takeovers) },
    { name: "Restarts because a dependency was down", value: String(parts.restarts) },
    { name: "Our own processes waited for a processor", value: formatWaited(parts.measures.waitedPerMs) },
    ...(weakened === null ? [] : [{ name: "Removed rule", value: weakened.rule }]),
  ];
  return {
    name,
    purpose,
    command,
    seed: plan?.seed ?? null,
    version: versionOf(),
    topology,
    processes: [
      ...processes.map((each) => ({
        name: each.name,
        kind: kinds[each.service],
        region: each.region,
      })),
      ...nats.map((each) => ({ ...each, kind: "nats" as const })),
    ],
    history,
    violations: parts.violations,
    startedAt,
    startedAtMs: parseUnixMs(startedAtMs),
    endedAt,
    facts,
    summary,
  };
}

function versionOf(): string {
  const text = readFileSync(join(import.meta.dirname, "../../package.json"), "utf8");
  return /"version": "([^"]+)"/.exec(text)?.[1] ?? "unknown";
}

/** The output of the processes and their audit records, without their other data and secrets. */
function keepFiles(name: string, { reportsFolder, folder }: Folders): void {
  const left = new Set(["data", "compile-cache"]);
  const filter = (from: string): boolean => !left.has(basename(from)) && !from.endsWith(".yaml");
  cpSync(folder, join(reportsFolder, name), { recursive: true, filter });
  const data = join(folder, "data");
  for (const process of existsSync(data) ? readdirSync(data) : []) {
    const audit = join(data, process, "audit");
    if (existsSync(audit)) cpSync(audit, join(reportsFolder, name, "audit", process), { recursive: true });
  }
}
