/** `cardea drill list|run` */
import { accessSync, constants, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Drill } from "../drill/drill.ts";
import { readDrillFile } from "../drill/drill-file.ts";
import { DrillStoppedError } from "../drill/drill-run.ts";
import { drillText, listText, planText, verdictText } from "../drill/drill-text.ts";
import { drills } from "../drill/drills/index.ts";
import { hookOf } from "../drill/hook.ts";
import { createDrillOperator } from "../drill/operator-changes.ts";
import { type DrillLimits, metricsReader, prepareDrill } from "../drill/preflight.ts";
import { createProbeClient } from "../drill/probe-client.ts";
import { renderRunReport } from "../drill/report/report-page.ts";
import { runDrill } from "../drill/run-drill.ts";
import type { RunRecord } from "../drill/run-record.ts";
import { connectOperator } from "../operator/operator-client.ts";
import { operatorOptions, type Parsed, parse, parseWait } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { readTls, tlsOptions } from "../tunnel/proxy-client.ts";
import { createAccess } from "../tunnel/tunnel-access.ts";

export const drillList: CliCommand = {
  name: "drill list",
  usage: "[NAME]",
  summary: "list the drills, or show one: purpose, promises with their bounds, guard rails",
  help: "docs/drills.md shows how to prepare the canary and run a game day.",
  async run(args, terminal) {
    const parsed = parse(args, { json: { type: "boolean" } }, { min: 0, max: 1 });
    const [name] = parsed.positionals;
    const shown = name === undefined ? drills : [drillNamed(name)];
    if (parsed.flag("json")) terminal.out(`${JSON.stringify(shown)}\n`);
    else terminal.out(name === undefined ? listText(drills) : shown.map(drillText).join("\n"));
    return 0;
  },
};

const runOptions = {
  ...operatorOptions,
  ...tlsOptions,
  file: { type: "string", short: "f" },
  target: { type: "string" },
  do: { type: "string" },
  undo: { type: "string" },
  "no-undo": { type: "boolean" },
  pid: { type: "string" },
  for: { type: "string" },
  rounds: { type: "string" },
  quiet: { type: "string" },
  report: { type: "string" },
  "dry-run": { type: "boolean" },
} as const;

export const drillRun: CliCommand = {
  name: "drill run",
  usage:
    "NAME -f drill.yaml [--target NAME --do COMMAND --undo COMMAND | --no-undo | --pid PID] [--for 15s] [--rounds N] [--dry-run] [--report FILE]",
  summary: "break one safe thing in a running cluster, measure the promises, and write a report",
  help: `The drill file names the canary (its URL, user, group and route) and the address of each proxy. The canary's credential is what
cardea login CANARY-URL stored on this machine, or CARDEA_CANARY_TOKEN. Drills that stop a process run your command: --do stops or restarts it,
--undo brings it back and runs whatever happens; --no-undo says that it comes back by itself. --pid names a process of this machine instead.
--for says how long the process is away (at most 5m); --rounds how often group-removal is repeated; --quiet how long to observe first.
--dry-run checks everything, prints each step, and changes nothing. CARDEA_METRICS_AUTH is user:password for metrics_basic_auth.
The report is one HTML file: drill-NAME-TIME.html, or --report FILE. --json prints the run record.
Exit codes here: 0 every measured promise held; 1 one was broken, or a guard rail or a signal stopped the drill; 2 usage error;
3 the drill did not begin, and nothing was changed.`,
  async run(args, terminal) {
    try {
      return await runNamedDrill(args, terminal);
    } catch (error) {
      // A drill that has its lock throws nothing: it ends with a record.
      if (error instanceof DrillStoppedError) {
        terminal.err(`cardea drill run: ${error.message}; the drill had not begun\n`);
        return 1;
      }
      if (!(error instanceof CannotError)) throw error;
      throw new CannotError(`the drill does not begin: ${error.message}`, { cause: error });
    }
  },
};

async function runNamedDrill(args: readonly string[], terminal: Terminal): Promise<ExitCode> {
  const parsed = parse(args, runOptions, { min: 1, max: 1 });
  const drill = drillNamed(parsed.positionals[0] ?? "");
  const hook = hookOf(
    { do: parsed.text("do"), undo: parsed.text("undo"), noUndo: parsed.flag("no-undo"), pid: parsed.text("pid") },
    drill.fault,
  );
  if (drill.fault.type === "canary" && parsed.text("target") !== undefined)
    throw new UsageError("this drill stops no process: leave out --target");
  const limits = limitsOf(parsed, drill);
  const path = parsed.text("file");
  if (path === undefined) throw new UsageError("name the drill file: -f drill.yaml");
  const file = readDrillFile(path);
  const report = parsed.text("report") ?? `drill-${drill.name}-${fileTime(new Date())}.html`;
  checkWritable(report);
  const operator = createDrillOperator(() => connectOperator(parsed, terminal));
  const tls = readTls(parsed);
  const token = await canaryToken(parsed, terminal, file.canary.url);
  const readMetrics = metricsReader({ tls, authorization: metricsAuthorization(terminal) });
  const interrupt = interruptSignal(terminal);
  const probes = createProbeClient({ canary: file.canary, token, tls, now: () => performance.now() });
  try {
    const target = parsed.text("target");
    const operatorToken = terminal.env["CARDEA_TOKEN"];
    const checks = prepareDrill(drill, { file, operator, probes, token, operatorToken, target, readMetrics, limits });
    const prepared = await unlessInterrupted(checks, interrupt.signal);
    if (parsed.flag("dry-run")) {
      terminal.out(planText(drill, { file, prepared, hook, ...limits, report }));
      return 0;
    }
    for (const warning of prepared.warnings) terminal.err(`note: ${warning}\n`);
    const origin = performance.now();
    const timed = createProbeClient({ canary: file.canary, token, tls, now: () => performance.now() - origin });
    try {
      const record = await runDrill({
        ...limits,
        drill,
        file,
        prepared,
        hook,
        operator,
        readMetrics,
        origin,
        probes: timed,
        interrupt: interrupt.signal,
        command: commandLine(args),
        say: (text) => terminal.err(`${new Date().toISOString().slice(11, 19)} ${text}\n`),
      });
      return printRecord(parsed, terminal, { record, report, drill });
    } finally {
      timed.close();
    }
  } finally {
    probes.close();
    await operator.close();
    interrupt.release();
  }
}

