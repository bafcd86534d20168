/** nghttpd as an upstream, with odd settings: our HTTP/2 connections make of it what `node:http2` makes of it. */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { type TestContext, test } from "node:test";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { onFreePort } from "../../support/free-port.ts";
import { runSeed, SeededRandom } from "../../support/seeded-random.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { Asked } from "./upstream-fuzz/cases.ts";
import { bodyOf, callNode, callOwn, type Got, openPool } from "./upstream-fuzz/clients.ts";

const nghttpd = (process.env["PATH"] ?? "")
  .split(delimiter)
  .map((path) => join(path, "nghttpd"))
  .find((path) => existsSync(path));

/** By the path that the clients ask for. */
const files = ["f".repeat(300_000), "ten bytes.", ""];

async function startNghttpd(t: TestContext, args: readonly string[]): Promise<number> {
  const folder = new TemporaryFolder("nghttpd");
  for (const [name, text] of files.entries()) writeFileSync(join(folder.path, String(name)), text);
  return onFreePort(async (port) => {
    const common = ["--no-tls", "--address=127.0.0.1", `--htdocs=${folder.path}`];
    const child = await Child.start({
      command: nghttpd ?? "",
      args: [...common, ...args, String(port)],
      logFile: join(folder.path, "log"),
    });
    t.after(async () => {
      await child.kill();
      folder.remove();
    });
    await waitFor("nghttpd to listen", async () => {
      assert.ok(child.running, child.log());
      return new Promise<boolean>((resolve) => {
        const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
        socket.on("connect", () => socket.destroy());
      });
    });
    return port;
  });
}

function resultOf({ end, status, lines, trailers, body, error }: Got): object {
  const kept = lines.filter((_, i) => lines[i - (i % 2)] !== "date");
  return { end, status, lines: kept, trailers, error, bytes: Buffer.concat(body).length };
}

const settings: Readonly<Record<string, readonly string[]>> = {
  "padding, trailers and small windows": [
    ...["--echo-upload", "--padding=200", "--trailer=x-sum: 1", "--window-bits=12", "--connection-window-bits=16"],
  ],
  "no tables and no lengths": [...["--header-table-size=0", "--encoder-header-table-size=0", "--no-content-length"]],
};

for (const [name, args] of Object.entries(settings))
  test(name, { skip: nghttpd === undefined && "no nghttpd" }, async (t) => {
    const random = new SeededRandom(runSeed);
    const port = await startNghttpd(t, args);
    const pool = openPool(port, "cardea");
    t.after(() => pool.close());
    for (let round = 0; round < 15; round++) {
      const requests = files.map((): Asked => {
        const method = random.pick(["GET", "GET", "HEAD", "POST", "PUT"]);
        const hasBody = method === "POST" || method === "PUT";
        return { method, bodyBytes: hasBody ? random.pick([1, 1_000, 100_000]) : -1, trailers: false };
      });
      const mood = round % 2 === 0 ? undefined : new SeededRandom(round);
      const own = callOwn(pool, requests, { mood, onChange: () => {} });
      const node = callNode(port, requests, () => {});
      const isOver = ({ end, isAborted }: Got): boolean => end !== "open" || isAborted;
      await waitFor("all responses", () => [...own, ...node.got].every(isOver), { everyMs: 1 });
      for (const [i, got] of own.entries()) {
        const theirs = node.got[i];
        const { method, bodyBytes } = requests[i] ?? { method: "", bodyBytes: -1 };
        if (got.isAborted || theirs === undefined) continue;
        assert.deepEqual(resultOf(got), resultOf(theirs), `SEED=${runSeed}, round ${round}: ${method} /${i}`);
        assert.deepEqual([got.end, got.status], ["complete", 200]);
        const echoed = args.includes("--echo-upload") && bodyBytes >= 0;
        const expected = echoed ? bodyOf(2 * i + 1, bodyBytes) : Buffer.from(method === "HEAD" ? "" : (files[i] ?? ""));
        assert.ok(Buffer.concat(got.body).equals(expected), `the body of ${method} /${i}`);
      }
      node.close();
    }
  });
