/**
 * Free port: a loopback TCP port without a listener, for a server that a test starts.
 *
 * - Ports are below the range that the system uses for outgoing connections. Inside that range, a client that keeps
 *   dialling a stopped server could get the server's own port and connect to itself.
 * - No other test process gets the same port while this one runs.
 * - Other programs may still take the port. Then the caller tries again with another one.
 */
import { randomInt } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const lowest = 20_000;
const aboveHighest = 32_000;
const attempts = 200;
const startAttempts = 3;

/** A folder with one file per port in use by a test process. The file holds that process's pid. */
const given = join(tmpdir(), "cardea-test-ports");

export const freePort = (): Promise<number> => freeBasePort([0]);

/** @returns a base port; the base plus each offset is free */
export async function freeBasePort(offsets: readonly number[]): Promise<number> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const base = randomInt(lowest, aboveHighest - Math.max(...offsets));
    const ports = offsets.map((offset) => base + offset);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean) && ports.every(take)) return base;
  }
  throw new Error(`no free port found between ${lowest} and ${aboveHighest} in ${attempts} attempts`);
}

/** @returns `count` different free ports */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

/** Retries with another port, because another program may take a port between the check and the server's start. */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (attempt === startAttempts) throw error;
    }
  }
}

/** @returns false when a live test process already has the port, this one included */
function take(port: number): boolean {
  const file = join(given, String(port));
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      mkdirSync(given, { recursive: true });
      writeFileSync(file, String(process.pid), { flag: "wx" });
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    if (isAlive(Number(readFileSync(file, "utf8")))) return false;
    rmSync(file, { force: true });
  }
  return false;
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