function drillNamed(name: string): Drill {
  const found = drills.find((drill) => drill.name === name);
  if (found !== undefined) return found;
  throw new UsageError(
    `there is no drill ${JSON.stringify(name)}; there are: ${drills.map((one) => one.name).join(", ")}`,
  );
}

const faultMsMax = 300_000;
const roundsMax = 100;

function limitsOf(parsed: Parsed, drill: Drill): DrillLimits {
  const faultMs = parseWait(parsed.text("for"), 15_000);
  if (faultMs > faultMsMax) throw new UsageError("--for: at most 5m");
  const quietMs = parseWait(parsed.text("quiet"), 5_000);
  if (quietMs > 60_000) throw new UsageError("--quiet: at most 60s");
  const isRepeated = drill.fault.type === "canary" && drill.fault.change === "remove-member";
  const given = parsed.text("rounds");
  if (given !== undefined && !isRepeated) throw new UsageError("--rounds is for group-removal alone");
  const rounds = isRepeated ? Number(given ?? "5") : 1;
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > roundsMax)
    throw new UsageError(`--rounds ${given}: write a whole number from 1 to ${roundsMax}`);
  return { rounds, faultMs, quietMs };
}

async function canaryToken(parsed: Parsed, terminal: Terminal, url: URL): Promise<string> {
  const given = terminal.env["CARDEA_CANARY_TOKEN"];
  if (given !== undefined && given !== "") return given;
  const token = await createAccess(parsed, terminal).token(new URL(url.origin), { signIn: "never" });
  if (token !== undefined) return token;
  throw new CannotError(
    `the canary is not signed in on this machine; sign in as the canary user: cardea login ${url.origin}`,
  );
}

function metricsAuthorization({ env }: Terminal): string | undefined {
  const given = env["CARDEA_METRICS_AUTH"];
  return given === undefined || given === "" ? undefined : `Basic ${Buffer.from(given, "utf8").toString("base64")}`;
}

function fileTime(date: Date): string {
  return `${date.toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z`;
}

/** Nothing is changed meanwhile, so an interrupt does not wait for the end. @throws the signal's reason */
function unlessInterrupted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const interrupted = Promise.withResolvers<never>();
  const onAbort = (): void => interrupted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return Promise.race([work, interrupted.promise]).finally(() => signal.removeEventListener("abort", onAbort));
}

/**
 * Nothing ends a drill before what it did is undone: no second signal, no Ctrl-Z, which would leave a process frozen,
 * and no terminal or pipe that is gone while the drill writes to it.
 */
function interruptSignal(terminal: Terminal): Readonly<{ signal: AbortSignal; release: () => void }> {
  const controller = new AbortController();
  const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;
  const onSignal = (signal: NodeJS.Signals): void => {
    const first = !controller.signal.aborted;
    if (first) controller.abort(new DrillStoppedError(`interrupted by ${signal}`));
    terminal.err(
      first ? "interrupted: the running step ends first, then all is undone\n" : "please wait: all is being undone\n",
    );
  };
  const onSuspend = (): void => terminal.err("a drill cannot be suspended; Ctrl-C ends it and undoes what it did\n");
  const onLostOutput = (): void => {}; // the exit code and the report say how the drill ended
  const streams = [process.stdout, process.stderr];
  for (const signal of signals) process.on(signal, onSignal);
  process.on("SIGTSTP", onSuspend);
  for (const stream of streams) stream.on("error", onLostOutput);
  return {
    signal: controller.signal,
    release: () => {
      for (const signal of signals) process.off(signal, onSignal);
      process.off("SIGTSTP", onSuspend);
      for (const stream of streams) stream.off("error", onLostOutput);
    },
  };
}

/** A report that cannot be written is noticed before anything is changed. @throws CannotError */
function checkWritable(report: string): void {
  try {
    const exists = statSync(report, { throwIfNoEntry: false });
    if (exists !== undefined && !exists.isFile()) throw new CannotError("it is no file");
    accessSync(exists === undefined ? dirname(report) : report, constants.W_OK);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CannotError(`the report ${report} cannot be written: ${why}`, { cause });
  }
}

function commandLine(args: readonly string[]): string {
  const quoted = args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`));
  return `cardea drill run ${quoted.join(" ")}`;
}

function printRecord(
  parsed: Parsed,
  terminal: Terminal,
  { record, report, drill }: Readonly<{ record: RunRecord; report: string; drill: Drill }>,
): ExitCode {
  let written = `report: ${report}\n`;
  try {
    writeFileSync(report, renderRunReport(record), { mode: 0o644 });
  } catch (cause) {
    written = "";
    terminal.err(`${report} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}\n`);
  }
  if (parsed.flag("json")) terminal.out(`${JSON.stringify(record)}\n`);
  else terminal.out(`${verdictText(record)}\n${record.summary}\n${written}`);
  if (drill.fault.type === "canary" && drill.fault.change !== "remove-member")
    terminal.err("the canary's session has ended: sign in again before the next drill\n");
  return record.verdicts.some(({ result }) => result === "broken") || record.stopped !== null ? 1 : 0;
}
