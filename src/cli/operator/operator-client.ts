/**
 * Operator client: calls the operator API for the command line.
 *
 * - Server: `--url` or CARDEA_URL, else the authenticate URL of `-c cardea.yaml`, else what `cardea dev` left in its
 *   data folder.
 * - Credential: CARDEA_TOKEN, else a five-minute token minted from the configuration's secret (break-glass; the server
 *   logs its use), else the one in the data folder.
 * - Trust: the system's authorities, and `certificate_authority_file` of the configuration or the environment.
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import type { fetch as undiciFetch } from "undici";
import { createLocalFetch } from "../../auth/index.ts";
import { type LastKnownState, mintOperatorToken, operatorApiPrefix, parseLastKnown } from "../../console/index.ts";
import type { CommandOutcome } from "../../events/index.ts";
import { readLocalConfig } from "../build/local-config.ts";
import type { Parsed } from "../terminal/arguments.ts";
import { CannotError, type ExitCode, type Terminal, UsageError } from "../terminal/command.ts";
import { describeConnectionProblem, mayHaveBeenSent } from "./connection-problem.ts";

export type OperatorClient = Readonly<{
  get(path: string, timeoutMs?: number): Promise<unknown>;
  post(path: string, body: object, timeoutMs?: number): Promise<unknown>;
  /** Server-Sent Events: calls back with each `data`, its id and its type until the signal aborts. A body is posted. */
  stream(
    path: string,
    lastEventId: string | null,
    onEvent: (data: string, id: string, type: string) => void,
    signal: AbortSignal,
    body?: object,
  ): Promise<void>;
  close(): Promise<void>;
}>;

/** The server answered with an error. */
export class OperatorRefusedError extends CannotError {
  readonly status: number;
  /** Why, in the words of the API; null: it names no code. */
  readonly reason: string | null;
  /** `none`: the change was certainly not made. */
  readonly outcome: CommandOutcome;
  /** What the region of the server knows in place of a receipt, while it is cut off; null: it says nothing of it. */
  readonly lastKnown: LastKnownState | null;
  /** The id of the held change that the refusal is about; null: it is about none. */
  readonly heldId: string | null;
  constructor(
    problem: string,
    of: Readonly<{
      status: number;
      reason: string | null;
      outcome: CommandOutcome;
      lastKnown?: LastKnownState | null;
      heldId?: string | null;
    }>,
  ) {
    super(problem);
    this.status = of.status;
    this.reason = of.reason;
    this.outcome = of.outcome;
    this.lastKnown = of.lastKnown ?? null;
    this.heldId = of.heldId ?? null;
  }
}

/** The server could not be reached, or the connection broke; another attempt may succeed. */
export class OperatorUnreachableError extends CannotError {
  /** `none`: the request was not sent. */
  readonly outcome: CommandOutcome;
  /** @param sent `yes`: an answer had begun */
  constructor(url: URL, cause: unknown, sent: "yes" | "unknown" = "unknown") {
    super(describeConnectionProblem(url, cause), { cause });
    this.outcome = sent === "yes" || mayHaveBeenSent(cause) ? "unknown" : "none";
  }
}

/** A user's or group's name as a path segment. Proxies refuse an escaped slash, so such names are base64url. */
export function inPath(name: string): string {
  return /^[A-Za-z0-9@._-]+$/.test(name) ? name : `base64url:${Buffer.from(name, "utf8").toString("base64url")}`;
}

export const operatorFile = "operator.json";

type Target = Readonly<{
  url: URL;
  token: string;
  hosts?: Readonly<Record<string, string>>;
  /** PEM of authorities trusted in addition to the system's; null: none. */
  ca: string | null;
}>;

export async function connectOperator(parsed: Parsed, terminal: Terminal): Promise<OperatorClient> {
  const target = await findTarget(parsed, terminal);
  const local = createLocalFetch({
    timeoutMs: 130_000,
    hosts: target.hosts ?? {},
    ...(target.ca === null ? {} : { ca: target.ca }),
  });
  return createClient(target, local.fetch, () => local.close());
}

/** Runs a command with a client, and closes the client however the command ends. */
export async function withOperator(
  parsed: Parsed,
  terminal: Terminal,
  run: (client: OperatorClient, parsed: Parsed) => Promise<ExitCode>,
): Promise<ExitCode> {
  const client = await connectOperator(parsed, terminal);
  try {
    return await run(client, parsed);
  } finally {
    await client.close();
  }
}

async function findTarget(parsed: Parsed, terminal: Terminal): Promise<Target> {
  const givenUrl = parsed.text("url") ?? terminal.env["CARDEA_URL"];
  const givenToken = terminal.env["CARDEA_TOKEN"];
  if (givenUrl !== undefined && !URL.canParse(givenUrl)) throw new UsageError(`${givenUrl} is not a URL`);
  const configPath = parsed.text("config");
  if (givenUrl !== undefined && givenToken !== undefined && configPath === undefined)
    return { url: new URL(givenUrl), token: givenToken, ca: authorityOf(terminal) };
  if (configPath !== undefined) {
    const config = readLocalConfig(configPath, terminal);
    const token =
      givenToken ??
      (await mintOperatorToken({
        secret: config.sharedSecret,
        cluster: config.broker.clusterName,
        name: `cli-${userInfo().username.replace(/[^A-Za-z0-9_.-]/g, "_")}`,
        tokenId: randomUUID(),
        nowS: Math.floor(Date.now() / 1_000),
        ttlS: 300,
      }));
    return {
      url: givenUrl === undefined ? config.authenticateServiceUrl : new URL(givenUrl),
      token,
      hosts: config.hostAliases,
      ca: config.certificateAuthority,
    };
  }
  const path = join(parsed.text("data-dir") ?? "data", operatorFile);
  return devTarget(path, { givenUrl, givenToken, ca: authorityOf(terminal) });
}

