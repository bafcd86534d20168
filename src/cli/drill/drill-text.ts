/** Text of drills for the terminal: the list, one drill, the plan of a dry run, the verdicts. Pure. */
import { formatTable, maskControlCharacters } from "../terminal/print.ts";
import { type Drill, formatBound, guardRailsOf, type PromiseName, promises } from "./drill.ts";
import type { DrillFile } from "./drill-file.ts";
import { lockGroup } from "./drill-lock.ts";
import type { Hook } from "./hook.ts";
import type { Prepared } from "./preflight.ts";
import { formatQuantity, verdictWords } from "./report/report-text.ts";
import type { RunRecord } from "./run-record.ts";

export function listText(drills: readonly Drill[]): string {
  return formatTable(
    ["DRILL", "STOPS", ""],
    drills.map(({ name, fault, summary }) => [
      name,
      fault.type === "canary" ? "nothing" : `one ${fault.kind}`,
      summary,
    ]),
  );
}

export function drillText(drill: Drill): string {
  return [
    `${drill.name}: ${drill.summary}\n`,
    `  ${drill.purpose}`,
    `  ${drill.does}\n`,
    "  Promises:",
    ...promiseLines(drill),
    "",
    "  Guard rails:",
    ...guardRailsOf(drill).map((line) => `  - ${line}`),
    "",
  ].join("\n");
}

function promiseLines({ promises: wanted }: Drill): readonly string[] {
  return Object.entries(wanted).map(([name, bound]) => {
    const limit = formatBound(bound);
    return `  - ${promises[name as PromiseName]}${limit === "" ? "" : ` (${limit})`}`;
  });
}

/** Exactly what a run would do, in its order. */
export function planText(
  drill: Drill,
  parts: Readonly<{
    file: DrillFile;
    prepared: Prepared;
    hook: Hook | null;
    rounds: number;
    faultMs: number;
    quietMs: number;
    report: string;
  }>,
): string {
  const { file, prepared, hook, rounds, faultMs, quietMs, report } = parts;
  const { user, group, url, stream } = file.canary;
  const proxies = file.proxies.map(({ node, host, port }) => `${node} at ${host}:${port}`).join(", ");
  const change = drill.fault.type === "canary" ? drill.fault.change : "remove-member";
  const canarySteps: Readonly<Record<typeof change, readonly string[]>> = {
    "remove-member": [`remove ${user} from ${group}, and wait for the receipt`, `add ${user} to ${group}`],
    "revoke-session": [
      `revoke the canary's session ${prepared.canary.sessionId}, and wait for the receipt; this is final`,
    ],
    "suspend-user": [`suspend ${user}, and wait for the receipt`, `restore ${user}`],
  };
  const seconds = (ms: number): string => `${ms / 1_000} s`;
  const times = rounds === 1 || hook !== null ? "" : `; ${rounds} times`;
  const canary = `${canarySteps[change].join("; then ")}${times}`;
  const steps = [
    `take the lock: add ${user} to the group ${lockGroup}`,
    `request ${url.href} as ${user}, 4 times a second and up to 50 during a revocation, at ${proxies}`,
    ...(stream === null
      ? []
      : [`open a stream at ${new URL(stream, url).href} on each of them before each revocation`]),
    `observe for ${seconds(quietMs)}`,
    ...(hook === null ? [canary] : processSteps(drill, hook, { canary, faultMs: seconds(faultMs) })),
    `release the lock: remove ${user} from ${lockGroup}`,
    `write ${report}`,
  ];
  return [
    `drill ${drill.name}${prepared.target === null ? "" : ` on ${prepared.target}`}, dry run: nothing is changed\n`,
    ...steps.map((step, index) => `${index + 1}. ${step}`),
    "",
    "Promises:",
    ...promiseLines(drill),
    "",
    "Stops and undoes everything when:",
    `  - more than ${file.peopleErrorsMax * 100} % of people's requests within 10 s, and at least 5, end with 5xx`,
    "  - a digest differs, a node other than the target is silent, or no broker leads for 20 s",
    "  - it gets SIGINT, SIGTERM, SIGQUIT or SIGHUP",
    "",
    ...prepared.warnings.map((warning) => `note: ${warning}`),
    "",
  ]
    .map(maskLine)
    .join("\n");
}

function maskLine(line: string): string {
  return line.split("\n").map(maskControlCharacters).join("\n");
}

function processSteps(
  drill: Drill,
  hook: Hook,
  { canary, faultMs }: Readonly<{ canary: string; faultMs: string }>,
): readonly string[] {
  const back = hook.undoes ?? "nothing to undo: the process comes back by itself";
  const recovery = "wait until every node has a lease and has caught up, and revoke once more";
  return drill.fault.type === "process" && drill.fault.how === "pause"
    ? [hook.does, `observe for ${faultMs}`, `${canary}; before that, while the canary has no right: ${back}`, recovery]
    : [hook.does, `for ${faultMs}: ${canary}`, back, recovery];
}

export function verdictText({ verdicts }: RunRecord): string {
  return formatTable(
    ["PROMISE", "", "MEASURED", "BOUND", ""],
    verdicts.map(({ promise, result, measured, bound, text }) => [
      promise,
      verdictWords[result].word.toLowerCase(),
      formatQuantity(measured),
      bound === null ? "" : formatQuantity(bound),
      text,
    ]),
  );
}
