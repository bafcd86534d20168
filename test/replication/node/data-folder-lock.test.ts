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

test("the next boot names the one it replaces, and none after a goodbye", () => {
  using folder = new TemporaryFolder("lock");
  const first = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(first.replaces, null);
  first.record("boot-1" as BootId, seed);
  first.release();
  const second = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(second.replaces, "boot-1");
  second.release(); // ended before its first renew: it never held a lease
  const third = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(third.replaces, "boot-1");
  third.record("boot-3" as BootId, seed);
  third.clear();
  third.release();
  const fourth = lockDataFolder({ dataDir: folder.path, node });
  assert.equal(fourth.replaces, null);
  fourth.release();
});

test("the seed of the last boot's key is kept with its id, and goes with a goodbye or an older build's boot", () => {
  using folder = new TemporaryFolder("lock");
  const place = { dataDir: folder.path, node };
  const first = lockDataFolder(place);
  assert.equal(first.replacedSeed, null);
  first.record("boot-1" as BootId, seed);
  first.release();
  const second = lockDataFolder(place);
  assert.deepEqual([second.replaces, second.replacedSeed], ["boot-1", seed]);
  second.clear();
  second.release();
  const third = lockDataFolder(place);
  assert.deepEqual([third.replaces, third.replacedSeed], [null, null]);
  third.record("boot-3" as BootId, seed);
  third.release();
  const older = new DatabaseSync(join(folder.path, "node-node-1.sqlite"));
  older.exec("update last_boot set id = 'boot-4'"); // as a build does that keeps no seeds
  older.close();
  const fifth = lockDataFolder(place);
  assert.deepEqual([fifth.replaces, fifth.replacedSeed], ["boot-4", null]);
  fifth.release();
});

test("a goodbye leaves neither the boot nor its key in the file, and a later record of the same boot is written", () => {
  using folder = new TemporaryFolder("lock");
  const place = { dataDir: folder.path, node };
  const path = join(folder.path, "node-node-1.sqlite");
  const ownSeed = Buffer.from("the seed of boot-1, 32 bytes long");
  const first = lockDataFolder(place);
  first.record("boot-1" as BootId, ownSeed);
  first.release();
  assert.ok(readFileSync(path).includes(ownSeed), "the file shows what it keeps");
  const second = lockDataFolder(place);
  second.record("boot-2" as BootId, seed);
  second.clear();
  second.release();
  const rows = new DatabaseSync(path, { readOnly: true });
  for (const table of ["last_boot", "last_key"])
    assert.equal(rows.prepare(`select count(*) as n from ${table}`).get()?.["n"], 0, table);
  rows.close();
  for (const trace of [ownSeed, Buffer.from(seed), Buffer.from("boot-1"), Buffer.from("boot-2")])
    assert.ok(!readFileSync(path).includes(trace), "deleted rows are overwritten");
  const third = lockDataFolder(place);
  third.record("boot-3" as BootId, seed);
  third.clear();
  third.record("boot-3" as BootId, seed);
  third.release();
  const fourth = lockDataFolder(place);
  assert.deepEqual([fourth.replaces, fourth.replacedSeed], ["boot-3", seed]);
  fourth.release();
});

test("two do not live in one folder, two nodes do", () => {
  using folder = new TemporaryFolder("lock");
  const first = lockDataFolder({ dataDir: folder.path, node });
  assert.throws(() => lockDataFolder({ dataDir: folder.path, node }), { code: "ERR_REPLICATION_DATA_FOLDER_LOCKED" });
  lockDataFolder({ dataDir: folder.path, node: "node/2:with=signs" as NodeId }).release();
  first.release();
});

test("a copied folder names nobody: whoever wrote into the original may be alive", () => {
  using folder = new TemporaryFolder("lock");
  const original = { dataDir: join(folder.path, "original"), node };
  const living = lockDataFolder(original);
  living.record("boot-1" as BootId, seed);
  cpSync(original.dataDir, join(folder.path, "copy"), { recursive: true, preserveTimestamps: true });
  const copied = lockDataFolder({ dataDir: join(folder.path, "copy"), node });
  assert.equal(copied.replaces, null);
  copied.record("boot-2" as BootId, seed);
  copied.release();
  living.release();
  renameSync(original.dataDir, join(folder.path, "moved"));
  const moved = lockDataFolder({ dataDir: join(folder.path, "moved"), node });
  assert.equal(moved.replaces, "boot-1");
  moved.release();
});

test("after a reboot, or on another machine, nothing proves that the boot before has ended: it is not named", () => {
  using folder = new TemporaryFolder("lock");
  const kernelBootId = join(folder.path, "boot_id");
  const place = { dataDir: join(folder.path, "data"), node, kernelBootId };
  const next = (): BootId | null => {
    const lock = lockDataFolder(place);
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
  rmSync(kernelBootId); // no kernel of ours: nothing is ever proven
  assert.equal(next(), null);
  assert.equal(next(), null);
});

test("a block-level clone of the disk names nobody, though its files have the same inodes and times", {
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
    const living = lockDataFolder({ dataDir: join(original, "data"), node });
    living.record("boot-1" as BootId, seed);
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
    living.release();
    const restarted = lockDataFolder({ dataDir: join(original, "data"), node });
    assert.equal(restarted.replaces, "boot-1", "a restart on the same disk is proven");
    restarted.release();
  } finally {
    execFileSync("umount", [original]);
  }
});

test("a damaged file is refused by its name with the remedy, and left as it is", () => {
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

test("on a full disk it is said which file finds no room; a boot that was not written down is, once there is some", {
  skip: process.getuid?.() !== 0 ? "mounting a small disk needs root" : false,
}, () => {
  using folder = new TemporaryFolder("lock");
  const place = { dataDir: join(folder.path, "small"), node };
  const fill = (): void =>
    assert.throws(() => writeFileSync(join(place.dataDir, "filler"), Buffer.alloc(1_000_000)), { code: "ENOSPC" });
  mkdirSync(place.dataDir);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", place.dataDir]);
  try {
    fill();
    assert.throws(() => lockDataFolder(place), {
      code: "ERR_REPLICATION_DATA_FOLDER_UNUSABLE",
      message: /node-node-1\.sqlite cannot grow: the disk is full\. Make room$/,
    });
    rmSync(join(place.dataDir, "filler"));
    const first = lockDataFolder(place);
    fill();
    assert.throws(() => first.record("boot-1" as BootId, seed), /disk is full/);
    rmSync(join(place.dataDir, "filler"));
    first.record("boot-1" as BootId, seed);
    first.release();
    const second = lockDataFolder(place);
    assert.equal(second.replaces, "boot-1");
    second.release();
  } finally {
    execFileSync("umount", ["-l", place.dataDir]);
  }
});

test("a killed process lets go, a paused one does not", async () => {
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
  const take = () => lockDataFolder({ dataDir: join(folder.path, "data"), node });
  child.pause();
  assert.throws(take, { code: "ERR_REPLICATION_DATA_FOLDER_LOCKED" });
  await child.kill();
  const taken = take();
  assert.equal(taken.replaces, "boot-of-the-child");
  taken.release();
});
