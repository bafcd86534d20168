/** Data-folder lock: one process per folder, and which earlier boot the next one may name as replaced. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import type { BootId, NodeId } from "../../../src/events/index.ts";
import { lockDataFolder } from "../../../src/replication/node/data-folder-lock.ts";
import { Child, TemporaryFolder } from "../../support/child.ts";
import { waitFor } from "../../support/wait-for.ts";

const node = "node-1" as NodeId;
const seed = new Uint8Array(32).fill(5);

const canMountImages = (() => {
  using folder = new TemporaryFolder("lock-loop");
  const image = join(folder.path, "disk.img");
  try {
    writeFileSync(image, Buffer.alloc(8_000_000));
    execFileSync("mkfs.ext4", ["-q", image], { stdio: "ignore" });
    execFileSync("mount", ["-o", "loop", image, folder.path], { stdio: "ignore" });
    execFileSync("umount", [folder.path]);
    return true;
  } catch {
    return false; // no root, no mkfs.ext4, or no loop devices
  }
})();

test("a boot names the boot it replaces, and none after a goodbye", () => {
  using folder = new TemporaryFolder("lock");
  const first = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(first.replaces, null);
  first.record("boot-1" as BootId, seed);
  first.release();
  const second = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(second.replaces, "boot-1");
  second.release(); // ended before its first renewal, so it never held a lease
  const third = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(third.replaces, "boot-1");
  third.record("boot-3" as BootId, seed);
  third.clear();
  third.release();
  const fourth = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(fourth.replaces, null);
  fourth.release();
});

test("the key seed of the last boot is stored with its id, and removed by a goodbye or by an older build's boot", () => {
  using folder = new TemporaryFolder("lock");
  const location = { dataDir: folder.path, node };
  const first = lockDataFolder(location);
  assert.equal(first.replacedSeed, null);
  first.record("boot-1" as BootId, seed);
  first.release();
  const second = lockDataFolder(location);
  assert.deepEqual([second.replaces, second.replacedSeed], ["boot-1", seed]);
  second.clear();
  second.release();
  const third = lockDataFolder(location);
  assert.deepEqual([third.replaces, third.replacedSeed], [null, null]);
  third.record("boot-3" as BootId, seed);
  third.release();
  const older = new DatabaseSync(join(folder.path, "node-node-1.sqlite"));
  older.exec("update last_boot set id = 'boot-4'"); // as an older build does, which stores no seeds
  older.close();
  const fifth = lockDataFolder(location);
  assert.deepEqual([fifth.replaces, fifth.replacedSeed], ["boot-4", null]);
  fifth.release();
});

test("a goodbye leaves neither the boot nor its key in the file, and the same boot can be recorded again", () => {
  using folder = new TemporaryFolder("lock");
  const location = { dataDir: folder.path, node };
  const path = join(folder.path, "node-node-1.sqlite");
  const ownSeed = Buffer.from("the seed of boot-1, 32 bytes long");
  const first = lockDataFolder(location);
  first.record("boot-1" as BootId, ownSeed);
  first.release();
  assert.ok(readFileSync(path).includes(ownSeed), "the file holds the seed in the clear");
  const second = lockDataFolder(location);
  second.record("boot-2" as BootId, seed);
  second.clear();
  second.release();
  const rows = new DatabaseSync(path, { readOnly: true });
  for (const table of ["last_boot", "last_key"])
    assert.equal(rows.prepare(`select count(*) as n from ${table}`).get()?.["n"], 0, table);
  rows.close();
  for (const trace of [ownSeed, Buffer.from(seed), Buffer.from("boot-1"), Buffer.from("boot-2")])
    assert.ok(!readFileSync(path).includes(trace), "deleted rows are overwritten");
  const third = lockDataFolder(location);
  third.record("boot-3" as BootId, seed);
  third.clear();
  third.record("boot-3" as BootId, seed);
  third.release();
  const fourth = lockDataFolder(location);
  assert.deepEqual([fourth.replaces, fourth.replacedSeed], ["boot-3", seed]);
  fourth.release();
});

test("two processes of one node cannot share a folder; two nodes can", () => {
  using folder = new TemporaryFolder("lock");
  const first = lockDataFolder({ dataDir: folder.path, node });
  assert.throws(() => lockDataFolder({ dataDir: folder.path, node }), { code: "ERR_REPLICATION_DATA_FOLDER_LOCKED" });
  lockDataFolder({ dataDir: folder.path, node: "node/2:with=signs" as NodeId }).release();
  first.release();
});

test("a copied folder names no replaced boot, because the boot that wrote the original may be alive", () => {
  using folder = new TemporaryFolder("lock");
  const original = { dataDir: join(folder.path, "original"), node };
  const running = lockDataFolder(original);
  running.record("boot-1" as BootId, seed);
  cpSync(original.dataDir, join(folder.path, "copy"), { recursive: true, preserveTimestamps: true });
  const copied = lockDataFolder({ dataDir: join(folder.path, "copy"), node });
  assert.equal(copied.replaces, null);
  copied.record("boot-2" as BootId, seed);
  copied.release();
  running.release();
  renameSync(original.dataDir, join(folder.path, "moved"));
  const moved = lockDataFolder({ dataDir: join(folder.path, "moved"), node });
  assert.equal(moved.replaces, "boot-1");
  moved.release();
});

test("after a reboot or on another machine no replaced boot is named, because nothing proves that it has ended", () => {
  using folder = new TemporaryFolder("lock");
  const kernelBootId = join(folder.path, "boot_id");
  const location = { dataDir: join(folder.path, "data"), node, kernelBootId };
  const next = (): BootId | null => {
    const lock = lockDataFolder(location);
    const { replaces } = lock;
    lock.record("boot-1" as BootId, seed);
    lock.release();
    return replaces;
  };
  writeFileSync(kernelBootId, "the first boot of the machine\n");
  assert.equal(next(), null);
  assert.equal(next(), "boot-1");
  writeFileSync(kernelBootId, "the second boot of the machine\n");
  assert.equal(next(), null);
  assert.equal(next(), "boot-1");
  rmSync(kernelBootId); // without a kernel boot id nothing is ever proven
  assert.equal(next(), null);
  assert.equal(next(), null);
});

test("a block-level clone of the disk names no replaced boot, although its files have the same inodes and times", {
  skip: canMountImages ? false : "mounting a disk image needs root and loop devices",
}, () => {
  using folder = new TemporaryFolder("lock");
  const [image, clone] = [join(folder.path, "disk.img"), join(folder.path, "clone.img")];
  execFileSync("dd", ["if=/dev/zero", `of=${image}`, "bs=1M", "count=8"], { stdio: "ignore" });
  execFileSync("mkfs.ext4", ["-q", image]);
  const mounted = (of: string): string => {
    const at = `${of}.mount`;
    mkdirSync(at);
    execFileSync("mount", ["-o", "loop", of, at]);
    return at;
  };
  const original = mounted(image);
  try {
    const running = lockDataFolder({ dataDir: join(original, "data"), node });
    running.record("boot-1" as BootId, seed);
    execFileSync("sync");
    cpSync(image, clone);
    const copy = mounted(clone);
    try {
      const cloned = lockDataFolder({ dataDir: join(copy, "data"), node });
      assert.equal(cloned.replaces, null);
      cloned.release();
    } finally {
      execFileSync("umount", [copy]);
    }
    running.release();
    const restarted = lockDataFolder({ dataDir: join(original, "data"), node });
    assert.equal(restarted.replaces, "boot-1", "a restart on the same disk is proven");
    restarted.release();
  } finally {
    execFileSync("umount", [original]);
  }
});

test("a damaged file is refused with its name and the remedy, and left unchanged", () => {
  using folder = new TemporaryFolder("lock");
  lockDataFolder({ dataDir: folder.path, node }).release();
  const path = join(folder.path, "node-node-1.sqlite");
  const bytes = Buffer.alloc(8_192, "x");
  writeFileSync(path, bytes);
  assert.throws(() => lockDataFolder({ dataDir: folder.path, node }), {
    code: "ERR_REPLICATION_DATA_FOLDER_UNUSABLE",
    message: /node-node-1\.sqlite is damaged \(.+\): .* remove the file\./,
  });
  assert.deepEqual(readFileSync(path), bytes);
});

test("on a full disk the error names the file, and the boot can be recorded once there is space", {
  skip: process.getuid?.() !== 0 ? "mounting a small disk needs root" : false,
}, () => {
  using folder = new TemporaryFolder("lock");
  const location = { dataDir: join(folder.path, "small"), node };
  const fill = (): void =>
    assert.throws(() => writeFileSync(join(location.dataDir, "filler"), Buffer.alloc(1_000_000)), { code: "ENOSPC" });
  mkdirSync(location.dataDir);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", location.dataDir]);
  try {
    fill();
    assert.throws(() => lockDataFolder(location), {
      code: "ERR_REPLICATION_DATA_FOLDER_UNUSABLE",
      message: /node-node-1\.sqlite cannot grow: the disk is full\. Free some space$/,
    });
    rmSync(join(location.dataDir, "filler"));
    const first = lockDataFolder(location);
    fill();
    assert.throws(() => first.record("boot-1" as BootId, seed), /disk is full/);
    rmSync(join(location.dataDir, "filler"));
    first.record("boot-1" as BootId, seed);
    first.release();
    const second = lockDataFolder(location);
    assert.equal(second.replaces, "boot-1");
    second.release();
  } finally {
    execFileSync("umount", ["-l", location.dataDir]);
  }
});

test("a killed process releases the lock, a paused one does not", async () => {
  using folder = new TemporaryFolder("lock");
  const source = join(import.meta.dirname, "../../../src/replication/node/data-folder-lock.ts");
  const script = `
    import { lockDataFolder } from ${JSON.stringify(source)};
    lockDataFolder({ dataDir: ${JSON.stringify(join(folder.path, "data"))}, node: "node-1" }).record("boot-of-the-child", new Uint8Array(32));
    console.log("locked");
    setInterval(() => {}, 1000);`;
  const child = await Child.start({
    command: process.execPath,
    args: ["--input-type=module", "--eval", script],
    logFile: join(folder.path, "child.log"),
  });
  await waitFor("the child to hold the lock", () => child.log().includes("locked"));
  const lock = () => lockDataFolder({ dataDir: join(folder.path, "data"), node });
  child.pause();
  assert.throws(lock, { code: "ERR_REPLICATION_DATA_FOLDER_LOCKED" });
  await child.kill();
  const next = lock();
  assert.equal(next.replaces, "boot-of-the-child");
  next.release();
});
