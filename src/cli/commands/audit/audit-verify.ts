/** `cardea audit verify`: checks stored audit records against the seals of the log. */
import {
  type CheckReport,
  cosignedAt,
  type OpenedEvidence,
  parseCheckpoint,
  parseNoteKey,
  RecordCheck,
  type RecordFinding,
  SealIndex,
  treeOver,
} from "../../../audit/index.ts";
import { linesOf, namedSources, type PlaceProgress, placeOptions } from "../../operator/record-places.ts";
import { operatorOptions, type Parsed, parse } from "../../terminal/arguments.ts";
import { CannotError, type CliCommand, type Terminal, UsageError } from "../../terminal/command.ts";
import { maskControlCharacters } from "../../terminal/print.ts";
import { readText } from "../../terminal/read-text.ts";
import { trustedKeys } from "../receipts.ts";
import { loadSeals, sealOptions } from "./load-seals.ts";
import { leavesOfSeals } from "./witness-checkpoint.ts";

const progressMs = 500;
const printedMax = 50;

export const auditVerify: CliCommand = {
  name: "audit verify",
  usage:
    "[FILE…] [-c cardea.yaml] [--seals FILE [--jwks FILE | --jwks-url URL]] [--kept postgres|s3|spool] [--spool FOLDER] [--witness FILE --witness-key KEY] [--partial] [--require-sealed] [--json]",
  summary: "check stored audit records against the log: altered, missing, reordered, added",
  help: `Records are read from a file and its rotated ones (also .gz; by the times of the files), or from several files in the order in which you
name them, from the spool folder of a node, from the database of the Postgres
sink or the object storage of the S3 sink (--kept postgres, s3); without FILE from where -c says. Seals come from a file that cardea audit seals exported, else from the log that -c names, whose
chain is verified (--from-server: from a running server). It names each fault by node, boot and number, the first one first.
--partial: the records are known to be a part of each boot, as when old files were deleted: what is missing before the first and after
the last record of a boot is counted, and is no fault. --require-sealed: records that no seal covers yet are a fault. --witness: the seals must be those that a witness has co-signed.
Exit 0: nothing is wrong; 1: a fault; 2: usage error; 3: records or seals cannot be read.`,
  async run(args, terminal) {
    const options = {
      ...operatorOptions,
      ...sealOptions,
      ...placeOptions,
      jwks: { type: "string", multiple: true },
      "jwks-url": { type: "string" },
      witness: { type: "string" },
      "witness-key": { type: "string" },
      partial: { type: "boolean" },
      "require-sealed": { type: "boolean" },
    } as const;
    const parsed = parse(args, options, { min: 0, max: 10_000 });
    const hasKeys = parsed.all("jwks").length > 0 || parsed.text("jwks-url") !== undefined;
    const keys = hasKeys ? await trustedKeys(parsed, terminal) : [];
    const progress = progressOf(terminal);
    const sources = await namedSources(parsed, terminal, { paths: parsed.positionals, onProgress: progress.show });
    const loaded = await loadSeals(parsed, terminal, { keys, keep: ({ opened }) => opened });
    const { seals, all } = loaded;
    const witnessed = await checkWitness(parsed, all);
    const index = new SealIndex();
    for (const opened of seals) index.add(opened);
    const unmarked = `the marks of ${index.unmarked} seals have no room in memory: altered records in those are named by segment`;
    const notes = index.unmarked > 0 ? [...loaded.notes, unmarked] : loaded.notes;
    const check = new RecordCheck(index, { partial: parsed.flag("partial") });
    try {
      for await (const line of linesOf(sources)) check.take(line);
    } catch (cause) {
      if (cause instanceof CannotError) throw cause;
      throw new CannotError(`the records cannot be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
    } finally {
      progress.clear();
    }
    const report = check.finish();
    const unsealed = report.boots.filter(({ unsealed: range, unhashed }) => range !== null || unhashed > 0);
    if (parsed.flag("json")) terminal.out(`${JSON.stringify({ ...report, seals: index.count, notes, witnessed })}\n`);
    else
      print(report, { notes: witnessed === null ? notes : [...notes, witnessed.says], seals: index.count, terminal });
    if (report.findingCount > 0 || witnessed?.ok === false) return 1;
    return parsed.flag("require-sealed") && unsealed.length > 0 ? 1 : 0;
  },
};

/** @returns null if no witness was named */
async function checkWitness(
  parsed: Parsed,
  seals: readonly OpenedEvidence[],
): Promise<Readonly<{ ok: boolean; says: string }> | null> {
  const [path, keyText] = [parsed.text("witness"), parsed.text("witness-key")];
  if (path === undefined && keyText === undefined) return null;
  if (path === undefined || keyText === undefined)
    throw new UsageError(
      "--witness takes the checkpoint that cardea audit witness saved, and --witness-key the key of the witness",
    );
  const key = parseNoteKey(keyText);
  if (typeof key === "string") throw new UsageError(`--witness-key: ${key}`);
  const checkpoint = parseCheckpoint(await readText(path));
  const at = checkpoint && cosignedAt(checkpoint, key);
  if (checkpoint === undefined || at === undefined)
    return { ok: false, says: `WITNESS: ${path} has no signature of ${key.name} over a checkpoint` };
  const leaves = leavesOfSeals(seals);
  const { size, root, origin } = checkpoint;
  const when = new Date(at * 1_000).toISOString();
  if (leaves.length < size)
    return {
      ok: false,
      says: `WITNESS: ${key.name} has co-signed ${size} seals of ${origin}, and there are ${leaves.length}`,
    };
  const isSame = treeOver(leaves.slice(0, size)).root.equals(root);
  return isSame
    ? { ok: true, says: `${key.name} has co-signed the first ${size} of ${leaves.length} seals, at ${when}` }
    : { ok: false, says: `WITNESS: the first ${size} seals are not those that ${key.name} has co-signed at ${when}` };
}

function print(
  report: CheckReport,
  { notes, seals, terminal }: Readonly<{ notes: readonly string[]; seals: number; terminal: Terminal }>,
): void {
  const line = (text: string): void => terminal.out(`${maskControlCharacters(text)}\n`);
  for (const note of notes) line(note);
  for (const finding of report.findings.slice(0, printedMax)) line(textOf(finding));
  if (report.findingCount > printedMax) line(`and ${report.findingCount - printedMax} more`);
  for (const { node, boot, unsealed, declared, absent, unhashed, sealedTo } of report.boots) {
    if (unsealed !== null) {
      const why = sealedTo === 0 ? "the boot has no seal" : `the newest seal ends at ${sealedTo}`;
      line(`not sealed: ${node} ${boot} ${rangeOf(unsealed)}: ${why}`);
    }
    if (unhashed > 0)
      line(`not sealed: ${node} ${boot}: ${unhashed} records: the node's spool gave them up before they were hashed`);
    if (declared > 0) line(`declared lost: ${node} ${boot}: ${declared} numbers, by gap records`);
    if (absent > 0) line(`not in this part: ${node} ${boot}: ${absent} numbers`);
  }
  const { unreadable, erased, repetitions } = report;
  if (unreadable.lines > 0) line(`${unreadable.lines} lines are no records; the first is line ${unreadable.firstLine}`);
  if (erased > 0) line(`${erased} records have been erased; what is public in them is verified`);
  if (repetitions > 0) line(`${repetitions} records come twice, unchanged`);
  const result = report.findingCount === 0 ? "nothing is wrong" : `${report.findingCount} faults`;
  line(`${result}: ${report.records} records; ${report.verified} numbers match the ${seals} seals`);
}

function textOf({ kind, node, boot, first, last, line, detail }: RecordFinding): string {
  const at = line === null ? "" : ` (line ${line})`;
  return `${kind.toUpperCase()}: ${node} ${boot} ${rangeOf({ first, last })}${at}: ${detail}`;
}

function rangeOf({ first, last }: Readonly<{ first: number; last: number }>): string {
  return first === last ? `record ${first}` : `records ${first} to ${last}`;
}

function progressOf(terminal: Terminal): Readonly<{ show: PlaceProgress; clear: () => void }> {
  let shownAt = performance.now();
  let isShown = false;
  return {
    show(done, total, unit) {
      if (!terminal.interactive || performance.now() - shownAt < progressMs) return;
      shownAt = performance.now();
      isShown = true;
      const share = total === 0 ? 100 : Math.floor((done / total) * 100);
      terminal.err(`\r${share} % of ${unit === "bytes" ? `${Math.ceil(total / 1_000_000)} MB` : `${total} ${unit}`} `);
    },
    clear() {
      if (isShown) terminal.err("\r\x1b[K");
    },
  };
}
