/**
 * Bench: gRPC through one proxy process on one core, beside nginx `grpc_pass` with the same certificate and without any
 * authentication, in the same run: unary calls, one stream of many messages per call, and an echo of messages in both
 * directions.
 *
 * node bench/proxy-grpc.ts [--seconds 5] [--rounds 3] [--only unary,stream,echo] [--against PROGRAM]
 *
 * Downstream is HTTP/2 over TLS, upstream plain HTTP/2. 64 calls of eight people are in flight, on eight connections.
 * Unary calls come from h2load, streamed ones from support/grpc-load.ts, and all go to support/grpc-upstream.ts. No two
 * messages of a connection are equal. Load and upstream share a core. How long it was idle is printed, since a figure
 * with a busy load measures the load. nginx cannot be the upstream: it may end a call before it has read all of it, and
 * its own `grpc_pass` then fails. `--against` adds the program of another checkout.
 */
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { selfSigned } from "../test/support/certificate.ts";
import { freePorts } from "../test/support/free-port.ts";
import { peopleCount } from "./support/browsers.ts";
import { reportBudgets, whole } from "./support/budget.ts";
import { type Cardea, startCardea } from "./support/cardea.ts";
import type { GrpcLoadResult, GrpcLoadSetup } from "./support/grpc-load.ts";
import { messageBytes, messageText } from "./support/grpc-messages.ts";
import { byH2load, type H2Subject } from "./support/h2load.ts";
import { beside, type Figure, inRounds, type Loader } from "./support/load.ts";
import { passingGrpcServer, writeNginxConf } from "./support/nginx-conf.ts";
import type { Pinned } from "./support/pinned.ts";
import { coreOfLoad, coreOfProxy, withStand } from "./support/stand.ts";

const run = promisify(execFile);
const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "5" },
    rounds: { type: "string", default: "3" },
    only: { type: "string", default: "unary,stream,echo" },
    against: { type: "string" },
  },
});
const ratioMin = 0.4;
const connections = peopleCount;
const streams = 8;
const kinds = values.only.split(",");

type Subject = Readonly<{ name: string; port: number; pinned: Pinned }>;

await withStand(async (stand) => {
  const { folder } = stand;
  const [upstream = 0, nginx = 0] = await freePorts(2);
  const certificate = { certFile: join(folder, "cert.pem"), keyFile: join(folder, "key.pem") };
  const { cert, key } = selfSigned("DNS:app.localhost,DNS:authenticate.localhost");
  writeFileSync(certificate.certFile, cert);
  writeFileSync(certificate.keyFile, key, { mode: 0o600 });

  const server = new URL("./support/grpc-upstream.ts", import.meta.url).pathname;
  await stand.start(coreOfLoad, process.execPath, [server, String(upstream)], upstream);
  const tls = `http2 on; ssl_certificate ${certificate.certFile}; ssl_certificate_key ${certificate.keyFile};`;
  const conf = passingGrpcServer(nginx, upstream, tls);
  const nginxProcess = await stand.start(coreOfProxy, "nginx", ["-c", writeNginxConf(folder, "proxy", conf)], nginx);
  const routes = ({ from, policy }: Readonly<{ from: string; policy: string }>): string =>
    [`  - from: ${from}`, `to: h2c://127.0.0.1:${upstream}`, `policy: ${policy}`].join("\n    ");
  const cardeas: (Cardea & Readonly<{ name: string }>)[] = [];
  const programs = [["cardea", undefined] as const];
  for (const [name, path] of values.against === undefined
    ? programs
    : [...programs, ["before", values.against] as const]) {
    const more = path === undefined ? {} : { program: path };
    cardeas.push({
      name,
      ...(await startCardea(stand, {
        upstreamPort: upstream,
        certificate,
        people: peopleCount,
        routes,
        name,
        ...more,
      })),
    });
  }

  const how = { seconds: Number(values.seconds), rounds: Number(values.rounds) };
  const budgets: Parameters<typeof reportBudgets>[0][number][] = [];
  for (const kind of kinds) {
    const subjects = [{ name: "nginx", port: nginx, pinned: nginxProcess, target: cardeas[0] }].concat(
      cardeas.map((cardea) => ({ name: cardea.name, port: cardea.port, pinned: cardea.pinned, target: cardea })),
    );
    const figures =
      kind === "unary"
        ? await inRounds(
            subjects.map(({ target, ...subject }) => unarySubject(folder, subject, target)),
            how,
            watchingTheLoad(byH2load),
          )
        : await inRounds(
            subjects.map(({ target, ...subject }) => ({ ...subject, name: `${subject.name}, ${kind}`, target })),
            how,
            watchingTheLoad(byGrpcLoad(kind === "echo" ? "echo" : "stream")),
          );
    const [neighbour, figure, before] = figures;
    if (figure === undefined || neighbour === undefined) throw new Error("a subject has no figure");
    const what =
      { unary: "unary gRPC calls", stream: "messages of streams", echo: "messages of an echo" }[kind] ?? kind;
    budgets.push(beside(`${what}, beside nginx grpc_pass without auth`, { figure, neighbour, ratioMin }));
    if (before !== undefined)
      budgets.push(beside(`${what}, beside before`, { figure, neighbour: before, ratioMin: null }));
  }
  reportBudgets(budgets);
});

