/** The durability monitor: a change that a receipt calls synchronous is on enough standbys, and survives a failover. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Link } from "../../../../src/events/index.ts";
import { History } from "./history.ts";

/** A log on pg-1 whose commits wait for one of two standbys. */
function begun(): History {
  return History.begun().tell("names-set", { process: "pg-1", standbys: 1 });
}
const flushed = (history: History, process: string, head: Link): History =>
  history.tell("standby-flushed", { process, head });
const signed = (history: History, durability: string): History => {
  const answered = history.facts.findLast((fact) => fact.type === "receipt-answered");
  return history.tell("receipt-signed", { process: "broker-1", receipt: 1, answer: answered?.answer, durability });
};
const broken = (history: History): boolean => history.found.includes("durability-true");

describe("a receipt that says synchronous", () => {
  test("is true when a standby has the change on disk", () => {
    const history = begun();
    flushed(history, "pg-2", history.head).receipt();
    assert.equal(broken(signed(history, "synchronous")), false);
  });

  test("is true when a standby has flushed the change between conclusion and signature", () => {
    const history = begun().receipt();
    flushed(history, "pg-3", history.head);
    assert.equal(broken(signed(history, "synchronous")), false);
  });

  test("is false when no standby has the change, whatever the names say", () => {
    const history = begun();
    flushed(history, "pg-2", history.head);
    history.create("s2").receipt();
    assert.equal(broken(signed(history, "synchronous")), true);
  });

  test("is false when fewer standbys have the change than the names require", () => {
    const history = begun().tell("names-set", { process: "pg-1", standbys: 2 });
    flushed(history, "pg-2", history.head).receipt();
    assert.equal(broken(signed(history, "synchronous")), true);
  });

  test("is false while the names are empty, whatever the standbys have", () => {
    const history = begun();
    flushed(history, "pg-2", history.head).tell("names-set", { process: "pg-1", standbys: 0 }).receipt();
    assert.equal(broken(signed(history, "synchronous")), true);
  });
});

test("a receipt that says asynchronous promises nothing", () => {
  assert.equal(broken(signed(begun().receipt(), "asynchronous")), false);
});

describe("a failover after a receipt that said synchronous", () => {
  const promised = (): Readonly<{ history: History; before: Link }> => {
    const history = begun();
    const before = history.head;
    history.create("s2");
    flushed(history, "pg-2", history.head).receipt();
    return { history: signed(history, "synchronous"), before };
  };
  const promote = (history: History, head: Link, given: object): History =>
    history.tell("promoted", { process: "pg-3", head, ...given });

  test("to the furthest of enough standbys must keep the change", () => {
    const { history, before } = promised();
    promote(history, before, { how: "unsafe", stopped: { count: 2, of: 2 } });
    assert.equal(broken(history), true);
  });

  test("that keeps the change leaves the promise in force for the next one", () => {
    const { history, before } = promised();
    promote(history, history.head, { how: "procedure", stopped: { count: 2, of: 2 } });
    assert.equal(broken(history), false);
    promote(history, before, { how: "unsafe", stopped: { count: 2, of: 2 } });
    assert.equal(broken(history), true);
  });

  test("that compares too few standbys, or none, or restores a backup, may lose the change", () => {
    for (const given of [{ how: "unsafe", stopped: { count: 1, of: 2 } }, { how: "unsafe" }, { how: "restored" }]) {
      const { history, before } = promised();
      promote(history, before, given);
      assert.equal(broken(history), false, JSON.stringify(given));
    }
  });
});
