/** `cardea audit erase`: removes what is personal from the stored records of a person, and keeps their proofs. */
import { createReadStream, createWriteStream } from "node:fs";
import { rename, rm, stat, utimes } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { auditFiles, eraseLine, erasingSuffix, parseLine } from "../../../audit/index.ts";
import { parseUserId } from "../../../events/index.ts";
import { parse } from "../../terminal/arguments.ts";
import { CannotError, type CliCommand, UsageError } from "../../terminal/command.ts";

/** Records have 512 KiB at most. */
const lineBytesMax = 1_048_576;

export const auditErase: CliCommand = {
  name: "audit erase",
  usage: "FILE | -  --user USER_ID",
  summary: "remove what is personal from the records of a person, and keep their proofs valid",
  help: `FILE is an audit file of JSON lines; its rotated files are rewritten too, also compressed ones. No process may write to FILE meanwhile:
rotate it first. Records that name the user keep their public parts and a hash of what was removed, so cardea audit verify and proofs that
were made before still hold. With -, lines are read from standard input and printed. See docs/audit-proofs.md.`,
  async run(args, terminal) {
    const parsed = parse(args, { user: { type: "string" } }, { min: 1, max: 1 });
    const [path = ""] = parsed.positionals;
    const given = parsed.text("user");
    if (given === undefined) throw new UsageError("name the person with --user and the user id");
    const userId = parseUserId(given);
    if (path === "-") {
      for await (const line of linesIn(process.stdin)) terminal.out((erased(line, userId) ?? line).toString("utf8"));
      return 0;
    }
    const files = auditFiles(path, 0);
    if (files.length === 0) throw new CannotError(`${path} cannot be read: there is no such file`);
    let count = 0;
    for (const file of files)
      count += await rewrite(file, userId).catch((cause: unknown) => {
        throw new CannotError(`${file} cannot be rewritten: ${cause instanceof Error ? cause.message : cause}`, {
          cause,
        });
      });
    terminal.out(`${count} records erased in ${files.length} files\n`);
    return 0;
  },
};

/** The file is replaced as a whole, and only if something changes. @returns how many records were erased */
async function rewrite(path: string, userId: string): Promise<number> {
  const isCompressed = path.endsWith(".gz");
  const before = await stat(path);
  const copy = `${path}${erasingSuffix}`;
  let count = 0;
  async function* rewritten(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const line of linesIn(input)) {
      const shorter = erased(line, userId);
      if (shorter !== undefined) count++;
      yield shorter ?? line;
    }
  }
  const output = createWriteStream(copy, { mode: before.mode & 0o777, flush: true });
  try {
    if (isCompressed) await pipeline(createReadStream(path), createGunzip(), rewritten, createGzip(), output);
    else await pipeline(createReadStream(path), rewritten, output);
    const after = await stat(path);
    if (after.size !== before.size || after.ino !== before.ino)
      throw new Error("it changed meanwhile: rotate it first");
    if (count === 0) await rm(copy);
    else {
      await utimes(copy, before.atime, before.mtime); // rotated files are read in the order of their times
      await rename(copy, path);
    }
  } catch (error) {
    await rm(copy, { force: true });
    throw error;
  }
  return count;
}

/** The lines with their ends, byte for byte. What has no line end for long is passed on in pieces. */
async function* linesIn(input: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0);
  for await (const chunk of input) {
    rest = Buffer.concat([rest, chunk]);
    let from = 0;
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a, from)) {
      yield rest.subarray(from, end + 1);
      from = end + 1;
    }
    rest = rest.subarray(from);
    if (rest.length <= lineBytesMax) continue;
    yield rest;
    rest = Buffer.alloc(0);
  }
  if (rest.length > 0) yield rest;
}

/** @returns undefined if the line is not a record about the person */
function erased(line: Buffer, userId: string): Buffer | undefined {
  if (!line.includes(userId)) return undefined;
  const record = parseLine(line.toString("utf8"));
  if (record === undefined || record.kind === "gap") return undefined;
  const names: readonly unknown[] =
    record.kind === "decision"
      ? [record.userId]
      : [record.actor, ...(Array.isArray(record.targets) ? record.targets : [])].map((name) =>
          String(name).replace(/^user:/, ""),
        );
  const shorter = names.includes(userId) ? eraseLine(line) : undefined;
  return shorter && Buffer.concat([shorter, Buffer.from("\n")]);
}
