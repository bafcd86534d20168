/**
 * Bench: new TLS 1.3 connections through one proxy process on one core, full and resumed, beside nginx with the same
 * certificate, in the same run.
 *
 * node bench/proxy-handshakes.ts [--seconds 5] [--certificate ecdsa|rsa]
 *
 * `openssl s_time` connects, sends a request of one line and closes; `callers` of them run at once. The request names
 * no host: both answer without an upstream, so the figures are those of the connections. A resumed session uses a
 * ticket of an earlier connection. A bare `node:tls` server in the same rounds is the floor in Node.
 */
import { execFile, execFileSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { freePorts } from "../test/support/free-port.ts";
import { type Budget, reportBudgets } from "./support/budget.ts";
import { startCardea } from "./support/cardea.ts";
import { beside, inRounds, type Loader } from "./support/load.ts";
import { helloServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const run = promisify(execFile);
const { values } = parseArgs({
  options: { seconds: { type: "string", default: "5" }, certificate: { type: "string", default: "ecdsa" } },
});
const callers = 4;
const ratioMin = 0.6;
const keyKinds: Readonly<Record<string, readonly string[]>> = {
  ecdsa: ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
  rsa: ["rsa:2048"],
};
const keyKind = keyKinds[values.certificate];
if (keyKind === undefined) throw new Error(`--certificate is ${Object.keys(keyKinds).join(" or ")}`);

type Subject = Readonly<{ name: string; port: number; pinned: Pinned; kind: "new" | "reuse" }>;

const bySTime: Loader<Subject> = async ({ name, port, pinned, kind }, seconds) => {
  const args = ["s_time", "-connect", `127.0.0.1:${port}`, "-tls1_3", `-${kind}`, "-www", "/handshake"];
  const before = pinned.cpuMs();
  const counts = await Promise.all(
    Array.from({ length: callers }, async () => {
      const all = ["-c", coreOfLoad, "openssl", ...args, "-time", String(seconds)];
      const { stdout } = await run("taskset", all, { timeout: (seconds + 30) * 1_000 });
      const found = /(\d+) connections in (\d+) real seconds/.exec(stdout);
      if (found === null) throw new Error(`${name}: openssl printed ${stdout}`);
      return { connections: Number(found[1]), perSecond: Number(found[1]) / Number(found[2]) };
    }),
  );
  const connections = counts.reduce((sum, count) => sum + count.connections, 0);
  return {
    perSecond: counts.reduce((sum, count) => sum + count.perSecond, 0),
    ...{ p50: Number.NaN, p99: Number.NaN, errors: 0 },
    cpuUs: ((pinned.cpuMs() - before) * 1_000) / connections,
  };
};

await withStand(async (stand) => {
  const { folder } = stand;
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const certificate = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const files = ["-keyout", certificate.keyFile, "-out", certificate.certFile, "-days", "30"];
  const names = [
    "-subj",
    "/CN=app.localhost",
    "-addext",
    "subjectAltName=DNS:app.localhost,DNS:authenticate.localhost",
  ];
  execFileSync("openssl", ["req", "-x509", "-newkey", ...keyKind, "-nodes", ...files, ...names], { stdio: "ignore" });
  await stand.start(coreOfLoad, "nginx", ["-c", writeNginxConf(folder, "upstream", helloServer(upstream))], upstream);
  const server = `server { listen 127.0.0.1:${nginx} ssl; ssl_protocols TLSv1.3; ssl_certificate ${certificate.certFile};
    ssl_certificate_key ${certificate.keyFile}; location / { return 400; } }`;
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", writeNginxConf(folder, "proxy", server)], nginx);
  const [bare = 0] = await freePorts(1);
  const bareArgs = [new URL("support/bare-tls-server.ts", import.meta.url).pathname, String(bare)];
  const bareProcess = await stand.start(
    coreOfProxy,
    process.execPath,
    [...bareArgs, certificate.certFile, certificate.keyFile],
    bare,
  );
  const cardea = await startCardea(stand, { upstreamPort: upstream, certificate });
  const how = { seconds: Number(values.seconds), rounds: 3 };
  const budgets: Budget[] = [];
  for (const [kind, words] of [
    ["new", "full handshakes"],
    ["reuse", "resumed sessions"],
  ] as const) {
    const [theirs, floor, ours] = await inRounds(
      [
        { name: `nginx, ${words}`, port: nginx, pinned: nginxProcess, kind },
        { name: `bare node:tls, ${words}`, port: bare, pinned: bareProcess, kind },
        { name: `cardea, ${words}`, port: cardea.port, pinned: cardea.pinned, kind },
      ],
      how,
      bySTime,
    );
    if (theirs === undefined || floor === undefined || ours === undefined) throw new Error("a subject has no figure");
    budgets.push(
      beside(`bare node:tls, ${words}, ${values.certificate}`, { figure: floor, neighbour: theirs, ratioMin: null }),
      beside(`new TLS 1.3 connections, ${words}, ${values.certificate}`, { figure: ours, neighbour: theirs, ratioMin }),
    );
  }
  reportBudgets(budgets);
});