/** Lines of each person's calls: the session as a cookie, and a client's name. */
function linesOf({ cookies }: Cardea, person: number): readonly (readonly [string, string])[] {
  return [
    ["user-agent", `grpc-node-js/1.${person}.0`],
    ["grpc-accept-encoding", "identity,deflate,gzip"],
    ["cookie", cookies[person % cookies.length] ?? ""],
  ];
}

function unarySubject(folder: string, subject: Subject, target: Cardea | undefined): H2Subject {
  if (target === undefined) throw new Error("there is no cookie");
  const people = Array.from({ length: peopleCount }, (_, person) => {
    const file = join(folder, `${subject.name}-${person}`);
    const urls = Array.from({ length: 97 }, (__, n) => `${target.origin}/bench.Unary/Method${n}`);
    writeFileSync(`${file}.urls`, `${urls.join("\n")}\n`);
    writeFileSync(`${file}.message`, messageText(person, messageBytes), "latin1");
    const lines = [
      ["content-type", "application/grpc"],
      ["te", "trailers"],
      ["grpc-timeout", "10S"],
      ...linesOf(target, person),
    ];
    return [
      "-i",
      `${file}.urls`,
      "-d",
      `${file}.message`,
      ...lines.flatMap(([name, value]) => ["-H", `${name}: ${value}`]),
    ];
  });
  return { ...subject, name: `${subject.name}, unary`, streams, people };
}

/** Prints how busy both cores were. */
function watchingTheLoad<S extends Subject>(load: Loader<S>): Loader<S> {
  return async (subject, seconds) => {
    const [before, startedAt] = [idleMsOf(coreOfLoad), performance.now()];
    const cpuBefore = subject.pinned.cpuMs();
    const figure = await load(subject, seconds);
    const tookMs = performance.now() - startedAt;
    const idle = ((idleMsOf(coreOfLoad) - before) / tookMs) * 100;
    const busy = ((subject.pinned.cpuMs() - cpuBefore) / tookMs) * 100;
    console.log(
      `  ${subject.name.padEnd(20)} ${whole(figure.perSecond)}/s, ${figure.cpuUs.toFixed(1)} µs; the load's core idle ${idle.toFixed(0)} %, the proxy ${busy.toFixed(0)} % of its own`,
    );
    return figure;
  };
}

function idleMsOf(core: string): number {
  const line = new RegExp(`^cpu${core} \\d+ \\d+ \\d+ (\\d+)`, "m").exec(readFileSync("/proc/stat", "latin1"));
  return Number(line?.[1] ?? Number.NaN) * 10; // jiffies
}

function byGrpcLoad(kind: GrpcLoadSetup["kind"]): Loader<Subject & Readonly<{ target: Cardea | undefined }>> {
  return async ({ port, pinned, target }, seconds): Promise<Figure> => {
    if (target === undefined) throw new Error("there is no cookie");
    const setup: GrpcLoadSetup = {
      kind,
      port,
      secure: true,
      seconds,
      people: Array.from({ length: peopleCount }, (_, person) => linesOf(target, person)),
      authority: target.host,
      connections,
      streams,
      messagesPerCall: kind === "echo" ? 200 : 1_000,
      messageBytes,
      inFlight: 4,
    };
    const program = new URL("./support/grpc-load.ts", import.meta.url).pathname;
    const before = pinned.cpuMs();
    const { stdout } = await run("taskset", ["-c", coreOfLoad, process.execPath, program, JSON.stringify(setup)], {
      timeout: (seconds + 30) * 1_000,
    });
    const result = JSON.parse(stdout) as GrpcLoadResult;
    return {
      perSecond: result.messages / result.seconds,
      p50: Number.NaN,
      p99: Number.NaN,
      errors: result.errors,
      cpuUs: ((pinned.cpuMs() - before) * 1_000) / result.messages,
    };
  };
}
