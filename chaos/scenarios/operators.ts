/** Operators: the operator API of each region, the metrics of each process and the command line, for one scenario. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { loadConfig } from "../../src/config/index.ts";
import { formatLink, type Link } from "../../src/events/index.ts";
import {
  type Answer,
  type ApiReceipt,
  type CommandRun,
  commandEntryOf,
  createOperatorApi,
  createOperatorClient,
  localReceiptEntryOf,
} from "../clients/operator-client.ts";
import { processNamed } from "../faults/injection.ts";
import { randomFrom } from "../random.ts";
import { type CliResult, runCli } from "../run/home-moves.ts";
import { metricIn } from "../run/metric.ts";
import type { Stage } from "../run/stage.ts";
import { type Condition, seeing } from "./look.ts";
import type { Visitor } from "./visitors.ts";

export type TimedAnswer = Answer & Readonly<{ tookMs: number }>;
/** A change that was acknowledged. */
export type Changed = Readonly<{ link: Link; tookMs: number }>;
export type MetricTest = (value: number) => boolean;

export type Operators = AsyncDisposable &
  Readonly<{
    /** Ends a person's session, sends the command again until it is done, and waits for its complete receipt. */
    revoke(visitor: Visitor, region?: string): Promise<CommandRun>;
    /** Sends the command once, and waits for no receipt. */
    tryRevoke(visitor: Visitor, region?: string): Promise<TimedAnswer>;
    /** Ends a person's session, and waits for no receipt. @throws Error when it is not acknowledged */
    revokeOnce(visitor: Visitor, region?: string): Promise<Changed>;
    /** A change is acknowledged: someone joins or leaves a group. */
    changes(visitor: Visitor, region?: string): Condition;
    /** A change is refused with 503, and not sent to anyone. */
    refusesChanges(visitor: Visitor, region: string): Condition;
    /** A cut-off region ends a person's session by itself, and the receipt of the region is complete. */
    revokesLocally(visitor: Visitor, region: string): Condition;
    /** A cut-off region does not end a person's session, for this reason. */
    refusesToRevoke(visitor: Visitor, region: string, reason: string): Condition;
    /** The receipt of a change, requested in a region. Null: none was returned. */
    receipt(link: Link, region?: string): Promise<ApiReceipt | null>;
    /** The receipt of a change is complete. */
    complete(link: Link, region?: string): Condition;
    /** The receipt of a change is not complete, and names each of these regions as open. */
    incomplete(link: Link, regions: readonly string[]): Condition;
    /** GET a path of the operator API. */
    get(path: string, region?: string): Promise<TimedAnswer>;
    /** A measure of a process. Undefined is passed on as NaN. */
    metric(process: string, name: string, test: MetricTest, labels?: Readonly<Record<string, string>>): Condition;
    metricValue(process: string, name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
    /** Runs the command line with the operator API of a region. */
    cardea(region: string, ...args: readonly string[]): Promise<CliResult>;
    /** Moves the home region, with the configuration of a broker there. @throws Error if the command fails */
    moveHome(region: string, ...args: readonly string[]): Promise<CliResult>;
    /** Brings old primaries back as standbys, as the command says how. */
    rejoin(): Promise<void>;
    /** The log has what a region revoked by itself, in the answer of another region. */
    records(visitor: Visitor, region: string): Condition;
    /** The longest time (ms) without an acknowledged change while something happens, and until the next one. */
    longestGap(visitor: Visitor, region: string, during: Promise<unknown>): Promise<number>;
    /** The command line's output matches, and so does its exit code. */
    cliSays(region: string, args: readonly string[], expected: Readonly<{ code: number; out: RegExp }>): Condition;
  }>;

const cliMs = 30_000;
const receiptMs = 300;
const moveMs = 120_000;
const pauseMs = 50;

export async function createOperators(
  { cluster, now, history, homeMoves }: Stage,
  scenario: string,
): Promise<Operators> {
  const loaded = loadConfig(cluster.home.authenticate.configFile, { env: {} });
  if (!loaded.ok) throw new Error("the configuration of authenticate is not valid");
  const { host, hostname } = loaded.config.authenticateServiceUrl;
  const secret = loaded.config.sharedSecret;
  const api = await createOperatorApi({ host, secret });
  const portOf = (region: string): number => cluster.region(region).authenticate.ports.address;
  const home = cluster.home.name;
  const random = randomFrom(1);
  const shared = { host, secret, now, history, random, stopping: () => false };
  /** The commands that a region was asked to accept by itself, by the session that they end. */
  const locals = new Map<string, string>();
  let clients = 0;
  let attempts = 0;

  async function timed(call: Promise<Answer>): Promise<TimedAnswer> {
    const from = performance.now();
    const answer = await call;
    return { ...answer, tookMs: Math.round(performance.now() - from) };
  }

  async function metricValue(
    process: string,
    name: string,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<number> {
    const page = await processNamed(cluster, process).metrics();
    return metricIn(page, name, labels) ?? Number.NaN;
  }

  /** All regions share one name, which leads to the nearest one; here the region is named by its port. */
  function cardea(region: string, ...args: readonly string[]): Promise<CliResult> {
    const url = `http://${hostname}:${portOf(region)}`;
    return runCli(cluster.region(region).authenticate.configFile, [...args, "--url", url], cliMs);
  }

  function tryRevoke({ session }: Visitor, region = home, more: object = {}): Promise<TimedAnswer> {
    const path = `/sessions/${encodeURIComponent(session)}/revoke`;
    const body = { commandId: randomUUID(), wait: "none", timeoutMs: receiptMs, ...more };
    return timed(api.call({ port: portOf(region), method: "POST", path, body }));
  }

  /** Someone joins a group or leaves it, in turn, so that each attempt is a change. */
  function tryChange({ userId }: Visitor, region: string): Promise<TimedAnswer> {
    attempts += 1;
    const path = `/groups/${encodeURIComponent(scenario)}/members`;
    const body = { [attempts % 2 === 1 ? "add" : "remove"]: [userId], commandId: randomUUID(), wait: "none" };
    return timed(api.call({ port: portOf(region), method: "POST", path, body }));
  }

  async function receipt(link: Link, region = home): Promise<ApiReceipt | null> {
    const path = `/receipts/link:${formatLink(link)}?wait=all&timeoutMs=${receiptMs}`;
    const { status, body } = await api.call({ port: portOf(region), method: "GET", path });
    return status === 200 ? (body as unknown as ApiReceipt) : null;
  }

  return {
    async revoke({ session }, region = home) {
      clients += 1;
      const doors = [{ region, port: portOf(region) }];
      const client = await createOperatorClient({ ...shared, name: `${scenario}-revoke-${clients}`, doors });
      const path = `/sessions/${encodeURIComponent(session)}/revoke`;
      try {
        return await client.runCommand({ type: "revoke-session", session }, path, {});
      } finally {
        await client.close();
      }
    },
    tryRevoke,
    async revokeOnce(visitor, region) {
      const { status, body, problem, tookMs } = await tryRevoke(visitor, region);
      if (status !== 200) throw new Error(`the revocation was not acknowledged: ${problem}`);
      return { link: body["link"] as Link, tookMs };
    },
    changes:
      (visitor, region = home) =>
      () =>
        seeing(async () => {
          const { status, problem, tookMs } = await tryChange(visitor, region);
          return status === 200 ? null : `${problem} after ${tookMs} ms`;
        }, `a change is acknowledged in ${region}`),
    refusesChanges: (visitor, region) => () =>
      seeing(async () => {
        const { status, problem, tookMs } = await tryChange(visitor, region);
        return status === 503 ? null : `${status} ${problem} after ${tookMs} ms`;
      }, `a change is refused in ${region}`),
    revokesLocally: (visitor, region) => {
      const commandId = randomUUID();
      locals.set(visitor.session, commandId);
      const op = `${scenario}-local-${locals.size}`;
      const intent = { type: "revoke-session", session: visitor.session } as const;
      return () =>
        seeing(async () => {
          const begin = now();
          const answer = await tryRevoke(visitor, region, { commandId, wait: "region" });
          const sent = { op, intent, region, commandId, begin, end: now() };
          const command = commandEntryOf(sent, answer);
          const receipt = localReceiptEntryOf({ op, region, begin, end: command.end }, answer);
          history.write(command);
          const { outcome } = command;
          if (outcome === "local") history.write(receipt);
          return outcome === "local" && receipt.complete
            ? null
            : `${answer.status} ${answer.problem} ${JSON.stringify(receipt.nodes)}`;
        }, `the session is revoked in ${region} alone`);
    },
    records:
      ({ session }, region) =>
      () =>
        seeing(async () => {
          const path = `/receipts/command:${locals.get(session)}?wait=none`;
          const { status, body, problem } = await api.call({ port: portOf(region), method: "GET", path });
          return status === 200 && body["link"] !== null ? null : `${status} ${body["status"]} ${problem}`;
        }, `the log has it, as ${region} says`),
    refusesToRevoke: (visitor, region, reason) => () =>
      seeing(async () => {
        const { status, problem } = await tryRevoke(visitor, region);
        return status === 503 && problem.includes(reason) ? null : `${status} ${problem}`;
      }, `${region} does not revoke: ${reason}`),
    receipt,
    complete: (link, region) => () =>
      seeing(async () => {
        const found = await receipt(link, region);
        return found?.complete === true ? null : openIn(found);
      }, "the receipt is complete"),
    incomplete: (link, regions) => () =>
      seeing(
        async () => {
          const found = await receipt(link);
          const open = new Set(
            (found?.nodes ?? []).filter(({ status }) => status === "unconfirmed").map((n) => n.region),
          );
          const isSo = found?.complete === false && regions.every((region) => open.has(region));
          return isSo ? null : `${found?.status ?? "no receipt"}: ${openIn(found)}`;
        },
        `the receipt names ${regions.join(", ")} as open`,
      ),
    get: (path, region = home) => timed(api.call({ port: portOf(region), method: "GET", path })),
    metric: (process, name, test, labels) => () =>
      seeing(async () => {
        const value = await metricValue(process, name, labels);
        return test(value) ? null : `${process} ${name} is ${value}`;
      }, `${process} ${name} is as expected`),
    metricValue,
    cardea,
    moveHome: homeMoves.move,
    rejoin: homeMoves.rejoin,
    async longestGap(visitor, region, during) {
      let over = false;
      const done = during.finally(() => {
        over = true;
      });
      done.catch(() => {}); // awaited below
      let [last, longest] = [performance.now(), 0];
      for (let isLast = false; !isLast; ) {
        const wasOver = over;
        const { status } = await tryChange(visitor, region);
        if (status === 200) {
          longest = Math.max(longest, performance.now() - last);
          last = performance.now();
          isLast = wasOver;
        } else if (wasOver && performance.now() - last > moveMs) throw new Error("no change is acknowledged after it");
        await delay(pauseMs);
      }
      await done;
      return Math.round(longest);
    },
    cliSays:
      (region, args, { code, out }) =>
      () =>
        seeing(
          async () => {
            const result = await cardea(region, ...args);
            if (result.code === code && out.test(result.out)) return null;
            return `cardea ${args.join(" ")}: ${result.code} ${result.out.slice(0, 600)} ${result.err.slice(0, 300)}`;
          },
          `cardea ${args.join(" ")} exits ${code}`,
        ),
    async [Symbol.asyncDispose]() {
      await api.close();
    },
  };
}

function openIn(receipt: ApiReceipt | null): string {
  const open = (receipt?.nodes ?? []).filter(({ status }) => status === "unconfirmed");
  return open.length === 0
    ? (receipt?.status ?? "no receipt")
    : open.map(({ node, reason }) => `${node}: ${reason}`).join("; ");
}
