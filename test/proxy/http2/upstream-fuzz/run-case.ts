/** Runs a case with both clients and compares them with each other and with what RFC 9113 says. */
import assert from "node:assert/strict";
import { SeededRandom } from "../../../support/seeded-random.ts";
import { buildCase, type Case, type Expected } from "./cases.ts";
import { bodyOf, type Connections, callNode, callOwn, type Got, openPool, requestTrailers } from "./clients.ts";
import { type Mistake, mistakes } from "./mistakes.ts";
import type { ScriptConnection, ScriptServer } from "./server.ts";

/** How long a stream that must end may take. */
const endsWithinMs = 20_000;

const lax: ReadonlyMap<string, string | undefined> = new Map(mistakes.map(({ name, laxInNode }) => [name, laxInNode]));
/**
 * Reasons for which the proxy refuses what Node accepts: Node leaves invalid lines out, and a response that breaks off
 * with RST_STREAM and NO_ERROR is complete to it.
 */
const stricter = /header-name|header-value|reset the stream \(0\)/;

export type Outcome = Readonly<{ kind: Case["kind"]; name: string; complete: number; failed: number }>;

type Run = Readonly<{
  got: readonly Got[];
  connection: ScriptConnection | undefined;
  /** The client has ended the connection because of what it read. */
  hasFault: boolean;
}>;

/** The GOAWAY that states a fault may be lost: a socket that is closed before everything was read resets. */
function hasFaultOf({ connections: [connection] }: ScriptServer): boolean {
  if (connection === undefined) return false;
  return connection.goAway === undefined ? connection.isClosed : connection.goAway !== 0;
}

/**
 * @param mistake undefined: the seed chooses
 * @throws an error that names the seed
 */
export async function runCase(
  server: ScriptServer,
  port: number,
  { seed, mistake }: Readonly<{ seed: number; mistake?: Mistake }>,
): Promise<Outcome> {
  const script = buildCase(new SeededRandom(seed), mistake);
  const own = await runOwn(server, port, { script, seed, connections: "cardea" });
  const node = await runNode(server, port, script);
  const what = describeCase(script, seed);
  try {
    const isAborted = own.got.some((got) => got.isAborted);
    for (const [i, got] of own.got.entries()) {
      const theirs = node.got[i];
      // A mistake on a stream that was given up may reach nothing.
      if (!got.isAborted && !(isAborted && script.kind === "mistake"))
        compare(script, script.expected?.[i], { own: got, node: theirs });
      if (script.kind === "damaged" && !got.isAborted) compareDamaged({ own, node }, got, theirs);
    }
    checkUploads(script, own);
    if (script.expected !== undefined && !isAborted)
      assert.equal(own.hasFault, script.endsConnection, "a fault of the connection");
  } catch (error) {
    const seen = {
      own: own.got.map(readable),
      node: node.got.map(readable),
      goAway: [own.connection?.goAway, node.connection?.goAway],
    };
    const facts = JSON.stringify({ expected: script.expected?.map(readable), ...seen }, null, 1);
    throw new Error(`${(error as Error).message}\n${what}\n${facts}`, { cause: error });
  }
  return outcomeOf(script, own.got);
}

function outcomeOf({ kind, name }: Case, all: readonly Got[]): Outcome {
  const count = (end: Got["end"]): number => all.filter((got) => got.end === end).length;
  return { kind, name, complete: count("complete"), failed: count("failed") };
}

function describeCase({ kind, name, requests, greeting, writes }: Case, seed: number): string {
  const asked = requests.map(({ method, bodyBytes }) => `${method} ${bodyBytes}`).join();
  return `case ${seed}: ${kind} ${name} [${asked}] ${[greeting, ...writes].map((each) => each.subarray(0, 200).toString("hex")).join(" ")}`;
}
function readable(one: Readonly<{ lines?: readonly string[]; body: Buffer | Buffer[] }>): object {
  const body = Array.isArray(one.body) ? Buffer.concat(one.body) : one.body;
  const { lines = [] } = one;
  return {
    ...one,
    lines: lines.map((line) => line.slice(0, 40)),
    body: `${body.length}: ${body.toString("latin1", 0, 40)}`,
  };
}

async function until(
  isDone: () => boolean,
  { withinMs, changes }: { withinMs: number; changes: Set<() => void> },
): Promise<boolean> {
  const end = performance.now() + withinMs;
  while (!isDone()) {
    const left = end - performance.now();
    if (left <= 0) return false;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        changes.delete(done);
        resolve();
      };
      const timer = setTimeout(done, left);
      changes.add(done);
    });
  }
  return true;
}

