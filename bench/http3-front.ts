/**
 * Bench: what HTTP/3 costs when nginx terminates QUIC in front of a proxy process, per authorised request: nginx with
 * QUIC and nginx with HTTP/2 over TLS, each in front of the same Cardea over HTTP/1.1, and Cardea alone with HTTP/2
 * over TLS.
 *
 * node bench/http3-front.ts [--requests 4000] [--rounds 5]
 *
 * curl sends the requests of one person, on up to 64 streams at once. It cannot load a server fully, so only processor
 * time is measured, as the lowest of the rounds.
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { selfSigned } from "../test/support/certificate.ts";
import { freePorts } from "../test/support/free-port.ts";
import { personLines, requestOf } from "./support/browsers.ts";
import { reportBudgets } from "./support/budget.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const { values } = parseArgs({
  options: { requests: { type: "string", default: "4000" }, rounds: { type: "string", default: "5" } },
});
const requests = Number(values.requests);
const streams = 64;
const run = promisify(execFile);

type Subject = Readonly<{ name: string; protocol: "2" | "3"; port: number; target: Cardea; pinned: readonly Pinned[] }>;

await withStand(async (stand) => {
  const { folder } = stand;
  const [upstream = 0, quic = 0, h2 = 0] = await freePorts(3);
  const certificate = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const { cert, key } = selfSigned("DNS:app.localhost,DNS:authenticate.localhost");
  writeFileSync(certificate.certFile, cert);
  writeFileSync(certificate.keyFile, key, { mode: 0o600 });
  await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", helloServer(upstream))], upstream);

  const settings = ["xff_num_trusted_hops: 1"];
  const behind = await startCardea(stand, { upstreamPort: upstream, name: "behind", settings });
  const alone = await startCardea(stand, { upstreamPort: upstream, name: "alone", certificate });
  const front = async (name: string, port: number, listen: string): Promise<Pinned> => {
    const conf = `upstream cardea { server 127.0.0.1:${behind.port}; keepalive 64; }
server { ${listen} ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};
  location / { proxy_pass http://cardea; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host ${behind.host}; proxy_set_header X-Forwarded-For $remote_addr; } }`;
    return await stand.start(coreOfProxy, "nginx", ["-c", writeNginxConf(folder, name, conf)], port);
  };
  // The listener with TCP only shows that nginx is up.
  const withQuic = await front("quic", quic, `listen 127.0.0.1:${quic} quic; listen 127.0.0.1:${quic} ssl;`);
  const withH2 = await front("h2", h2, `listen 127.0.0.1:${h2} ssl; http2 on;`);

  const subjects: readonly Subject[] = [
    { name: "nginx HTTP/3 + cardea", protocol: "3", port: quic, target: behind, pinned: [withQuic, behind.pinned] },
    { name: "nginx HTTP/2 + cardea", protocol: "2", port: h2, target: behind, pinned: [withH2, behind.pinned] },
    { name: "cardea HTTP/2", protocol: "2", port: alone.port, target: alone, pinned: [alone.pinned] },
  ];
  const lowest = new Map<string, number>();
  for (let round = 0; round <= Number(values.rounds); round++)
    for (const subject of subjects) {
      const us = await loadOnce(folder, subject);
      if (round > 0) lowest.set(subject.name, Math.min(us, lowest.get(subject.name) ?? us));
    }
  for (const [name, us] of lowest) console.log(`${name.padEnd(24)} ${us.toFixed(1)} µs of a core per request`);
  const [quicUs = 0, h2Us = 0, aloneUs = 0] = [...lowest.values()];
  reportBudgets([
    ratio("HTTP/3 by nginx in front, beside Cardea's own HTTP/2", quicUs / aloneUs),
    ratio("HTTP/3 by nginx in front, beside HTTP/2 by nginx in front", quicUs / h2Us),
  ]);
});

function ratio(what: string, value: number): Parameters<typeof reportBudgets>[0][number] {
  return { what: `${what}, processor time per request`, result: `${value.toFixed(2)} ×`, budget: "", met: null };
}

/** @returns microseconds of a core per request, of all processes of the subject */
async function loadOnce(folder: string, { name, protocol, port, target, pinned }: Subject): Promise<number> {
  const authority = new URL(target.origin).host;
  const [host = "", hostPort = ""] = authority.split(":");
  const lines = personLines(0, { ...target, origin: `https://${authority}` });
  const file = join(folder, `${protocol}-${port}.curl`);
  const urls = Array.from({ length: requests }, (_, n) => {
    const { path } = requestOf(0, n, target);
    return `url = "https://${authority}${path}"\noutput = "/dev/null"`;
  });
  const head = lines.map(([field, value]) => `header = ${JSON.stringify(`${field}: ${value}`)}`);
  writeFileSync(file, [...head, ...urls].join("\n"));
  const cpuMs = (): number => pinned.reduce((sum, one) => sum + one.cpuMs(), 0);
  const before = cpuMs();
  const { stdout } = await run(
    "taskset",
    [
      ...["-c", coreOfLoad, "curl", "--silent", "--insecure", protocol === "3" ? "--http3-only" : "--http2"],
      ...["--parallel", "--parallel-max", String(streams), "--connect-to", `${host}:${hostPort}:127.0.0.1:${port}`],
      ...["--write-out", "%{http_version} %{http_code}\\n", "--config", file],
    ],
    { maxBuffer: 64 << 20, timeout: 120_000 },
  );
  const cpu = cpuMs() - before;
  const right = stdout.split("\n").filter((line) => line === `${protocol} 200`).length;
  if (right !== requests) throw new Error(`${name}: ${requests - right} of ${requests} requests were not answered 200`);
  return (cpu * 1_000) / requests;
}
