/** Load from h2load on the core of the load: HTTP/2, and HTTP/1.1 over TLS for those that are to be compared with it. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Loader, Subject } from "./load.ts";
import { coreOfLoad } from "./stand.ts";

const run = promisify(execFile);

/** Where to connect to, since the host of the URL names what is asked for. */
export type H2Subject = Subject &
  Readonly<{ port: number; streams: number; connections: number; protocol: "h2" | "http/1.1" }>;

/** Keeps `connections` × `streams` requests under way. h2load says no percentiles, so there are none. */
export const byH2load: Loader<H2Subject> = async (subject, seconds) => {
  const { url, headers, pinned, port, streams, connections, protocol } = subject;
  const args = [
    ...["-t1", `-c${connections}`, `-m${streams}`, `-D${seconds}`, `--alpn-list=${protocol}`],
    `--connect-to=127.0.0.1:${port}`,
    // Host is what the URL says.
    ...headers.filter((line) => !/^host:/i.test(line)).flatMap((line) => ["-H", line]),
  ];
  const before = pinned.cpuMs();
  const { stdout } = await run("taskset", ["-c", coreOfLoad, "h2load", ...args, url], {
    timeout: (seconds + 30) * 1_000,
  });
  const spoken = /Application protocol: (\S+)/.exec(stdout)?.[1];
  if (spoken !== protocol) throw new Error(`${subject.name} speaks ${spoken} rather than ${protocol}`);
  const counts = /(\d+) done, \d+ succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/.exec(stdout);
  const others = /status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx/.exec(stdout);
  if (counts === null || others === null) throw new Error(`h2load said: ${stdout}`);
  const [done = 0, ...lost] = counts.slice(1).map(Number);
  const errors = [...lost, ...others.slice(1).map(Number)].reduce((sum, n) => sum + n, 0);
  return {
    perSecond: Number(/finished in [\d.a-z]+, ([\d.]+) req\/s/.exec(stdout)?.[1] ?? Number.NaN),
    p50: Number.NaN,
    p99: Number.NaN,
    errors,
    cpuUs: ((pinned.cpuMs() - before) * 1_000) / done,
  };
};
