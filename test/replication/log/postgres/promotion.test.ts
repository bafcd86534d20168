/** Promotion: which standby may replace the primary, and which acknowledged events may be lost. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  attachConninfo,
  chooseStandby,
  detachConninfo,
  leadingTo,
  nameIn,
  oldPrimaryAmong,
  parseSynchronousNames,
  type Seen,
  sourceIn,
  whatMayBeLost,
} from "../../../../src/replication/log/postgres/promotion.ts";

describe("synchronous_standby_names", () => {
  for (const [text, expected] of [
    ["", undefined],
    ["  ", undefined],
    ["a", { count: 1, names: ["a"] }],
    ["a, b", { count: 1, names: ["a", "b"] }],
    ["2 (a, b, c)", { count: 2, names: ["a", "b", "c"] }],
    ["FIRST 1 (a,b)", { count: 1, names: ["a", "b"] }],
    ["any 2 (A, b, b)", { count: 2, names: ["a", "b"] }],
    ['ANY 1 ("node 1", "say ""hi""")', { count: 1, names: ["node 1", 'say "hi"'] }],
    ["*", { count: 1, names: "any" }],
    ["ANY 2 (*)", { count: 2, names: "any" }],
  ] as const) {
    test(`"${text}"`, () => assert.deepEqual(parseSynchronousNames(text), expected));
  }
  test("a list that cannot be parsed is an error, not an empty list", () => {
    for (const text of ["ANY 1 (a,,b)", 'ANY 1 ("a)', "ANY 1 (a b)"])
      assert.throws(() => parseSynchronousNames(text), SyntaxError, text);
  });
});

const observation = (synchronous: string, standbys: readonly string[], parts: Partial<Seen> = {}): Seen => ({
  standbys: standbys.map((name) => ({ host: `${name}:5432`, name, synchronous })),
  ...{ primaries: [], unreachable: [], oldPrimary: null },
  ...parts,
});

describe("what may be lost", () => {
  const lost = (...observed: Parameters<typeof observation>): boolean =>
    whatMayBeLost(observation(...observed)).length > 0;

  test("nothing if all but k − 1 of the servers that may acknowledge have stopped", () => {
    assert.equal(lost("ANY 1 (a, b)", ["a", "b"]), false);
    assert.equal(lost("ANY 1 (a, b)", ["a"]), true);
    assert.equal(lost("ANY 2 (a, b)", ["a"]), false);
    assert.equal(lost("ANY 2 (a, b, c)", ["a", "c"]), false);
    assert.equal(lost("ANY 2 (a, b, c)", ["c"]), true);
    assert.equal(lost("FIRST 1 (a, b)", ["b"]), true);
    assert.equal(lost("a", ["A"]), false);
  });
  test("a server that never acknowledges does not count", () => {
    assert.equal(lost("ANY 1 (a, b)", ["a", "reporting"]), true);
  });
  test("the old primary does not count among the names, once it is known as the primary", () => {
    assert.equal(lost("ANY 1 (p, a, b)", ["a", "b"]), true);
    assert.equal(lost("ANY 1 (p, a, b)", ["a", "b"], { oldPrimary: "P" }), false);
    const primaries = [{ host: "p:5432", name: "p", synchronous: "ANY 1 (p, a, b)" }];
    assert.equal(lost("ANY 1 (p, a, b)", ["a", "b"], { primaries }), false);
    assert.equal(lost("ANY 1 (p, a, b)", ["a"], { primaries }), true);
  });
  test("anything may be lost without names, with `*`, or with settings that differ between servers", () => {
    assert.match(whatMayBeLost(observation("", ["a", "b"])).join(), /no synchronous standbys/);
    assert.match(whatMayBeLost(observation("ANY 1 (*)", ["a", "b"])).join(), /name the standbys/);
    const [a] = observation("ANY 1 (a, b)", ["a"]).standbys;
    const [b] = observation("ANY 2 (a, b)", ["b"]).standbys;
    assert.ok(a !== undefined && b !== undefined);
    assert.match(whatMayBeLost({ ...observation("", []), standbys: [a, b] }).join(), /not the same on all servers/);
  });
  test("a missing server is named with the reason why it was not reached", () => {
    const unreachable = [{ host: "10.0.0.2:5432", problem: "timed out" }];
    assert.match(
      whatMayBeLost(observation("ANY 1 (a, b)", ["a"], { unreachable })).join(),
      /^b may hold .*10\.0\.0\.2:5432 \(timed out\)/,
    );
  });
  test("for every list and count, a promotion is called safe exactly if it holds every acknowledged event", () => {
    const names = ["a", "b", "c", "d"];
    for (let n = 1; n <= 4; n++)
      for (let k = 1; k <= n; k++)
        for (let set = 1; set < 1 << n; set++) {
          const all = names.slice(0, n);
          const stopped = all.filter((_, i) => set & (1 << i));
          const holders = subsets(all).filter((each) => each.length === k);
          // Each event was acknowledged by k servers. A stopped server is among them, and the running ones are too few
          // to acknowledge.
          const safe = holders.every((each) => each.some((name) => stopped.includes(name))) && n - stopped.length < k;
          assert.equal(!lost(`ANY ${k} (${all.join()})`, stopped), safe, `ANY ${k} of ${n}, stopped ${stopped}`);
        }
  });
});

function subsets(names: readonly string[]): string[][] {
  return Array.from({ length: 1 << names.length }, (_, set) => names.filter((_, i) => set & (1 << i)));
}

test("the standby that has received the most is chosen", () => {
  const standbyAt = (host: string, bytes: bigint) => ({ host, bytes, epoch: 1, position: 1 });
  assert.equal(chooseStandby([standbyAt("a", 10n), standbyAt("b", 2n ** 60n), standbyAt("c", 11n)])?.host, "b");
  assert.equal(chooseStandby([]), undefined);
});

describe("primary_conninfo", () => {
  for (const conninfo of [
    "host=one port=5432 user=replicator password='it''s' application_name=a",
    "user=replicator passfile='/a b/pass' host='one'",
    "postgres://replicator:secret@one:5432/?application_name=a",
    "postgresql://replicator@one/postgres",
    "",
  ]) {
    test(`${JSON.stringify(conninfo)} can be detached, once or twice, and pointed at another server`, () => {
      const once = detachConninfo(conninfo);
      assert.equal(detachConninfo(once), once);
      assert.equal(attachConninfo(once), conninfo);
      assert.equal(attachConninfo(conninfo), conninfo);
      if (conninfo === "") return assert.equal(once, "");
      assert.match(once, /detached-by-cardea/);
      const led = leadingTo(once, { host: "two", port: "6543" });
      assert.ok(led.startsWith(conninfo));
      assert.match(led.slice(conninfo.length), /two.*6543/);
      assert.doesNotMatch(led, /detached/);
      const again = leadingTo(detachConninfo(led), { host: "six", port: "6543" });
      assert.equal(again.length, led.length, "settings that lead elsewhere do not grow with each move");
    });
  }
  test("the name of a standby comes from the connection string, else from the cluster name", () => {
    assert.equal(nameIn("host=h application_name=a", "cluster"), "a");
    assert.equal(nameIn("application_name='it\\'s a' host=h", "cluster"), "it's a");
    assert.equal(nameIn("application_name=a application_name=b", ""), "b");
    assert.equal(nameIn("postgres://u@h/?application_name=node%201", ""), "node 1");
    assert.equal(nameIn("host=h", "cluster"), "cluster");
    assert.equal(nameIn("host=h", ""), "walreceiver");
  });
});

describe("the old primary that does not answer", () => {
  const among = (sources: readonly (string | null)[], silent = ["east:5432"]) =>
    oldPrimaryAmong(sources, { answering: new Set(["us:5432", "ap:5432"]), silent: new Set(silent) });
  test("is unknown where another server is silent: one that passed the changes on may be a standby", () =>
    assert.equal(among(["us-1:5432", "us-1:5432"], ["us-1:5432", "east:5432"]), null));
  test("is the silent server from which every standby received last; a standby of a standby says nothing", () => {
    assert.equal(among(["east:5432", "east:5432"]), "east:5432");
    assert.equal(among(["east:5432", "us:5432"]), "east:5432");
  });
  test("is unknown where they differ, lead elsewhere or nowhere", () => {
    for (const sources of [["east:5432", "west:5432"], ["west:5432"], ["us:5432"], [null, "east:5432"], []])
      assert.equal(among(sources), null, String(sources));
  });
  test("is read from settings in either form, where the last value wins and the port has a default", () => {
    assert.equal(sourceIn("host=East port=5433 user=r"), "east:5433");
    assert.equal(sourceIn("host=a port=1 host='b' hostaddr='' port='2'"), "b:2");
    assert.equal(sourceIn("user=r host=east"), "east:5432");
    assert.equal(sourceIn("postgres://r:p@east:5433/?application_name=x"), "east:5433");
    assert.equal(sourceIn("postgres://r@east/?host=us&hostaddr=&port=5434"), "us:5434");
    assert.equal(sourceIn("user=r"), null);
  });
});
