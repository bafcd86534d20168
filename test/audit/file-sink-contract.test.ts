/** The file sink keeps the sink contract. */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createFileSink, parseLine } from "../../src/audit/index.ts";
import { TemporaryFolder } from "../support/child.ts";
import { checkSink } from "./sink-contract.ts";

checkSink("file", async (t) => {
  const folder = new TemporaryFolder("file-sink");
  t.after(() => folder.remove());
  const place = join(folder.path, "inner");
  const path = join(place, "decisions.jsonl");
  const aside = join(folder.path, "aside");
  return {
    open: async () => createFileSink(path),
    records: async () =>
      existsSync(path)
        ? readFileSync(path, "utf8")
            .split("\n")
            .flatMap((line) => parseLine(line) ?? [])
        : [],
    async breakDown() {
      renameSync(place, aside);
      writeFileSync(place, "a file where the folder should be");
    },
    async repair() {
      rmSync(place);
      renameSync(aside, place);
    },
  };
});
