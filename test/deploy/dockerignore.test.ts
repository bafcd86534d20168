/** What the Dockerfile copies from this folder is not left out of what the engine gets. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const root = join(import.meta.dirname, "..", "..");
const linesOf = (name: string): readonly string[] => readFileSync(join(root, name), "utf8").split("\n");

test(".dockerignore admits all that the Dockerfile copies", () => {
  const admitted = linesOf(".dockerignore").flatMap((line) => (line.startsWith("!") ? [line.slice(1)] : []));
  const copied = linesOf("Dockerfile")
    .filter((line) => line.startsWith("COPY ") && !line.includes("--from="))
    .flatMap((line) => line.split(/\s+/).slice(1, -1));
  assert.ok(copied.length > 5, copied.join(" "));
  const isAdmitted = (path: string): boolean =>
    admitted.some((each) => each === path || each === `${path}/` || (each.endsWith("/") && path.startsWith(each)));
  assert.deepEqual(
    copied.filter((path) => !isAdmitted(path)),
    [],
  );
});