/** The authorities from the environment, for a call without a configuration. @throws CannotError */
export function authorityOf({ env }: Pick<Terminal, "env">): string | null {
  const path = env["CERTIFICATE_AUTHORITY_FILE"];
  const text = env["CERTIFICATE_AUTHORITY"];
  if (path === undefined || path === "")
    return text === undefined || text === "" ? null : parseAuthority(text, "CERTIFICATE_AUTHORITY");
  try {
    return parseAuthority(readFileSync(path, "utf8"), `CERTIFICATE_AUTHORITY_FILE: ${path}`);
  } catch (cause) {
    if (cause instanceof CannotError) throw cause;
    throw new CannotError(`CERTIFICATE_AUTHORITY_FILE: ${path} cannot be read`, { cause });
  }
}

/** Accepts PEM, or base64 of PEM, like the configuration. */
function parseAuthority(text: string, from: string): string {
  const pem = text.includes("-----BEGIN") ? text : Buffer.from(text, "base64").toString("utf8");
  if (!pem.includes("-----BEGIN CERTIFICATE-----"))
    throw new CannotError(`${from} contains no certificate; write PEM, or base64 of PEM`);
  return pem;
}

async function devTarget(
  path: string,
  {
    givenUrl,
    givenToken,
    ca,
  }: Readonly<{ givenUrl: string | undefined; givenToken: string | undefined; ca: string | null }>,
): Promise<Target> {
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    if (typeof value !== "object" || value === null || !("url" in value) || !("token" in value))
      throw new TypeError("unexpected shape");
    return { url: new URL(givenUrl ?? String(value.url)), token: givenToken ?? String(value.token), ca };
  } catch (cause) {
    throw new CannotError(
      `no server is named: use -c cardea.yaml, set CARDEA_URL and CARDEA_TOKEN, or start cardea dev (there is no ${path})`,
      { cause },
    );
  }
}

function createClient(target: Target, fetch: typeof undiciFetch, close: () => Promise<void>): OperatorClient {
  async function request(
    method: "GET" | "POST",
    path: string,
    body: object | undefined,
    timeoutMs: number,
  ): Promise<unknown> {
    const url = new URL(`${operatorApiPrefix}${path}`, target.url);
    const response = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${target.token}`,
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((cause: unknown) => {
      throw new OperatorUnreachableError(url, cause);
    });
    const text = await response.text().catch((cause: unknown) => {
      throw new OperatorUnreachableError(url, cause, "yes");
    });
    if (response.ok) return jsonOf(text, url);
    throw refusalIn(text, url, response.status);
  }
  return {
    get: (path, timeoutMs = 15_000) => request("GET", path, undefined, timeoutMs),
    post: (path, body, timeoutMs = 15_000) => request("POST", path, body, timeoutMs),
    async stream(path, lastEventId, onEvent, signal, body) {
      const url = new URL(`${operatorApiPrefix}${path}`, target.url);
      const response = await fetch(url, {
        headers: {
          authorization: `Bearer ${target.token}`,
          accept: "text/event-stream",
          ...(lastEventId === null ? {} : { "last-event-id": lastEventId }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }),
        signal,
      }).catch((cause: unknown) => {
        if (signal.aborted) throw cause;
        throw new OperatorUnreachableError(url, cause);
      });
      if (!response.ok || response.body === null) throw refusalIn(await response.text(), url, response.status);
      let buffered = "";
      const decoder = new TextDecoder();
      for await (const chunk of response.body) {
        buffered += decoder.decode(chunk, { stream: true });
        const blocks = buffered.split("\n\n");
        buffered = blocks.pop() ?? "";
        for (const block of blocks) {
          const lines = block.split("\n");
          const field = (name: string): string | undefined =>
            lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
          const data = field("data");
          if (data !== undefined) onEvent(data, field("id") ?? "", field("event") ?? "message");
        }
      }
    },
    close,
  };
}

function jsonOf(text: string, url: URL): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const remedy = "check that this is the address of the authenticate service";
    throw new CannotError(`${url.origin} did not answer like the operator API; ${remedy}`, { cause });
  }
}

function refusalIn(text: string, url: URL, status: number): OperatorRefusedError {
  const { error, code, outcome, lastKnown, heldId } = fieldsIn(text);
  const problem = `${url.origin} answered ${status}: ${error === undefined ? text.slice(0, 200) : String(error)}`;
  const reason = typeof code === "string" ? code : null;
  // A status below 500 is the log's or the server's decision. Any other answer may be that of a proxy in between.
  return new OperatorRefusedError(problem, {
    status,
    reason,
    outcome: status < 500 || outcome === "none" ? "none" : "unknown",
    lastKnown: parseLastKnown(lastKnown),
    heldId: code === "held" && typeof heldId === "string" ? heldId : null,
  });
}

type RefusalFields = Readonly<{
  error?: unknown;
  code?: unknown;
  outcome?: unknown;
  lastKnown?: unknown;
  heldId?: unknown;
}>;

function fieldsIn(text: string): RefusalFields {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch {
    // not JSON, perhaps a proxy's error page
  }
  return {};
}
