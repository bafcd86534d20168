/**
 * The output of a process: whole lines, asynchronous, bounded, dropped with a count, and recovering after a failure.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  constants,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openOutput } from "../../../src/cli/terminal/output.ts";
import { sendRequest, startUpstream } from "../../proxy/support.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { freePorts } from "../../support/free-port.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";

const noticeOf = (lines: number, reason: string): string => JSON.stringify({ notice: lines, reason });
const needsRoot = { skip: process.getuid?.() !== 0 ? "mounting a small disk needs root" : false };

function smallDisk(t: TestContext, size: string): string {
  const folder = new TemporaryFolder("output-disk");
  const disk = join(folder.path, "disk");
  mkdirSync(disk);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", disk]);
  t.after(() => {
    execFileSync("umount", ["-l", disk]);
    folder.remove();
  });
  return disk;
}

/** A pipe whose reader does not read. The writing end is non-blocking, as Node sets standard output. */
function stalledPipe(t: TestContext): Readonly<{ reader: number; writer: number }> {
  const folder = new TemporaryFolder("output-pipe");
  const pipe = join(folder.path, "pipe");
  execFileSync("mkfifo", [pipe]);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
  t.after(() => {
    closeSync(reader);
    closeSync(writer);
    folder.remove();
  });
  return { reader, writer };
}

test("lines of all logs arrive whole and in order, and close() writes what is queued", async () => {
  using folder = new TemporaryFolder("output");
  const file = join(folder.path, "out");
  const output = openOutput({ fd: openSync(file, "a"), noticeOf });
  const access = Array.from({ length: 1_000 }, (_, i) => JSON.stringify({ i, path: "/".padEnd(i % 300, "ü") }));
  const records = Array.from({ length: 500 }, (_, i) => JSON.stringify({ record: i, pad: "y".repeat(i * 20) }));
  const written = output.writeAll(Buffer.from(`${records.join("\n")}\n`));
  for (const [i, line] of access.entries()) {
    assert.equal(output.writeLine(line), true);
    if (i % 100 === 0) output.write('"a line of another log"\n');
  }
  await output.close();
  await written;
  const read = readFileSync(file, "utf8").split("\n");
  assert.equal(read.pop(), "");
  assert.deepEqual(
    read.filter((line) => line.startsWith('{"i"')),
    access,
  );
  assert.deepEqual(
    read.filter((line) => line.startsWith('{"record"')),
    records,
  );
  assert.equal(read.filter((line) => line === '"a line of another log"').length, 10);
  assert.equal(output.writeLine("late"), false);
  await assert.rejects(output.writeAll(Buffer.from("late\n")), /closed/);
});

test("with a stalled reader lines are dropped and counted; when it reads again, one line reports how many", async (t) => {
  const { reader, writer } = stalledPipe(t);
  const output = openOutput({ fd: writer, noticeOf });
  const line = "x".repeat(1_000);
  let dropped = 0;
  for (let i = 0; i < 10_000; i++) if (!output.writeLine(line)) dropped++;
  assert.ok(dropped > 1_000 && dropped < 10_000, `${dropped} of 10,000 lines of 1 kB were dropped`);
  assert.equal(output.stats().droppedLines, dropped);
  assert.ok(output.stats().queuedBytes <= 4 * 1024 * 1024);

  const bytes = Buffer.alloc(65_536);
  let text = "";
  await waitFor("all queued lines to arrive", () => {
    try {
      text += bytes.subarray(0, readSync(reader, bytes)).toString();
    } catch {
      // nothing there yet
    }
    return output.stats().queuedBytes === 0 && text.endsWith("\n") && text.split("\n").length > 10_000 - dropped;
  });
  const lines = text.split("\n").filter((one) => one !== "");
  assert.deepEqual(
    lines.filter((one) => one !== line),
    [noticeOf(dropped, "full")],
  );
  assert.equal(lines.length, 10_000 - dropped + 1);
  await output.close();
});

