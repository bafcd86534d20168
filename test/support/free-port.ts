/**
 * Free port: a loopback TCP port that nobody listens on, for a server that a test starts.
 *
 * Ports come from below the range that the system hands out for outgoing connections. Inside that range a client that
 * keeps dialling a server which is down could be given the server's own port, and would then be talking to itself.
 * No other test process is given the same one while this one lives. Against anybody else it is not reserved: whoever
 * starts the server tries again with another port when somebody was faster.
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

/** A file for each port that was given to somebody, with their pid. */
const given = join(tmpdir(), "cardea-test-ports");

export const freePort = (): Promise<number> => freeBasePort([0]);

/** One that is free, and so are those above it by so much. */
export async function freeBasePort(offsets: readonly number[]): Promise<number> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const base = randomInt(lowest, aboveHighest - Math.max(...offsets));
    const ports = offsets.map((offset) => base + offset);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean) && ports.every(take)) return base;
  }
  throw new Error(`no free port found between ${lowest} and ${aboveHighest} in ${attempts} attempts`);
}

/** Different ones, as many as asked for. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

/** Somebody else may take a port between our look and the server's start. */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await start(await freePort());
    } catch (error) {
      if (attempt === startAttempts) throw error;
    }
  }
}

/** @returns false when it was given to somebody who is alive, us included */
function take(port: number): boolean {
  const file = join(given, String(port));
  for (let look = 0; look < 2; look++) {
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
