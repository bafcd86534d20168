/** Replay summary: the result of a replay as Markdown for a pull request. People are named by id only. Pure. */
import type { ReplayResult } from "./replay-result.ts";

export type MarkdownSource = Omit<ReplayResult, "type" | "markdown" | "read">;

const rowsMax = 100;
const whysMax = 20;

export function replayMarkdown({
  basis,
  replayed,
  differences,
  moreDifferences,
  notReplayed,
  firstAt,
  lastAt,
  cut,
  names,
  digest,
}: MarkdownSource): string {
  const { route, facts, policy, configHash } = basis;
  const what = policy === null ? `configuration ${code(configHash?.slice(0, 12) ?? "")}` : "the edited policy";
  const where = route === null ? "" : ` of route ${code(names.routes[route] ?? route)}`;
  const time = (ms: number | null): string => (ms === null ? "none" : `${new Date(ms).toISOString().slice(0, 16)}Z`);
  const people = (change: "gains" | "loses"): number =>
    new Set(differences.filter((one) => one.change === change).map(({ person }) => person)).size;
  const lines = [
    `### What-if: ${what}${where}`,
    "",
    `${replayed} recorded decisions, ${time(firstAt)} to ${time(lastAt)}, decided again with the facts of ${facts === "then" ? "their time" : "now"}.`,
    `**People who gain access: ${people("gains")}. Who lose it: ${people("loses")}.**`,
  ];
  if (cut !== null)
    lines.push(
      "",
      `Not all of the time was replayed: ${cut === "limit" ? "the limit of decisions" : "it took too long"}.`,
    );
  if (differences.length > 0)
    lines.push("", "| change | route | person | decisions | first |", "|---|---|---|---:|---|");
  for (const { change, route: of, person, count, example } of differences.slice(0, rowsMax)) {
    const request = code(`${example.method} ${example.host}${example.path}`);
    const first = `${request} ${time(example.at)} ${code(example.requestId)}`;
    const who = person === null ? "not signed in" : code(person);
    lines.push(`| ${change} | ${of === null ? "none" : code(names.routes[of] ?? of)} | ${who} | ${count} | ${first} |`);
  }
  const more = Math.max(0, differences.length - rowsMax);
  if (more > 0) lines.push("", `and ${more} more rows`);
  if (moreDifferences > 0) lines.push("", `and ${moreDifferences} decisions of further people or routes`);
  const missing = notReplayed.reduce((sum, { count }) => sum + count, 0);
  if (notReplayed.length > 0) lines.push("", `Not replayed: ${missing}`);
  for (const { why, count } of notReplayed.slice(0, whysMax))
    lines.push(`- ${count === 0 ? "some" : count}: ${plain(why)}`);
  lines.push("", `Digest ${code(digest)}`, "");
  return lines.join("\n");
}

/** Text in a code span: markup and the bars of a table have no effect in it. */
function code(text: string): string {
  return `\`${plain(text).replaceAll("`", "ˋ").replaceAll("|", "¦")}\``;
}

function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.slice(0, 300).replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "�");
}
