/**
 * Audit line: one audit record as a line for people. Pure.
 *
 * - Nothing in a record reaches the terminal as more than text: control, format and line-separating characters are
 *   replaced.
 * - On a terminal the parts are aligned, coloured, and cut to its width. Elsewhere the line is complete.
 * - Parts that a record of another version lacks, or has in another form, are left out or shown as they are.
 */
import { styleText } from "node:util";
import { type AuditRecord, recordIdOf } from "../../audit/index.ts";

type Decision = Extract<AuditRecord, { kind: "decision" }>;
type Act = Exclude<AuditRecord, { kind: "decision" | "gap" }>;
type Style = "green" | "red" | "yellow" | "cyan" | "blue" | "gray" | "magenta";

export type LineOptions = Readonly<{
  /** Names of people, by user id. An id without one is shown as it is. */
  names: ReadonlyMap<string, string>;
  /** The width of the terminal; null: there is none. */
  columns: number | null;
  hasColours: boolean;
}>;

type Parts = Readonly<{
  at: string;
  title: string;
  style: Style;
  status: string;
  node: string;
  who: string;
  /** What was requested or done. */
  what: string;
  /** In brackets: why. */
  why: string;
  more: string;
  id: string;
}>;

const widths = { title: 11, status: 3, node: 14, who: 24, whoLeast: 18, whatLeast: 24, whyMost: 36 } as const;
/** Narrower terminals leave out the node, and the time and the person. */
const columnsForNode = 110;
const columnsForWho = 64;
/** A terminal of this width also shows the position and the id of a record. */
const columnsForId = 150;

export function formatAuditLine(record: AuditRecord, options: LineOptions): string {
  const parts = partsOf(record, options.names);
  return options.columns === null ? plainLine(parts) : alignedLine(parts, options.columns, options.hasColours);
}

function plainLine({ at, title, status, node, who, what, why, more, id }: Parts): string {
  const all = [
    `${at}  ${title.padEnd(widths.title)}${status === "" ? "" : ` ${status}`}`,
    node,
    who,
    what,
    why,
    more,
    id,
  ];
  return maskUnsafe(all.filter((text) => text !== "").join("  "));
}

function alignedLine(parts: Parts, columns: number, hasColours: boolean): string {
  const { title, style, status, node, who, what, why, more, id } = parts;
  const isNarrow = columns < columnsForWho;
  const time = isNarrow ? "" : parts.at.slice(11, 23);
  const head = [time, fitText(title, widths.title), fitText(status, widths.status)];
  const isWide = columns >= columnsForId;
  const tail = isWide ? [more, id].filter((text) => text !== "").map((text) => fitText(text, widthOf(text))) : [];
  const people =
    columns < columnsForNode ? [fitText(who, widths.whoLeast)] : [fitText(node, widths.node), fitText(who, widths.who)];
  const middle = isNarrow ? [] : people;
  const used = [...head, ...middle, ...tail].reduce((sum, text) => sum + (text === "" ? 0 : widthOf(text) + 2), 0);
  const left = Math.max(1, columns - used);
  const reason = fitText(why, Math.min(widthOf(why), widths.whyMost, Math.max(0, left - widths.whatLeast - 2)));
  const request = fitText(
    what,
    Math.max(1, left - (reason === "" ? 0 : widthOf(reason) + 2)),
    tail.length > 0 ? "pad" : "cut",
  );
  const paint = (colour: Style, text: string): string =>
    hasColours && text !== "" ? styleText(colour, text, { validateStream: false }) : text;
  const [timeText = "", titleText = "", statusText = ""] = head;
  const cells = [paint("gray", timeText), paint(style, titleText), paint(style, statusText), ...middle, request];
  return [...cells, paint("gray", reason), ...tail.map((text) => paint("gray", text))]
    .filter((text) => text !== "")
    .join("  ")
    .trimEnd();
}