test("closeNow() waits for the reader of a full pipe", async (t) => {
  using folder = new TemporaryFolder("output-exit");
  const [pipe, file] = [join(folder.path, "pipe"), join(folder.path, "read")];
  execFileSync("mkfifo", [pipe]);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK);
  t.after(() => closeSync(reader));
  const output = openOutput({ fd: writer, noticeOf });
  const lines = Array.from({ length: 60 }, (_, i) => `line ${i} `.padEnd(2_000, "x")); // more than the pipe can hold
  for (const line of lines) output.writeLine(line);
  let filled: unknown;
  while (filled === undefined) {
    try {
      writeFileSync(writer, "y".repeat(4_095).concat("\n"));
    } catch (error) {
      filled = error;
    }
  }
  const child = spawn("sh", ["-c", `exec cat "${pipe}" > "${file}"`], { stdio: "ignore" });
  output.closeNow();
  closeSync(writer);
  await new Promise((resolve) => child.once("exit", resolve));
  const read = new Set(readFileSync(file, "utf8").split("\n"));
  assert.deepEqual(
    lines.filter((line) => !read.has(line)),
    [],
  );
});

test("a stalled pipe delays neither close() nor closeNow() beyond its bound", async (t) => {
  const { writer } = stalledPipe(t);
  const output = openOutput({ fd: writer, noticeOf });
  const batch = output.writeAll(Buffer.from(`${"z".repeat(100_000)}\n`));
  batch.catch(() => undefined);
  for (let i = 0; i < 100; i++) output.writeLine("x".repeat(1_000));
  output.closeNow();
  await assert.rejects(batch, /closed before this was written/);
  const other = openOutput({ fd: writer, noticeOf });
  other.writeLine("x");
  await other.close(); // gives up after its bound
  assert.deepEqual(other.stats(), { queuedBytes: 0, droppedLines: 0, leftOutLines: 0, failure: null });
});

test("close() retries a failed write at once, however long the delay before the next retry is", async (t) => {
  using folder = new TemporaryFolder("output-close");
  const file = join(folder.path, "out");
  const fd = openSync(file, "a");
  closeSync(fd); // writes fail with EBADF until another file has this number
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const output = openOutput({ fd, noticeOf });
  output.write("a line\n");
  while (output.stats().failure === null) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(openSync(file, "a"), fd);
  await output.close(); // no timer fires here
  assert.equal(readFileSync(file, "utf8"), "a line\n");
  closeSync(fd);
});

test("output of libraries to standard error is non-blocking and bounded, even if its reader stalls", async (t) => {
  const { writer } = stalledPipe(t);
  const logger = JSON.stringify(new URL("../../../src/cli/process/logger.ts", import.meta.url).pathname);
  const script = `const { openStandardOutput } = await import(${logger});
    const output = openStandardOutput();
    for (let i = 0; i < 6_000; i++) console.error("x".repeat(1_000));
    setTimeout(() => output.writeLine(\`alive, \${process.stderr.writableLength} bytes kept by Node\`), 50);`;
  const child = spawn(process.execPath, ["--no-warnings", "--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", writer],
  });
  t.after(() => child.kill("SIGKILL"));
  let printed = "";
  child.stdout?.on("data", (bytes) => (printed += bytes));
  await waitFor("the event loop to continue", () => printed !== "");
  assert.equal(printed, "alive, 0 bytes kept by Node\n");
});

test("an empty write completes at once", async () => {
  using folder = new TemporaryFolder("output-nothing");
  const output = openOutput({ fd: openSync(join(folder.path, "out"), "a"), noticeOf });
  await output.writeAll(Buffer.alloc(0));
  await output.close();
});

test(
  "writes to a full disk are retried; once there is room, everything queued is written, the torn line first",
  needsRoot,
  async (t) => {
    const disk = smallDisk(t, "64k");
    const file = join(disk, "out");
    const filler = join(disk, "filler");
    writeFileSync(filler, Buffer.alloc(56 * 1024));
    const output = openOutput({ fd: openSync(file, "a"), noticeOf });
    const lines = Array.from({ length: 40 }, (_, i) => `${i}:${"x".repeat(1_000)}`);
    for (const line of lines) output.writeLine(line);
    const batch = output.writeAll(Buffer.from("a record\n"));
    await waitFor("the disk to be full", () => output.stats().failure === "ENOSPC");
    rmSync(filler);
    await batch;
    await waitFor("everything to be written", () => output.stats().queuedBytes === 0);
    assert.deepEqual(readFileSync(file, "utf8").split("\n"), [...lines, "a record", ""]);
    assert.equal(output.stats().failure, null);
    await output.close();
  },
);

