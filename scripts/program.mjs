/**
 * Main file of the built program: runs `program.cjs`, with its compiled code if the build has kept it.
 *
 * - The code is that of a process which has just started (scripts/keep-code.ts). Node's own compile cache has only what
 *   loading a file compiles. Another 2,500 functions run at a start, and compiling them takes a third of it.
 * - The name of its file says of which text it is, and for which V8. V8 also refuses code that was made with other
 *   flags that change code, such as `--no-opt`; the program is then compiled as without. Flags of the garbage collector
 *   and of its threads do not count, so one file serves processes with and without helper threads.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { constants, Script } from "node:vm";
import { crc32 } from "node:zlib";

const require = createRequire(import.meta.url);
require("./gc-threads.cjs").restartForGc(); // before the work that a restart would repeat

const filename = fileURLToPath(new URL("program.cjs", import.meta.url));
const text = readFileSync(filename);
const { arch, versions } = process;
export const codeFile = filename.replace(/cjs$/, `${crc32(text).toString(16)}-${versions.v8}-${arch}.code`);
const cachedData = codeOfStart();
export const script = new Script(
  // The build writes ASCII (scripts/build.ts). As Latin-1 a text takes one byte a character.
  `(function (require, module, exports, importMetaUrl) {${text.latin1Slice()}\n})`,
  {
    filename,
    ...(cachedData && { cachedData }),
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  },
);
// What a start makes stays. A young generation that grows at once copies it twice, and one that doubles six times.
setFlagsFromString("--semi-space-growth-factor=16"); // until src/cli/process/gc/heap-tuning.ts
const main = { exports: {} };
script.runInThisContext()(require, main, main.exports, import.meta.url);

function codeOfStart() {
  try {
    return readFileSync(codeFile);
  } catch {
    return undefined;
  }
}