async function settle(
  server: ScriptServer,
  script: Case,
  got: readonly Got[],
  changes: Set<() => void>,
): Promise<void> {
  const { expected } = script;
  await server.first;
  const isDone = (): boolean =>
    got.every((one, i) => one.isAborted || one.end !== "open" || expected?.[i]?.end !== "complete");
  await until(isDone, { withinMs: endsWithinMs, changes });
  const connection = server.connections[0];
  await Promise.race([connection?.settled, new Promise((resolve) => setTimeout(resolve, endsWithinMs).unref())]);
  // Node reports what it has read a few turns later.
  if (expected === undefined) for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** The same pool on the library of Node makes the same of what is legal. @returns undefined: the case is not legal */
export async function runLegalOnNode(server: ScriptServer, port: number, seed: number): Promise<Outcome | undefined> {
  const script = buildCase(new SeededRandom(seed));
  if (script.kind !== "legal") return undefined;
  const run = await runOwn(server, port, { script, seed, connections: "node" });
  try {
    for (const [i, got] of run.got.entries())
      if (!got.isAborted) compare(script, script.expected?.[i], { own: got, node: undefined });
    checkUploads(script, run, true); // it resets what is not complete a turn later
  } catch (error) {
    const facts = JSON.stringify({ expected: script.expected?.map(readable), got: run.got.map(readable) }, null, 1);
    throw new Error(`${(error as Error).message}\n${describeCase(script, seed)}\n${facts}`, { cause: error });
  }
  return outcomeOf(script, run.got);
}

async function runOwn(
  server: ScriptServer,
  port: number,
  { script, seed, connections }: Readonly<{ script: Case; seed: number; connections: Connections }>,
): Promise<Run> {
  server.begin(script);
  const changes = new Set<() => void>();
  const onChange = (): void => {
    for (const each of [...changes]) each();
  };
  const pool = openPool(port, connections);
  const mood = seed % 3 === 0 ? new SeededRandom(seed) : undefined;
  const got = callOwn(pool, script.requests, { mood, onChange });
  await settle(server, script, got, changes);
  const [connection] = server.connections;
  // What has ended does not depend on what follows.
  const before = got.map((one) => ({ ...one, body: [Buffer.concat(one.body)] }));
  const hasFault = hasFaultOf(server);
  const open = got.filter((one) => one.end === "open" && !one.isAborted).length;
  if (open > 0) {
    server.end(); // a limit of streams may be reached
    await until(() => pool.busy === 0, { withinMs: endsWithinMs, changes });
  }
  await checkUsable(pool, { onChange, changes, script, seed });
  server.end();
  const isOver = (): boolean => pool.busy === 0;
  await until(isOver, { withinMs: 100, changes });
  await until(isOver, { withinMs: endsWithinMs, changes });
  assert.deepEqual([pool.busy, pool.waiting], [0, 0], `what is left in the pool (${describeCase(script, seed)})`);
  pool.close();
  return { got: before, connection, hasFault };
}

/** Another call is served, by this connection or by the next. */
async function checkUsable(
  pool: ReturnType<typeof openPool>,
  {
    onChange,
    changes,
    script,
    seed,
  }: Readonly<{ onChange: () => void; changes: Set<() => void>; script: Case; seed: number }>,
): Promise<void> {
  for (let tries = 0; tries < 3; tries++) {
    const [next] = callOwn(pool, [{ method: "GET", bodyBytes: -1, trailers: false }], { mood: undefined, onChange });
    const isDone = (): boolean => next !== undefined && next.end !== "open";
    const isOver = await until(isDone, { withinMs: endsWithinMs, changes });
    const body = Buffer.concat(next?.body ?? []).toString();
    if (next?.end === "complete" && script.kind !== "damaged") assert.match(body, /^next [0-9]+$/);
    if (next?.end === "complete") return;
    assert.ok(isOver, `the next call waits (${describeCase(script, seed)})`);
    if (script.kind !== "damaged")
      assert.equal(next?.unprocessed, true, `the next call: ${next?.error} (${describeCase(script, seed)})`);
  }
  assert.fail("no call is served");
}

async function runNode(server: ScriptServer, port: number, script: Case): Promise<Run> {
  server.begin(script);
  const changes = new Set<() => void>();
  const client = callNode(port, script.requests, () => {
    for (const each of [...changes]) each();
  });
  await settle(server, script, client.got, changes);
  const [connection] = server.connections;
  const hasFault = hasFaultOf(server);
  server.end();
  client.close();
  return { got: client.got.map((one) => ({ ...one, body: [Buffer.concat(one.body)] })), connection, hasFault };
}

function compare(
  script: Case,
  expected: Expected | undefined,
  { own, node }: Readonly<{ own: Got; node: Got | undefined }>,
): void {
  if (expected === undefined) return;
  assertAllows(expected, own);
  assert.equal(own.end, expected.end, `the end of a stream: ${own.error}`);
  if (expected.end === "failed" && expected.status === 0 && expected.interim.length === 0)
    assert.equal(own.unprocessed, expected.unprocessed, "unprocessed");
  const isReset = expected.end === "failed" && script.kind === "legal";
  if (node === undefined) return;
  if (expected.end === "complete" && script.kind === "legal") assertSame(expected, node);
  if (expected.end === "failed" && node.end === "complete" && !isReset)
    assert.ok(lax.get(script.name) !== undefined, "Node accepts what the proxy refuses");
}

/** A response is never more or anything else than what was sent. */
function assertAllows(expected: Expected, got: Got): void {
  assert.deepEqual(got.interim, expected.interim);
  assert.equal(got.status, expected.status);
  if (expected.status !== 0) assert.deepEqual(got.lines, expected.lines);
  const body = Buffer.concat(got.body);
  assert.ok(body.equals(expected.body.subarray(0, body.length)), "the body");
  if (got.end !== "complete") return;
  assert.equal(body.length, expected.body.length);
  assert.deepEqual(got.trailers, expected.trailers);
}

function assertSame(expected: Expected, node: Got): void {
  assert.equal(node.end, "complete", `Node: ${node.error}`);
  assert.deepEqual(
    [node.status, node.lines, node.trailers, Buffer.concat(node.body).toString("latin1")],
    [expected.status, expected.lines, expected.trailers, expected.body.toString("latin1")],
  );
}

/** Nothing is known of damaged bytes but what another client makes of them. */
function compareDamaged({ own, node }: Readonly<{ own: Run; node: Run }>, mine: Got, theirs: Got | undefined): void {
  if (theirs === undefined) return;
  const [isMineOver, isTheirsOver] = [own.hasFault, node.hasFault];
  if (mine.end === "complete" && theirs.end === "complete")
    assert.deepEqual(
      [mine.status, mine.lines, mine.trailers, mine.body],
      [theirs.status, theirs.lines, theirs.trailers, theirs.body],
    );
  if (mine.end === "complete" && theirs.end === "failed") assert.ok(isTheirsOver, `Node refuses: ${theirs.error}`);
  if (mine.end === "failed" && theirs.end === "complete" && !isMineOver)
    assert.match(mine.error, stricter, `the proxy refuses what Node accepts: ${mine.error}`);
}

/** What left of the requests is what was asked for, in order, up to where it was given up. */
function checkUploads({ requests, kind, expected }: Case, { got, connection }: Run, isOfNode = false): void {
  if (connection === undefined) return;
  assert.deepEqual(connection.faults, []);
  for (const [i, { method, bodyBytes, trailers }] of requests.entries()) {
    const upload = connection.uploads.get(2 * i + 1);
    if (got.some(({ isAborted }) => isAborted)) continue; // numbers differ
    assert.ok(upload !== undefined);
    assert.deepEqual(upload.lines.slice(0, 4), [":method", method, ":path", `/${i}`]);
    const body = Buffer.concat(upload.body);
    assert.ok(body.equals(bodyOf(2 * i + 1, Math.max(0, bodyBytes)).subarray(0, body.length)), "the request's body");
    if (!upload.isEnded || upload.isReset) continue;
    assert.equal(body.length, Math.max(0, bodyBytes));
    assert.deepEqual(upload.trailers, trailers ? requestTrailers : undefined);
  }
  if (kind === "legal" && !isOfNode && expected?.every(({ end }) => end !== "failed"))
    for (const [i] of requests.entries()) {
      const upload = connection.uploads.get(2 * i + 1);
      const isOpen = got[i]?.end === "open";
      if (!isOpen && got[i]?.isAborted === false)
        assert.ok(upload?.isEnded === true || upload?.isReset === true, "the request has an end");
    }
}
