/**
 * A proxy in its own process, for tests that freeze or kill it. `/` streams without end; any other path is 30 MB at
 * once.
 *
 * Its argument is "plain" (default) or "tls". It prints one line of JSON with its port and its start-up warnings. Then
 * it reads commands from standard input and prints each one when it is done: "revoke <session>", or "expire", which
 * ends its lease half a second later.
 */
import { createInterface } from "node:readline";
import { cookieOf, routeTo, sessionRevoked, signedIn, startRig, startUpstream } from "../proxy/support.ts";
import { selfSigned } from "../support/certificate.ts";

const chunk = Buffer.alloc(65_536, 97);
const whole = Buffer.alloc(30_000_000, 97);
const upstream = await startUpstream((req, res) => {
  if (req.url !== "/") {
    res.end(whole);
    return;
  }
  const pour = (): void => {
    while (res.write(chunk));
  };
  res.on("drain", pour);
  pour();
});
const leaseLeftMs = 500;
const warnings: string[] = [];
const warningsOnly = { debug() {}, info() {}, warn: (_: object, text: string) => void warnings.push(text), error() {} };
let leaseEndsAt = Number.POSITIVE_INFINITY;
const freshness = { overdueMs: () => performance.now() - leaseEndsAt };
const tls = { insecureServer: false, certificates: [selfSigned("DNS:app.localhost")] };
const rig = await startRig([routeTo(upstream.port, { timeoutMs: 0, onStale: "deny", staleGraceMs: 0 })], {
  config: process.argv[2] === "tls" ? tls : {},
  deps: { logger: warningsOnly, freshness },
});
await rig.apply(...[1, 2, 3, 4].map((n) => signedIn(n)));
const print = (line: string): void => void process.stdout.write(`${line}\n`);
const unsentMax = /^cardea_proxy_kernel_unsent_bytes_max (\S+)$/m.exec(await rig.metrics())?.[1];
print(JSON.stringify({ port: rig.port, cookie: cookieOf(1), warnings, unsentMax }));
for await (const line of createInterface(process.stdin)) {
  const [command, n] = line.split(" ");
  if (command === "revoke") await rig.apply(sessionRevoked(Number(n)));
  if (command === "expire") leaseEndsAt = performance.now() + leaseLeftMs;
  print(line);
}
