/** Checks of durability while standbys lag: what they share, and what they never take from each other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Epoch, Hash, Link, Position } from "../../../../src/events/index.ts";
import { LogUnavailableError } from "../../../../src/replication/index.ts";
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
  looks = 0;
  atOnceMax = 0;
  linksMax = 0;
  /** What a look waits for before it reads. */
  gate: Promise<void> = Promise.resolve();
  #atOnce = 0;

  readonly look = async (links: readonly Link[]): Promise<SharedLook> => {
    this.looks += 1;
    this.linksMax = Math.max(this.linksMax, links.length);
    this.#atOnce += 1;
    this.atOnceMax = Math.max(this.atOnceMax, this.#atOnce);
    const { end, name: server, flushed } = this;
    await this.gate;
    this.#atOnce -= 1;
    const standbys = [{ name: "standby", address: "", state: "sync", flushed }];
    return { end, server, standbys, names: "standby", commit: "on", holds: links.map(() => true) };
  };
}

test("a thousand checks while standbys lag take one reader, and what exceeds the bound is asynchronous at once", async () => {
  const server = new Server();
  const checks = new DurabilityChecks(server.look);
  const all = Array.from({ length: 1_000 }, (_, n) => checks.check(linkAt(n + 1)));
  assert.equal(await checks.check(linkAt(2_000)), "asynchronous");
  await waitFor("a few looks", () => server.looks >= 3);
  server.flushed = 100n;
  assert.deepEqual(new Set(await Promise.all(all)), new Set(["synchronous"]));
  assert.deepEqual([server.atOnceMax, server.linksMax], [1, 1_000]);
  assert.ok(server.looks < 100, String(server.looks));
});

test("a standby that never catches up ends every check as asynchronous", async () => {
  const server = new Server();
  const checks = new DurabilityChecks(server.look);
  assert.deepEqual(await Promise.all([checks.check(linkAt(1)), checks.check(linkAt(2))]), [
    "asynchronous",
    "asynchronous",
  ]);
  assert.ok(server.looks <= 20, String(server.looks));
});

test("a look that was sent before a check began says nothing to it", async () => {
  const server = new Server();
  const gate = Promise.withResolvers<void>();
  server.gate = gate.promise;
  server.flushed = 100n;
  const checks = new DurabilityChecks(server.look);
  const first = checks.check(linkAt(1));
  await waitFor("the first look", () => server.looks === 1);
  server.flushed = 0n;
  const second = checks.check(linkAt(1));
  gate.resolve();
  assert.deepEqual([await first, await second], ["synchronous", "asynchronous"]);
});

test("positions of another server's log are not compared with those of the first", async () => {
  const server = new Server();
  const checks = new DurabilityChecks(server.look);
  const asked = checks.check(linkAt(1));
  await waitFor("a look", () => server.looks >= 1);
  Object.assign(server, { name: "server 2", end: 500n, flushed: 400n });
  assert.equal(await asked, "asynchronous");
});

test("a store that is away has shown nothing, and another error is the caller's", async () => {
  const away = new DurabilityChecks(() => Promise.reject(new LogUnavailableError("away")));
  assert.equal(await away.check(linkAt(1)), "asynchronous");
  const broken = new DurabilityChecks(() => Promise.reject(new TypeError("broken")));
  await assert.rejects(broken.check(linkAt(1)), TypeError);
});

test("a look without an answer does not hold a check beyond its bound", async () => {
  const server = new Server();
  server.gate = new Promise(() => {});
  assert.equal(await new DurabilityChecks(server.look).check(linkAt(1)), "asynchronous");
});
