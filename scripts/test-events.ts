/**
 * Test events: a reporter for Node's test runner that writes one JSON object per line for the parent process.
 */
import { readFileSync } from "node:fs";
import type { TestEvent } from "node:test/reporters";
import { inspect } from "node:util";

/**
 * `began` and `ended`: one test; `passed`: one that was not skipped, with its file; `failed`: one, with the whole
 * error; `skipped`: the reason; `remark`: Node's message about the file, such as an error after a test; `summary`:
 * the last line of a file that ended by itself, with the processor time of its process and of those that it
 * started and that have ended.
 */
export type TestLine =
  | Readonly<{ type: "began" | "ended"; name: string }>
  | Readonly<{ type: "remark"; text: string }>
  | Readonly<{ type: "passed"; file: string }>
  | Readonly<{ type: "failed"; file: string; name: string; line: number; story: string }>
  | Readonly<{ type: "skipped"; file: string; reason: string }>
  | Readonly<{ type: "summary"; tests: number; passed: number; failed: number; skipped: number; cpuS: number }>;

const figures = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /;

// biome-ignore lint/style/noDefaultExport: Node requires it of reporters
export default async function* testEvents(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  for await (const event of events) {
    const line = lineOf(event);
    if (line !== null) yield `${JSON.stringify(line)}\n`;
  }
}

function lineOf({ type, data }: TestEvent): TestLine | null {
  switch (type) {
    case "test:dequeue":
      return { type: "began", name: data.name };
    case "test:complete":
      return { type: "ended", name: data.name };
    case "test:diagnostic":
      return figures.test(data.message) ? null : { type: "remark", text: data.message };
    case "test:pass":
      if (typeof data.skip === "string") return { type: "skipped", file: data.file ?? "", reason: data.skip };
      if (data.details.type === "suite" || data.skip === true || data.todo !== undefined) return null;
      return { type: "passed", file: data.file ?? "" };
    case "test:fail": {
      const error = data.details.error as Error & { failureType?: string };
      if (error.failureType === "subtestsFailed" || data.todo !== undefined) return null;
      return {
        type: "failed",
        file: data.file ?? "",
        name: data.name,
        line: data.line ?? 0,
        story: tell(error.cause ?? error),
      };
    }
    case "test:summary": {
      const { tests, passed, skipped, todo } = data.counts;
      return {
        type: "summary",
        tests,
        passed,
        failed: tests - passed - skipped - todo,
        skipped,
        cpuS: processorSeconds(),
      };
    }
    default:
      return null;
  }
}

/** Linux counts the time of ended children, in hundredths of a second; elsewhere only this process counts. */
function processorSeconds(): number {
  if (process.platform !== "linux") return (process.cpuUsage().user + process.cpuUsage().system) / 1_000_000;
  const stat = readFileSync("/proc/self/stat", "utf8");
  // After the name of the program, which may hold anything: utime, stime, cutime and cstime are fields 14 to 17.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / 100;
}

/**
 * The whole error, without the runner's part of the stack. An assertion with its own message needs no stack.
 */
function tell(error: unknown): string {
  if (error instanceof Error && "generatedMessage" in error && error.generatedMessage === false) return error.message;
  return inspect(error, { depth: 4 })
    .split("\n")
    .filter((line) => !/^\s+at .*\(?node:internal/.test(line) && !/^\s+at .*\(node:async_hooks/.test(line))
    .join("\n");
}
