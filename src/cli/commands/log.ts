/**
 * `cardea log verify|export`: reads the event log directly from its store.
 *
 * A log in a file belongs to one process at a time: stop the server first. Postgres can be read while a cluster runs.
 */
import { decodeEvents, formatLink, type Recorded } from "../../events/index.ts";
import { type LogReader, verifyLog } from "../../replication/log/index.ts";
import { localConfigOf } from "../build/local-config.ts";
import { headsJson, linesOf, type NewestLog, openNewestLog } from "../build/newest-log.ts";
import { operatorOptions, parse } from "../terminal/arguments.ts";
import { CannotError, type CliCommand, type ExitCode, type Terminal } from "../terminal/command.ts";

const pageEvents = 1_000;

/** Exit 1 also when another server rivals the log that was read, or may be newer. */
async function withLog(
  args: readonly string[],
  terminal: Terminal,
  job: (log: LogReader, about: Readonly<{ form: "json" | "text"; heads: NewestLog["heads"] }>) => Promise<ExitCode>,
): Promise<ExitCode> {
  const parsed = parse(
    args,
    { config: operatorOptions.config, json: operatorOptions.json, "data-dir": operatorOptions["data-dir"] },
    { min: 0, max: 0 },
  );
  const { log, heads } = await openNewestLog(localConfigOf(parsed, terminal));
  try {
    for (const line of heads === null ? [] : linesOf(heads)) terminal.err(`${line}\n`);
    const code = await job(log, { form: parsed.flag("json") ? "json" : "text", heads });
    const isUncontested = heads === null || (heads.rivals.length === 0 && heads.doubt === null);
    return code === 0 && !isUncontested ? 1 : code;
  } finally {
    await log.close();
  }
}

const everyServer = `With Postgres it asks every server of the connection string and reads the one with the newest proven epoch. It names each server that
rivals it, such as an old primary that still runs, and those that did not answer. Exit 1 then too, unless the standbys show that the
server that was read is the newest.`;

export const logVerify: CliCommand = {
  name: "log verify",
  usage: "-c cardea.yaml",
  summary: "check the whole log: dense positions, hash chain, epochs, stream versions",
  help: `Reads every event in the store up to the durable horizon. Exit 1: the log is broken; the output names the first broken position. A log
that retention has cut is verified from the link at which it begins, and the output names that link.

${everyServer}`,
  run: (args, terminal) =>
    withLog(args, terminal, async (log, { form, heads }) => {
      const verdict = await verifyLog(log);
      if (form === "json")
        terminal.out(`${JSON.stringify({ ...verdict, ...(heads === null ? {} : headsJson(heads)) })}\n`);
      else if (verdict.type === "broken") terminal.err(`broken at position ${verdict.position}: ${verdict.problem}\n`);
      else {
        const behind =
          verdict.start.position === 0
            ? ""
            : `; the log begins after ${formatLink(verdict.start)}: retention has dropped the earlier events, which snapshots cover`;
        terminal.out(`${verdict.events} events verified, head ${formatLink(verdict.last)}${behind}\n`);
      }
      return verdict.type === "broken" ? 1 : 0;
    }),
};

export const logExport: CliCommand = {
  name: "log export",
  usage: "-c cardea.yaml",
  summary: "print every event as a line of JSON (personal data stays sealed)",
  help: `Each line is an event with its position, hash, stream, effect, actor and body. Sealed bytes are base64.

${everyServer}`,
  run: (args, terminal) =>
    withLog(args, terminal, async (log) => {
      for (let after = await log.base(); ; ) {
        const outcome = await log.read(after, pageEvents);
        if (outcome.type !== "page") throw new CannotError(`cannot read the rest of the log: ${outcome.type}`);
        for (const recorded of decodeEvents(outcome.page.entries, outcome.page.previous))
          terminal.out(`${lineOf(recorded)}\n`);
        if (outcome.page.entries.length === 0) return 0;
        after = outcome.page.last;
      }
    }),
};

function lineOf(recorded: Recorded): string {
  return JSON.stringify(recorded, (_key, value: unknown) =>
    value instanceof Uint8Array
      ? Buffer.from(value).toString("base64")
      : isBufferJson(value)
        ? Buffer.from(value.data).toString("base64")
        : value,
  );
}

/** The form of a Buffer after its `toJSON`, which runs before the replacer. */
function isBufferJson(value: unknown): value is { type: "Buffer"; data: number[] } {
  return (
    typeof value === "object" &&
    value !== null &&
    "type" in value &&
    value.type === "Buffer" &&
    "data" in value &&
    Array.isArray(value.data)
  );
}
