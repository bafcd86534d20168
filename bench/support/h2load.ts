/**
 * Load from h2load on the core of the load, over HTTP/2: one process per person, whose connections belong to that
 * person.
 *
 * Paths and queries differ from one request to the next. h2load sends all other lines unchanged, so a person's
 * `Referer` and `Accept` do not differ here.
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Application, peopleCount, personLines, requestOf, requestsPerPerson } from "./browsers.ts";
import type { Loader } from "./load.ts";
import type { Pinned } from "./pinned.ts";
import { coreOfLoad } from "./stand.ts";

const run = promisify(execFile);

export type H2Subject = Readonly<{
  name: string;
  /** The address to connect to; the host of the URLs only names the target. */
  port: number;
  pinned: Pinned;
  /** Concurrent streams per person, on one connection. */
  streams: number;
  /** Arguments of h2load for each person. */
  people: readonly (readonly string[])[];
}>;

/** @returns arguments of h2load for each person: header lines, and a file of URLs */
export function writeH2People(folder: string, name: string, application: Application): H2Subject["people"] {
  return Array.from({ length: peopleCount }, (_, person) => {
    const urls = Array.from({ length: requestsPerPerson }, (__, n) => requestOf(person, n, application).path);
    const file = join(folder, `${name}-${person}.urls`);
    writeFileSync(file, `${urls.map((path) => `${application.origin}${path}`).join("\n")}\n`);
    const { referer, accept } = requestOf(person, 1, application);
    const lines = [
      ...personLines(person, application),
      ["Accept", accept],
      ["Referer", `${application.origin}${referer}`],
    ];
    return ["-i", file, ...lines.flatMap(([field, value]) => ["-H", `${field}: ${value}`])];
  });
}

/** Keeps `streams` requests in flight for each person. h2load prints no percentiles, so there are none. */
export const byH2load: Loader<H2Subject> = async (subject, seconds) => {
  const before = subject.pinned.cpuMs();
  const all = await Promise.all(subject.people.map((person) => loadOne(subject, person, seconds)));
  const cpuMs = subject.pinned.cpuMs() - before;
  const sum = (of: "perSecond" | "errors" | "done"): number => all.reduce((total, one) => total + one[of], 0);
  return {
    perSecond: sum("perSecond"),
    p50: Number.NaN,
    p99: Number.NaN,
    errors: sum("errors"),
    cpuUs: (cpuMs * 1_000) / sum("done"),
  };
};

async function loadOne(
  { name, port, streams }: H2Subject,
  person: readonly string[],
  seconds: number,
): Promise<Readonly<Record<"perSecond" | "errors" | "done", number>>> {
  const how = ["-t1", "-c1", `-m${streams}`, `-D${seconds}`, "--alpn-list=h2", `--connect-to=127.0.0.1:${port}`];
  const { stdout } = await run("taskset", ["-c", coreOfLoad, "h2load", ...how, ...person], {
    timeout: (seconds + 30) * 1_000,
  });
  const protocol = /Application protocol: (\S+)/.exec(stdout)?.[1];
  if (protocol !== "h2") throw new Error(`${name} speaks ${protocol} rather than h2`);
  const counts = /(\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/.exec(stdout);
  const others = /status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/.exec(stdout);
  if (counts === null || others === null) throw new Error(`h2load printed: ${stdout}`);
  const [done = 0, ...lost] = counts.slice(1).map(Number);
  return {
    perSecond: Number(/finished in [\d.a-z]+, ([\d.]+) req\/s/.exec(stdout)?.[1] ?? Number.NaN),
    errors: [...lost, ...others.slice(1).map(Number)].reduce((total, n) => total + n, 0),
    done,
  };
}
