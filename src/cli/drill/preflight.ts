/**
 * Preflight: reads everything that a drill needs to know, and refuses a cluster that a drill could harm.
 *
 * It changes nothing, so a dry run does the same.
 */
import { decodeJwt } from "jose";
import type { ClusterStatus } from "../../replication/index.ts";
import { CannotError } from "../terminal/command.ts";
import { fetchResponse, type ProxyTls } from "../tunnel/proxy-client.ts";
import type { Drill, StoppedKind } from "./drill.ts";
import type { DrillFile, DrillProxy } from "./drill-file.ts";
import { refuseWhileLocked } from "./drill-lock.ts";
import { isTarget, silentMs } from "./guard.ts";
import type { DrillOperator } from "./operator-changes.ts";
import type { ProbeClient } from "./probe-client.ts";
import { receiptWaitMs, returnWaitMs } from "./verdicts.ts";

export type Canary = Readonly<{ userId: string; sessionId: string }>;

export type Prepared = Readonly<{
  status: ClusterStatus;
  canary: Canary;
  /** The process that the drill stops; null: none. */
  target: string | null;
  /** The longest time that a silent node may decide. */
  windowMs: number;
  /** What the drill cannot see, as sentences. */
  warnings: readonly string[];
}>;

export type DrillLimits = Readonly<{ rounds: number; faultMs: number; quietMs: number }>;

/** A round of the canary without its receipt, as it usually is, and the time that an undo may need. */
const restOfRoundMs = 10_000;
const undoMs = 120_000;
const metricsBytesMax = 64 * 1024 * 1024;
/** A frozen process must not keep the guard from seeing what people see elsewhere. */
export const readingMsMax = 3_000;

export async function prepareDrill(
  drill: Drill,
  parts: Readonly<{
    file: DrillFile;
    operator: DrillOperator;
    probes: ProbeClient;
    token: string;
    operatorToken: string | undefined;
    target: string | undefined;
    readMetrics: (proxy: DrillProxy) => Promise<string>;
    limits: DrillLimits;
  }>,
): Promise<Prepared> {
  const { file, operator, probes, operatorToken, limits } = parts;
  checkOperatorToken(operatorToken, drillMs(drill, limits, 0));
  const read = await operator.status();
  const status = { ...read, nodes: presentNodes(read) };
  refuse(clusterProblems(status));
  const windowMs = Math.max(0, ...status.nodes.map(({ fencedInMs }) => fencedInMs ?? 0));
  const takesMs = drillMs(drill, limits, windowMs);
  checkOperatorToken(operatorToken, takesMs);
  const canary = await checkCanary(drill, { ...parts, takesMs });
  const target = targetOf(drill, status, parts.target);
  refuse(await probeProblems(file, probes));
  const isProcess = drill.fault.type === "process";
  const unreadable = await unreadableMetrics(file, parts.readMetrics);
  if (isProcess && unreadable.length > 0)
    refuse([
      `the metrics of ${unreadable.join(", ")} cannot be read, so errors of people would not be noticed: give each proxy of the drill file its metrics address`,
    ]);
  const nodes = status.nodes.filter(({ role }) => role === "proxy");
  const unlisted = nodes.filter(({ node }) => !file.proxies.some((proxy) => isTarget(node, proxy.node)));
  return {
    status,
    canary,
    target,
    windowMs,
    warnings: [
      ...(unlisted.length === 0
        ? []
        : [`not probed, since the drill file does not name them: ${unlisted.map(({ node }) => node).join(", ")}`]),
      ...(unreadable.length === 0 ? [] : [`errors of people are not seen at ${unreadable.join(", ")}`]),
      ...(file.canary.stream === null ? ["no stream is opened, since the drill file names none"] : []),
    ],
  };
}

/** How long a drill takes with its undo, ms, if its receipts and the return take as long as they may. */
export function drillMs(drill: Drill, { quietMs, faultMs, rounds }: DrillLimits, windowMs: number): number {
  const roundMs = restOfRoundMs + receiptWaitMs(drill, windowMs);
  // The last round while a process is away may begin just before its time is over; another follows its return.
  const faultAndRoundsMs =
    drill.fault.type === "canary" ? rounds * roundMs : faultMs + roundMs + returnWaitMs(drill, windowMs) + roundMs;
  return quietMs + faultAndRoundsMs + undoMs;
}

function refuse(problems: readonly string[]): void {
  if (problems.length > 0) throw new CannotError(problems.slice(0, 5).join("; "));
}