function partsOf(record: AuditRecord, names: ReadonlyMap<string, string>): Parts {
  const at = formatTime(record.at);
  if (record.kind === "gap") {
    const what =
      record.ended !== undefined
        ? record.why
        : record.atLeast === undefined
          ? `records ${record.first} to ${record.last} were lost (${record.why})`
          : `at least ${record.atLeast} of the records ${record.first} to ${record.last} were lost (${record.why})`;
    return {
      at,
      title: "GAP",
      style: "magenta",
      status: "",
      node: record.node,
      who: "",
      what: String(what),
      ...nothing,
    };
  }
  return record.kind === "decision" ? decisionParts(record, at, names) : actParts(record, at, names);
}

const nothing = { why: "", more: "", id: "" } as const;

function formatTime(at: number): string {
  return Math.abs(at) <= 8.64e15 ? new Date(at).toISOString() : String(at);
}

function formatPosition(link: Decision["applied"] | null | undefined): string {
  return link === null || link === undefined ? "" : `@${link.epoch}.${link.position}`;
}

const resultStyles: Readonly<Record<Decision["result"], Style>> = {
  permit: "green",
  signin: "yellow",
  deny: "red",
  unavailable: "red",
  not_found: "yellow",
  bad_request: "yellow",
};

function decisionParts(record: Decision, at: string, names: ReadonlyMap<string, string>): Parts {
  const { closed, userId, reasons, applied } = record;
  const who = userId === null ? "anonymous" : (names.get(userId) ?? String(userId));
  const common = { at, status: String(record.status), node: record.node, who, id: recordIdOf(record) };
  const route = record.routeName === undefined || record.routeName === "" ? "" : ` (${record.routeName})`;
  const what = `${record.method} ${record.host}${record.path}${route}`;
  if (closed !== undefined) {
    const more = `after ${closed.durationMs} ms, ${closed.bytes} bytes sent, ${closed.bytesReceived} received`;
    return { ...common, title: "CLOSED", style: "gray", what, why: `[${closed.cause}]`, more };
  }
  const style = Object.hasOwn(resultStyles, record.result) ? resultStyles[record.result] : "yellow";
  const more = formatPosition(applied);
  return { ...common, title: String(record.result), style, what, why: `[${reasons.join(", ")}]`, more };
}

function actParts(record: Act, at: string, names: ReadonlyMap<string, string>): Parts {
  const { kind, command, outcome, code, actor, targets, targetsMore, reason, link } = record;
  const label = (one: unknown): string => {
    const text = String(one);
    return text.startsWith("user:") ? (names.get(text.slice(5)) ?? text) : text;
  };
  const named = `${targets.map(label).join(" ")}${targetsMore > 0 ? ` and ${targetsMore} more` : ""}`;
  const why = [(code ?? null) === null ? "" : `(${code})`, (reason ?? null) === null ? "" : `[${reason}]`].filter(
    (text) => text !== "",
  );
  const isOperator = kind === "operator";
  const title = isOperator ? "OPERATOR" : command === "createSession" ? "SIGN-IN" : "SIGN-OUT";
  return {
    at,
    title,
    style: outcome === "refused" ? "red" : isOperator ? "cyan" : "blue",
    status: String(outcome),
    node: record.node,
    who: label(actor),
    what: `${command} ${named}`.trimEnd(),
    why: why.join("  "),
    more: formatPosition(link),
    id: recordIdOf(record),
  };
}

/** Cut to a width with `…`, or filled up to it. */
function fitText(raw: string, width: number, mode: "pad" | "cut" = "pad"): string {
  const text = maskUnsafe(raw);
  const own = widthOf(text);
  if (own <= width) return mode === "pad" ? text + " ".repeat(width - own) : text;
  if (width <= 0) return "";
  let cut = "";
  let used = 0;
  for (const character of text) {
    const next = used + widthOf(character);
    if (next > width - 1) break;
    cut += character;
    used = next;
  }
  return `${cut}…${mode === "pad" ? " ".repeat(Math.max(0, width - 1 - used)) : ""}`;
}

const wide =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u;

/** Columns on a terminal: East Asian characters and emoji take two, combining marks none. */
function widthOf(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are all of ASCII
  if (/^[\u0000-\u007f]*$/.test(text)) return text.length;
  let width = 0;
  for (const character of text) width += /^\p{M}/u.test(character) ? 0 : wide.test(character) ? 2 : 1;
  return width;
}

/** Format characters include those that reverse the direction of text. */
export function maskUnsafe(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "\u{fffd}").toWellFormed();
}
