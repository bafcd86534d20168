/**
 * Durability checks against a server with lagging standbys: what concurrent checks share, and what they must not share.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Epoch, Hash, Link, Position } from "../../../../src/events/index.ts";
import { LogUnavailableError } from "../../../../src/replication/log/index.ts";
import { DurabilityChecks, type SharedLook } from "../../../../src/replication/log/postgres/durability.ts";
import { waitFor } from "../../../support/wait-for.ts";

const linkAt = (position: number): Link => ({
  ...{ epoch: 1 as Epoch, position: position as Position, hash: "a".repeat(64) as Hash },
});

/** A server with one standby. */
class Server {
  flushed = 0n;
  end = 100n;
  name = "server 1";
  queries = 0;
  concurrentMax = 0;
  linksMax = 0;
  /** A query waits for this before it reads the flush positions. */
  gate: Promise<void> = Promise.resolve();
  #concurrent = 0;

  readonly look = async (links: readonly Link[]): Promise<SharedLook> => {
    this.queries += 1;
    this.linksMax = Math.max(this.linksMax, links.length);
    this.#concurrent += 1;
    this.concurrentMax = Math.max(this.concurrentMax, this.#concurrent);
    const { end, name: server, flushed } = this;
    await this.gate;
    this.#concurrent -= 1;
    const standbys = [{ name: "standby", address: "", state: "sync", flushed }];
    return { end, server, standbys, names: "standby", commit: "on", holds: links.map(() => true) };
  };
}

test("a thousand checks share one query at a time while standbys lag, and a check above the bound is asynchronous at once", async () => {
  const server = new Server();
  const checks = new DurabilityChecks(server.look);
  const all = Array.from({ length: 1_000 }, (_, n) => checks.check(linkAt(n + 1)));
  assert.equal(await checks.check(linkAt(2_000)), "asynchronous");
  await waitFor("a few queries", () => server.queries >= 3);
  server.flushed = 100n;
  assert.deepEqual(new Set(await Promise.all(all)), new Set(["synchronous"]));
  assert.deepEqual([server.concurrentMax, server.linksMax], [1, 1_000]);
  assert.ok(server.queries < 100, String(server.queries));
});

test("a standby that never catches up ends every check as asynchronous", async () => {
  const server = new Server();
  const checks = new DurabilityChecks(server.look);
  assert.deepEqual(await Promise.all([checks.check(linkAt(1)), checks.check(linkAt(2))]), [
    "asynchronous",
    "asynchronous",
  ]);
  assert.ok(server.queries <= 20, String(server.queries));
});

test("a query sent before a check began does not count for it", async () => {
  const server = new Server();
  const gate = Promise.withResolvers<void>();
  server.gate = gate.promise;
  server.flushed = 100n;
  const checks = new DurabilityChecks(server.look);
  const first = checks.check(linkAt(1));
  await waitFor("the first query", () => server.queries === 1);
  server.flushed = 0n;
  const second = checks.check(linkAt(1));
  gate.resolve();
  assert.deepEqual([await first, await second], ["synchronous", "asynchronous"]);
});

test("positions in the log of another server are not compared with those of the first server", async () => {
  const server = new Server();
  const checks = new DurabilityChecks(server.look);
  const checked = checks.check(linkAt(1));
  await waitFor("a query", () => server.queries >= 1);
  Object.assign(server, { name: "server 2", end: 500n, flushed: 400n });
  assert.equal(await checked, "asynchronous");
});

test("a store that is unavailable gives no evidence, and any other error reaches the caller", async () => {
  const away = new DurabilityChecks(() => Promise.reject(new LogUnavailableError("away")));
  assert.equal(await away.check(linkAt(1)), "asynchronous");
  const broken = new DurabilityChecks(() => Promise.reject(new TypeError("broken")));
  await assert.rejects(broken.check(linkAt(1)), TypeError);
});

test("a query without an answer does not delay a check beyond its bound", async () => {
  const server = new Server();
  server.gate = new Promise(() => {});
  assert.equal(await new DurabilityChecks(server.look).check(linkAt(1)), "asynchronous");
});
