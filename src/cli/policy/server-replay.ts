/** Replay by the server: `cardea policy replay --policy FILE --route ROUTE`, the same as in the console. */
import { readFileSync } from "node:fs";
import type { ReplayFailure, ReplayProgress, ReplayResult } from "../../console/index.ts";
import { connectOperator, OperatorRefusedError } from "../operator/operator-client.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { CannotError, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { maskControlCharacters } from "../terminal/print.ts";

const stdinFile = "-";

/** @param since ISO 8601 */
export async function replayAtServer(parsed: Parsed, terminal: Terminal, since: string): Promise<ExitCode> {
  const body = { ...questionOf(parsed), since };
  const client = await connectOperator(parsed, terminal);
  let result: ReplayResult | undefined;
  let failure: string | undefined;
  let hasDrawn = false;
  try {
    await client.stream(
      "/policy/replay",
      null,
      (data) => {
        const event = JSON.parse(data) as ReplayResult | ReplayProgress | ReplayFailure;
        if (event.type === "result") result = event;
        else if (event.type === "failed") failure = event.error;
        else if (terminal.interactive) {
          terminal.err(`\r\u001b[2K${event.read} records read, ${event.replayed} decisions replayed`);
          hasDrawn = true;
        }
      },
      new AbortController().signal,
      body,
    );
  } catch (error) {
    if (!(error instanceof OperatorRefusedError) || error.status !== 400) throw error;
    terminal.err(`${maskControlCharacters(error.message)}\n`);
    return 2;
  } finally {
    if (hasDrawn) terminal.err("\r\u001b[2K");
    await client.close();
  }
  if (result === undefined) throw new CannotError(failure ?? "the server ended the replay without an answer");
  if (parsed.flag("json")) terminal.out(`${JSON.stringify(result)}\n`);
  else if (parsed.flag("markdown")) terminal.out(result.markdown);
  else terminal.out(textOf(result));
  return result.differences.length + result.moreDifferences > 0 ? 1 : 0;
}

function questionOf(parsed: Parsed): object {
  const [file, configHash] = [parsed.text("policy"), parsed.text("configuration")];
  if (file !== undefined && configHash !== undefined)
    throw new UsageError("name --policy or --configuration, not both");
  if (file !== undefined && parsed.text("route") === undefined)
    throw new UsageError("--policy needs --route: the route that would have this policy");
  const facts = parsed.text("facts") ?? "then";
  if (facts !== "then" && facts !== "now") throw new UsageError(`--facts ${facts}: write then or now`);
  const limit = parsed.text("limit");
  if (limit !== undefined && !/^[1-9]\d{0,6}$/.test(limit)) throw new UsageError(`--limit ${limit}: write a number`);
  const [route, base, until] = [parsed.text("route"), parsed.text("base"), parsed.text("until")];
  return {
    ...(file === undefined ? { configHash } : { text: readPolicy(file) }),
    ...(route === undefined ? {} : { route }),
    ...(base === undefined ? {} : { base }),
    ...(until === undefined ? {} : { until }),
    ...(limit === undefined ? {} : { limit: Number(limit) }),
    facts,
  };
}

function readPolicy(file: string): string {
  try {
    return readFileSync(file === stdinFile ? 0 : file, "utf8");
  } catch (cause) {
    throw new UsageError(`--policy ${file} cannot be read`, { cause });
  }
}

function textOf({
  differences,
  moreDifferences,
  notReplayed,
  replayed,
  names,
  cut,
  basis,
  digest,
}: ReplayResult): string {
  const lines: string[] = [];
  let before: string | null | undefined;
  for (const { route, person, change, count, already, example } of differences) {
    if (route !== before) lines.push(`route ${route === null ? "(none)" : (names.routes[route] ?? route)}`);
    before = route;
    const why = example.reasons.length === 0 ? "" : ` [${example.reasons.join(", ")}]`;
    const first = `${example.method} ${example.host}${example.path} at ${new Date(example.at).toISOString()}, request ${example.requestId}${why}`;
    const known = already === 0 ? "" : `, ${already} of them so already by the configuration in force`;
    const name = person === null ? "not signed in" : (names.people[person] ?? person);
    lines.push(`  ${change}  ${name}  ${count} ×${known}, first ${first}`);
  }
  if (moreDifferences > 0) lines.push(`  and ${moreDifferences} decisions of further people or routes`);
  const facts = basis.facts === "then" ? "their time" : "now";
  lines.push(`${replayed} decisions replayed with the facts of ${facts}, ${differences.length} differences`);
  if (cut === "limit") lines.push("the limit ended the replay: give a larger --limit, or a later --since");
  if (cut === "time") lines.push("the replay took too long and ended: give a later --since");
  const missing = notReplayed.reduce((sum, { count }) => sum + count, 0);
  if (notReplayed.length > 0) lines.push(`${missing} could not be replayed:`);
  for (const { why, count } of notReplayed) lines.push(`  ${count === 0 ? "some" : count} ×  ${why}`);
  lines.push(`digest ${digest}`);
  return lines.map((line) => `${maskControlCharacters(line)}\n`).join("");
}