/** A drill begins only where `cardea cluster status` finds no problem, and every node has a lease. */
function clusterProblems({ leader, nodes, absent = [], regions = [] }: ClusterStatus): readonly string[] {
  const missing: readonly string[] = [...new Set(absent.map(({ node }) => node))];
  const silent = silentNodes(nodes).filter((node) => !missing.includes(node));
  const cutOff = regions.filter((region) => region.cutOff).map(({ region }) => region);
  const differing = nodes.filter(({ digestMismatch }) => digestMismatch).map(({ node }) => node);
  return [
    ...(leader === null ? ["no broker leads"] : []),
    ...(nodes.length === 0 ? ["no node has a lease"] : []),
    ...(cutOff.length === 0 ? [] : [`cut off: region ${cutOff.join(", ")}`]),
    ...(missing.length === 0
      ? []
      : [
          `absent: ${missing.join(", ")}; start what is missing, or, if it will not come back: cardea cluster retire ${missing.join(" ")}`,
        ]),
    ...(silent.length === 0
      ? []
      : [
          `without a lease: ${silent.join(", ")}; cardea cluster status shows since when. Once it calls a node absent that will not come back, run cardea cluster retire`,
        ]),
    ...(differing.length === 0 ? [] : [`digests differ: ${differing.join(", ")}`]),
  ];
}

/**
 * The nodes without those that the leader has only not forgotten yet. A node whose lease has ended and that is not
 * heard any more is absent, or an operator has retired it.
 */
export function presentNodes({ nodes, absent }: Pick<ClusterStatus, "nodes" | "absent">): ClusterStatus["nodes"] {
  if (absent === undefined) return nodes; // an older broker does not say which nodes are absent
  return nodes.filter(({ fencedInMs, heardAgoMs, lastGrantAgoMs }) => {
    const heardMs = heardAgoMs ?? lastGrantAgoMs ?? Number.POSITIVE_INFINITY;
    return fencedInMs === null || fencedInMs > 0 || heardMs <= silentMs;
  });
}

/** The names of those that have had no lease for a while. */
export function silentNodes(nodes: ClusterStatus["nodes"]): readonly string[] {
  const silent = nodes.filter(({ lastGrantAgoMs }) => lastGrantAgoMs === null || lastGrantAgoMs > silentMs);
  return silent.map(({ node }) => node);
}

async function checkCanary(
  drill: Drill,
  {
    file,
    operator,
    token,
    takesMs,
  }: Readonly<{ file: DrillFile; operator: DrillOperator; token: string; takesMs: number }>,
): Promise<Canary> {
  const { user, group } = file.canary;
  const { sessionId, userId } = claimsOf(token);
  const { groups } = await operator.groups();
  refuseWhileLocked(groups);
  const sessions = await operator.sessionsOf(user);
  const own = sessions.find(({ id }) => id === sessionId);
  if (own === undefined || own.userId !== userId)
    throw new CannotError(
      `the canary's credential is not a live session of ${user}; sign in as that user: cardea login ${file.canary.url.origin}`,
    );
  const leftMs = own.expiresAt === null ? Number.POSITIVE_INFINITY : Date.parse(own.expiresAt) - Date.now();
  if (leftMs < takesMs)
    throw new CannotError(
      `the canary's session ends in ${secondsOf(leftMs)}, and the drill may take ${secondsOf(takesMs)}; sign in again: cardea login ${file.canary.url.origin}`,
    );
  const others = sessions.filter(({ id }) => id !== sessionId);
  const endsAll = drill.fault.type === "canary" && drill.fault.change === "suspend-user";
  if (endsAll && others.length > 0)
    throw new CannotError(
      `${user} has ${others.length} other sessions, which a suspension would end; use a user of its own, or first: cardea sessions revoke ${others[0]?.id}`,
    );
  const membership = groups.find(({ id }) => id === group)?.members.find((one) => one.userId === userId);
  if (membership?.member !== true)
    throw new CannotError(`${user} is not a member of ${group}; first: cardea groups add ${group} ${user}`);
  if (membership.sources.some((source) => source !== "operator"))
    throw new CannotError(
      `${user} is in ${group} by ${membership.sources.join(" and ")}; use a group that only operators fill, so that the drill can restore it`,
    );
  return { userId, sessionId };
}

/** An undo that has no credential any more would leave the drill's changes behind. @throws CannotError */
export function checkOperatorToken(token: string | undefined, takesMs: number): void {
  if (token === undefined || token === "") return; // one from a configuration is renewed
  let endsS: number | undefined;
  try {
    ({ exp: endsS } = decodeJwt(token));
  } catch (cause) {
    throw new CannotError("CARDEA_TOKEN is not an operator token", { cause });
  }
  const leftMs = endsS === undefined ? Number.POSITIVE_INFINITY : endsS * 1_000 - Date.now();
  if (leftMs < takesMs)
    throw new CannotError(
      `CARDEA_TOKEN ends in ${secondsOf(leftMs)}, and the drill may take ${secondsOf(takesMs)} with its undo; use a longer one, or leave it out and name the configuration with -c`,
    );
}

