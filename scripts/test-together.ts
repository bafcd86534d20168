/**
 * Tests together: loads files of tests in one process, one after another, each as a suite of its own, so that their
 * hooks stay apart.
 *
 *   node scripts/test-together.ts FILE…
 */
import { relative } from "node:path";
import { suite } from "node:test";
import { pathToFileURL } from "node:url";

for (const file of process.argv.slice(2))
  suite(relative(process.cwd(), file), async () => {
    await import(pathToFileURL(file).href);
  });