for (const destination of ["a file on a full disk", "a pipe with a stalled reader"] as const) {
  test(
    `a proxy whose standard output is ${destination} serves requests, /ping and /metrics, and logs again later`,
    needsRoot,
    async (t) => {
      const disk = smallDisk(t, "256k");
      const log = join(disk, "log");
      const filler = join(disk, "filler");
      const [port = 0, metrics = 0] = await freePorts(2);
      using folder = new TemporaryFolder("output-process");
      const config = await configuration(t, folder, { port, metrics });

      const pipe = destination.startsWith("a pipe");
      if (pipe) execFileSync("mkfifo", [log]);
      const reader = pipe ? openSync(log, constants.O_RDONLY | constants.O_NONBLOCK) : null;
      const out = openSync(
        log,
        pipe ? constants.O_WRONLY : constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND,
      );
      const child = spawn(process.execPath, ["--no-warnings", mainFile, "run", "-c", config], {
        stdio: ["ignore", out, "inherit"],
      });
      closeSync(out);
      t.after(async () => {
        child.kill("SIGKILL");
        if (reader !== null) closeSync(reader);
      });
      await waitFor("the process to be ready", async () => (await get(metrics, "/readyz")).status === 200, {
        withinMs: 60_000,
      });

      if (!pipe) assert.throws(() => writeFileSync(filler, Buffer.alloc(1_000_000)), { code: "ENOSPC" });
      const path = `/${"p".repeat(6_000)}`;
      const dropped = /cardea_log_output_dropped_lines [1-9]/;
      let measured = "";
      for (let i = 1; i <= 4_000 && !dropped.test(measured); i++) {
        const answer = await get(port, path);
        assert.equal(answer.status, 200);
        if (i % 200 === 0) measured = (await get(metrics, "/metrics")).body;
      }
      for (let i = 0; i < 200; i++) assert.equal((await get(port, path)).status, 200, "while lines are dropped");
      assert.equal((await get(port, "/ping")).status, 200);
      assert.match(measured, dropped);
      assert.match(measured, pipe ? /cardea_log_output_failing 0/ : /cardea_log_output_failing 1/);

      if (pipe) drain(t, reader ?? 0);
      else rmSync(filler);
      const working = /cardea_log_output_queued_bytes 0\n(.*\n)*cardea_log_output_failing 0/;
      if (pipe) {
        await waitFor("the queue to be written", async () => working.test((await get(metrics, "/metrics")).body));
      } else {
        // The disk has less room than the queue needs; log rotation would free it.
        await waitFor("the output to work", async () => {
          execFileSync("truncate", ["-s", "0", log]);
          return working.test((await get(metrics, "/metrics")).body);
        });
      }
      assert.equal((await get(port, "/ping")).status, 200);
      child.kill("SIGTERM");
      await new Promise((resolve) => child.once("exit", resolve));
      assert.equal(child.exitCode, 0);
      assert.ok(readdirSync(disk).includes("log"));
    },
  );
}

async function configuration(
  t: TestContext,
  folder: TemporaryFolder,
  ports: Readonly<{ port: number; metrics: number }>,
): Promise<string> {
  const upstream = await startUpstream();
  t.after(upstream.close);
  const secret = (byte: number): string =>
    Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 7 + byte) % 251)).toString("base64");
  const file = join(folder.path, "cardea.yaml");
  const config = {
    authenticate_service_url: `http://authenticate.localhost:${ports.port}`,
    ...{ address: `127.0.0.1:${ports.port}`, metrics_address: `127.0.0.1:${ports.metrics}` },
    ...{ insecure_server: true, data_dir: join(folder.path, "data"), node_name: "node-1" },
    ...{ shared_secret: secret(3), cookie_secret: secret(5), drain_delay: "0s", drain_timeout: "1s" },
    ...{ idp_provider: "oidc", idp_provider_url: "https://idp.example:1", idp_client_id: "c", idp_client_secret: "s" },
    audit: { sinks: [{ stdout: true }] },
    routes: [
      {
        ...{ from: `http://app.localhost:${ports.port}`, to: `http://127.0.0.1:${upstream.port}` },
        allow_public_unauthenticated_access: true,
      },
    ],
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}

async function get(port: number, path: string): Promise<{ status: number; body: string }> {
  try {
    return await sendRequest(port, { path, host: `app.localhost:${port}` });
  } catch {
    return { status: 0, body: "" };
  }
}

/** Reads a pipe until the test ends. */
function drain(t: TestContext, fd: number): void {
  const bytes = Buffer.alloc(65_536);
  const reading = setInterval(() => {
    try {
      while (readSync(fd, bytes) > 0);
    } catch {
      // nothing there yet
    }
  }, 5);
  t.after(() => clearInterval(reading));
}