const secondsOf = (ms: number): string => `${Math.max(0, Math.round(ms / 1_000))} s`;

function claimsOf(token: string): Readonly<{ sessionId: string; userId: string }> {
  try {
    const { jti = "", sub = "" } = decodeJwt(token);
    return { sessionId: jti, userId: sub };
  } catch (cause) {
    throw new CannotError("the canary's credential is not a token of Cardea", { cause });
  }
}

/** @throws CannotError if another process of its kind would not remain */
function targetOf(drill: Drill, status: ClusterStatus, given: string | undefined): string | null {
  if (drill.fault.type === "canary") return null;
  const { kind } = drill.fault;
  if (kind === "leader") return leaderTarget(status, given);
  if (given === undefined) throw new CannotError(`name the ${nounOf[kind]} that the drill stops: --target NAME`);
  switch (kind) {
    case "nats":
      return given;
    case "standby":
      if (status.brokers.some(({ brokerId }) => brokerId === given)) return given;
      throw new CannotError(`${given} is not a broker that follows; there are: ${namesOf(status.brokers)}`);
    case "proxy":
      return proxyTarget(status, given);
  }
}

const nounOf: Readonly<Record<Exclude<StoppedKind, "leader">, string>> = {
  proxy: "proxy",
  standby: "broker",
  nats: "NATS server",
};

function leaderTarget({ leader, brokers }: ClusterStatus, given: string | undefined): string {
  const leads = leader?.brokerId ?? "";
  if (given !== undefined && given !== leads) throw new CannotError(`${given} does not lead; the leader is ${leads}`);
  if (brokers.length === 0) throw new CannotError("there is no other broker to take over");
  return leads;
}

function namesOf(brokers: ClusterStatus["brokers"]): string {
  return brokers.map(({ brokerId }) => brokerId).join(", ") || "none";
}

function proxyTarget({ nodes }: ClusterStatus, given: string): string {
  const own = nodes.find(({ node, role }) => role === "proxy" && isTarget(node, given));
  if (own === undefined) throw new CannotError(`${given} is not a proxy of this cluster`);
  const others = nodes.filter(
    ({ node, role, region }) => role === "proxy" && region === own.region && !isTarget(node, given),
  );
  if (others.length > 0) return given;
  throw new CannotError(`${given} is the only proxy of region ${own.region}`);
}

async function probeProblems(file: DrillFile, probes: ProbeClient): Promise<readonly string[]> {
  const found = await Promise.all(
    file.proxies.map(async (proxy) => {
      const [canary, anonymous] = [await probes.send(proxy), await probes.send(proxy, "anonymous")];
      const { url } = file.canary;
      if (canary.status === 0)
        return `${proxy.node} does not answer at ${proxy.host}:${proxy.port}; if it is gone, remove it from the drill file`;
      if (canary.answer !== "permitted")
        return `${proxy.node} answers ${canary.status} to the canary at ${url.href}, not 2xx`;
      if (anonymous.answer === "permitted")
        return `${proxy.node} permits a request to ${url.href} without any session, so nothing can be measured there`;
      return undefined;
    }),
  );
  return found.filter((one) => one !== undefined);
}

async function unreadableMetrics(
  file: DrillFile,
  read: (proxy: DrillProxy) => Promise<string>,
): Promise<readonly string[]> {
  const found = await Promise.all(
    file.proxies.map((proxy) =>
      read(proxy).then(
        () => undefined,
        () => proxy.node, // reported as a problem or a warning
      ),
    ),
  );
  return found.filter((one) => one !== undefined);
}

/** @param options.authorization the value of the header; undefined: none */
export function metricsReader(options: Readonly<{ tls: ProxyTls; authorization: string | undefined }>) {
  return async ({ node, metrics }: DrillProxy): Promise<string> => {
    if (metrics === null) throw new CannotError(`${node} has no metrics address`);
    const { authorization, tls } = options;
    const headers = { accept: "text/plain", ...(authorization === undefined ? {} : { authorization }) };
    const { status, text } = await fetchResponse(metrics, {
      tls,
      headers,
      bytesMax: metricsBytesMax,
      silentMsMax: readingMsMax,
    });
    if (status !== 200) throw new CannotError(`${metrics.href} answered ${status}`);
    return text;
  };
}
