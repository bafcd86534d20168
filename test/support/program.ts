/**
 * Program: the file that tests start as the command `cardea`.
 *
 * `npm test` builds it as for the image (scripts/build.ts), because it starts in half of the processor time, and
 * names it in CARDEA_TEST_PROGRAM. A file of tests that runs by itself starts the sources.
 */
import { join } from "node:path";

export const mainFile = process.env["CARDEA_TEST_PROGRAM"] ?? join(import.meta.dirname, "../../src/main.ts");
