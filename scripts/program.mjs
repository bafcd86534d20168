/**
 * Main file of the built program: runs `program.cjs`, with its compiled code if the build has kept it.
 *
 * - The code is that of a process which has just started (scripts/keep-code.ts). Node's own compile cache has only what
 *   loading a file compiles. Another 2,500 functions run at a start, and compiling them takes a third of it.
 * - The name of its file says of which text it is, and for which V8. V8 also refuses code that was made with other
 *   flags that change code, such as `--no-opt`; the program is then compiled as without. Flags of the garbage collector
 *   and of its threads do not count, so one file serves processes with and without helper threads.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { constants, Script } from "node:vm";
import { crc32 } from "node:zlib";

const require = createRequire(import.meta.url);
require("./gc-threads.cjs").restartForGc(); // before the work that a restart would repeat

const filename = fileURLToPath(new URL("program.cjs", import.meta.url));
const text = readMapped(filename);
const { arch, versions } = process;
export const codeFile = filename.replace(/cjs$/, `${crc32(text).toString(16)}-${versions.v8}-${arch}.code`);
const cachedData = codeOfStart();
// The build writes ASCII, a function expression (scripts/build.ts).
export const script = new Script(latin1Of(text), {
  filename,
  ...(cachedData && { cachedData }),
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
// What a start makes stays. A young generation that grows at once copies it twice, and one that doubles six times.
setFlagsFromString("--semi-space-growth-factor=16"); // until src/cli/process/gc/heap-tuning.ts
const main = { exports: {} };
script.runInThisContext()(require, main, main.exports, import.meta.url);

/**
 * As Latin-1 a text takes one byte a character. Node keeps one of more than a megabyte outside V8's heap, where compiling
 * it makes a start a tenth longer, so it is made of pieces.
 */
function latin1Of(bytes) {
  const pieceBytes = 1_000_000;
  let whole = "";
  for (let at = 0; at < bytes.length; at += pieceBytes)
    whole += bytes.latin1Slice(at, Math.min(at + pieceBytes, bytes.length));
  return whole;
}

function codeOfStart() {
  try {
    return readMapped(codeFile);
  } catch {
    return undefined;
  }
}

/**
 * V8 maps the memory of a resizable buffer by itself, and returns it. Once glibc's `malloc` has freed a block of
 * megabytes, it keeps up to twice as much free memory in each of its arenas: 7 MB of an idle process.
 */
function readMapped(path) {
  const file = openSync(path);
  try {
    const { size } = fstatSync(file);
    const bytes = Buffer.from(new ArrayBuffer(size, { maxByteLength: size }));
    for (let at = 0; at < size; ) {
      const read = readSync(file, bytes, at, size - at, at);
      if (read === 0) throw new Error(`${path} has become shorter`);
      at += read;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}
