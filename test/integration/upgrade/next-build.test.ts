/** The next build (next-build.ts) still matches the sources that it changes. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { nextBuild } from "./next-build.ts";

const root = new URL("../../../", import.meta.url);

test("each source change of the next build finds its text exactly once", () => {
  const stale = nextBuild.filter(
    ({ file, take }) => readFileSync(new URL(file, root), "utf8").split(take).length !== 2,
  );
  assert.deepEqual(
    stale.map(({ file, take }) => `${file}: ${take}`),
    [],
  );
});
