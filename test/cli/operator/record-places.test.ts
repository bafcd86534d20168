/** Record places: where a configuration stores records, and one decision found in each. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { createRecorder, openSpoolFolder, toLine } from "../../../src/audit/index.ts";
import { findInPlace, placesOf } from "../../../src/cli/operator/record-places.ts";
import { boot, decision, node } from "../../audit/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";

type PlacesConfig = Parameters<typeof findInPlace>[2];

function configOf(folder: string, more: object = {}): PlacesConfig {
  const audit = { files: [], spoolDir: join(folder, "spool"), postgres: null, s3: [], nats: false, ...more };
  return { audit, nats: null, certificateAuthority: null } as unknown as PlacesConfig;
}

const entry = (seq: number, requestId: string, more: object = {}): string =>
  toLine({ kind: "decision", seq, ...decision("/", { requestId }), ...more });

test("a decision is found by record id and by request id in the live file and in a rotated one, but not the end of its stream", async () => {
  using folder = new TemporaryFolder("record-places");
  const path = join(folder.path, "decisions.jsonl");
  writeFileSync(`${path}.1.gz`, gzipSync(entry(1, "old") + entry(2, "old", { occasion: "closed" })));
  writeFileSync(path, entry(3, "new"));
  const config = configOf(folder.path, { files: [{ path, format: "json" }] });
  assert.deepEqual(placesOf(config), ["files", "spool"]);
  for (const [id, seq] of [
    ["old", 1],
    ["new", 3],
    [`${boot}:3`, 3],
  ] as const)
    assert.deepEqual(
      (await findInPlace(id, "files", config)).map((found) => found.seq),
      [seq],
    );
  assert.deepEqual(await findInPlace("unknown", "files", config), []);
  assert.deepEqual(await findInPlace("unknown", "spool", config), [], "there is no spool here");
});

test("a decision that no sink has yet is found in the spool", async () => {
  using folder = new TemporaryFolder("record-places");
  const path = join(folder.path, "spool", encodeURIComponent(node));
  const disk = openSpoolFolder(path);
  const recorder = await createRecorder({
    ...{ node, boot, nowMs: () => Date.now(), monotonicMs: () => performance.now() },
    spool: {
      disk,
      bytesMax: 64 * 1024 * 1024,
      sinks: [{ name: "down", write: () => Promise.reject(new Error("down")), close: async () => undefined }],
    },
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(resolve, ms);
        signal?.addEventListener("abort", () => {
          clearTimeout(timer);
          reject(new Error("aborted"));
        });
      }),
    onFailure: () => {},
    onDamage: () => {},
  });
  recorder.record(decision("/", { requestId: "waiting" }));
  const found = await waitFor("the record in the spool", async () => {
    const records = await findInPlace("waiting", "spool", configOf(folder.path));
    return records.length > 0 ? records : undefined;
  });
  assert.equal(found[0]?.requestId, "waiting");
  await recorder.close(100);
  disk.release();
});
