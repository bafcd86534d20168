/**
 * `cardea health`: requests the readiness of a process from its metrics listener.
 *
 * For health checks of containers, which have no other HTTP client. It runs every few seconds, so it loads no other
 * part of the program.
 */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { parse } from "../terminal/arguments.ts";
import { type CliCommand, type Terminal, UsageError } from "../terminal/command.ts";

const bodyCharsMax = 2_000;
const defaultAddress = "127.0.0.1:9902";

export const health: CliCommand = {
  name: "health",
  usage: "[--address 127.0.0.1:9902] [--tls] [--live | --all-routes] [--timeout 3s] | --url URL",
  summary: "check whether a process on this machine is ready; for container health checks",
  help: `Requests /readyz at the process's metrics_address (METRICS_ADDRESS, else ${defaultAddress}). A broker is ready once it has read the log and
knows a leader; a proxy is ready while it may serve. --tls is for a process with metrics_certificate; the certificate is not verified, because
the process runs on this machine. --all-routes requests /readyz?routes=all: a proxy that answers 503 on some routes then counts as not ready.
--live requests /healthz instead. Use it for a check that restarts the process: a restart does not help a proxy that waits for its brokers.
Exit 0: ready; 1: not ready, or no answer.`,
  async run(args, terminal) {
    const parsed = parse(
      args,
      {
        address: { type: "string" },
        url: { type: "string" },
        timeout: { type: "string" },
        live: { type: "boolean" },
        "all-routes": { type: "boolean" },
        tls: { type: "boolean" },
        json: { type: "boolean" },
      },
      { min: 0, max: 0 },
    );
    if (parsed.flag("live") && parsed.flag("all-routes"))
      throw new UsageError("use either --live or --all-routes, not both");
    const path = parsed.flag("live") ? "/healthz" : parsed.flag("all-routes") ? "/readyz?routes=all" : "/readyz";
    const url =
      parsed.text("url") ??
      `http${parsed.flag("tls") ? "s" : ""}://${connectAddressOf(parsed.text("address") ?? (terminal.env["METRICS_ADDRESS"] || defaultAddress))}${path}`;
    if (!URL.canParse(url)) throw new UsageError(`${url} is not a URL`);
    const timeoutMs = parseSeconds(parsed.text("timeout"));
    const look = parsed.flag("tls") ? fetchTls : fetchPlain;
    return checkHealth(url, () => look(url, timeoutMs), terminal);
  },
};

type HealthResponse = Readonly<{ status: number; body: string }>;

async function fetchPlain(url: string, timeoutMs: number): Promise<HealthResponse> {
  const response = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(timeoutMs) });
  return { status: response.status, body: await response.text() };
}

async function fetchTls(url: string, timeoutMs: number): Promise<HealthResponse> {
  const { request } = await import("node:https");
  const outgoing = request(url, { agent: false, rejectUnauthorized: false, signal: AbortSignal.timeout(timeoutMs) });
  outgoing.end();
  const [response] = (await once(outgoing, "response")) as [IncomingMessage];
  response.setEncoding("utf8");
  return { status: response.statusCode ?? 0, body: (await response.toArray()).join("") };
}

async function checkHealth(
  url: string,
  fetchHealth: () => Promise<HealthResponse>,
  terminal: Terminal,
): Promise<0 | 1> {
  try {
    const { status, body } = await fetchHealth();
    const text = body.slice(0, bodyCharsMax).trim();
    const isHealthy = status >= 200 && status < 300;
    (isHealthy ? terminal.out : terminal.err)(`${text === "" ? status : text}\n`);
    return isHealthy ? 0 : 1;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    terminal.err(`${url} does not answer: ${cause instanceof Error ? cause.message : String(cause)}\n`);
    return 1;
  }
}

/** A process that listens on all addresses is reached on loopback. */
function connectAddressOf(address: string): string {
  return address.replace(/^(?:0\.0\.0\.0)?:(?=\d+$)/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:");
}

function parseSeconds(text: string | undefined): number {
  const seconds = /^(\d{1,3})s?$/.exec(text ?? "3s")?.[1];
  if (seconds === undefined || Number(seconds) === 0)
    throw new UsageError(`--timeout ${text}: write seconds, such as 3s`);
  return Number(seconds) * 1_000;
}
