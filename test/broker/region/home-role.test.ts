/** Home role: whether a broker contends for the lead or serves its region, by what it sees of the Postgres servers. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  chooseRole,
  formerLeader,
  type HomeEvidence,
  type HomeRole,
  isUnsettled,
  mustAskElsewhere,
} from "../../../src/broker/region/home-role.ts";
import { type Epoch, genesis, type Incarnation } from "../../../src/events/index.ts";
import type { ServerHead } from "../../../src/replication/log/index.ts";

type Parts = Partial<Omit<ServerHead, "log">> & Readonly<{ epoch?: number | null }>;

function server(host: string, { epoch = 1, ...parts }: Parts = {}): ServerHead {
  const log =
    epoch === null
      ? null
      : {
          ...{ cluster: "test", epoch: epoch as Epoch, incarnation: null, brokerId: null, brokerUrl: null, beat: 1 },
          ...{ head: genesis, durable: { ...genesis, epoch: epoch as Epoch }, durability: "asynchronous" as const },
        };
  return { host, name: host, role: "primary", writes: "accepted", system: "1", timeline: 1, log, ...parts };
}

function evidence(servers: readonly ServerHead[], parts: Partial<HomeEvidence> = {}): HomeEvidence {
  const newest = servers.find(({ log }) => log !== null) ?? null;
  return {
    ...{ servers, newest, unread: [], fenced: [], rivals: [], doubt: null, elsewhere: null },
    own: new Set(["own"]),
    ...parts,
  };
}

const roles: readonly (HomeRole | null)[] = ["home", "region", null];

describe("a broker contends for the lead", () => {
  test("while the newest primary is in its region and accepts writes", () => {
    for (const current of roles) assert.equal(chooseRole(current, evidence([server("own")])).role, "home");
  });
  test("where no log exists yet and the only primary is in its region", () => {
    const seen = evidence([server("own", { epoch: null }), server("far", { epoch: null, role: "standby" })]);
    assert.equal(chooseRole(null, seen).role, "home");
  });
});

describe("a broker serves its region", () => {
  test("while the newest proven epoch is in another region, on a primary or on a standby of a primary that is away", () => {
    for (const role of ["primary", "standby"] as const)
      for (const current of roles)
        assert.equal(chooseRole(current, evidence([server("far", { epoch: 2, role }), server("own")])).role, "region");
  });
  test("while the brokers of another region report a later epoch: what it sees is an old primary", () => {
    const seen = evidence([server("own")], { doubt: "far did not answer", elsewhere: 2 as Epoch });
    for (const current of roles) assert.equal(chooseRole(current, seen).role, "region");
    assert.equal(chooseRole("home", { ...seen, elsewhere: 1 as Epoch }).role, "home");
  });
  test("after its start, while no server answers or no log can be created safely", () => {
    assert.equal(chooseRole(null, evidence([])).role, "region");
    const empty = server("own", { epoch: null });
    assert.equal(chooseRole(null, evidence([empty], { unread: [{ host: "far", problem: "silent" }] })).role, "region");
    assert.equal(chooseRole(null, evidence([empty, server("far", { epoch: null })])).role, "region");
  });
});

describe("a broker keeps its part", () => {
  for (const [why, seen] of [
    ["while no server answers", evidence([])],
    ["while the primary of its region is away and its standby answers", evidence([server("own", { role: "standby" })])],
    [
      "while the primary of its region refuses writes, as during a move",
      evidence([server("own", { writes: "refused" })]),
    ],
  ] as const)
    test(why, () => {
      assert.equal(chooseRole("home", seen).role, "home");
      assert.equal(chooseRole("region", seen).role, "region");
    });
});

test("other regions are asked only where what is seen may be an old primary", () => {
  assert.equal(mustAskElsewhere(evidence([server("own")])), false);
  assert.equal(mustAskElsewhere(evidence([])), true);
  assert.equal(mustAskElsewhere(evidence([server("own")], { doubt: "far did not answer" })), true);
});

test("the servers are read more often while the home region seems to move", () => {
  assert.equal(isUnsettled(evidence([server("own"), server("far", { role: "standby" })])), false);
  assert.equal(isUnsettled(evidence([server("own", { writes: "refused" })])), true);
  assert.equal(isUnsettled(evidence([server("own"), server("far")])), true);
  assert.equal(isUnsettled(evidence([server("own", { role: "standby" })])), true);
  assert.equal(isUnsettled(evidence([])), true);
});

describe("the leader of the former home region is not waited for", () => {
  const led = (host: string, brokerUrl: string | null, parts: Parts = {}): ServerHead => {
    const made = server(host, parts);
    return made.log === null ? made : { ...made, log: { ...made.log, brokerUrl, incarnation: "i" as Incarnation } };
  };
  const ownUrls = new Set(["https://broker.own/"]);
  test("when the newest primary is in this region and names a broker of another one", () => {
    assert.equal(formerLeader(evidence([led("own", "https://broker.far/")]), ownUrls), "i");
  });
  test("but a broker of this region, an unnamed one, and the leader at a primary elsewhere are", () => {
    for (const newest of [
      led("own", "https://broker.own/"),
      led("own", null),
      led("far", "https://broker.far/"),
      led("own", "https://broker.far/", { role: "standby" }),
      server("own", { epoch: null }),
    ])
      assert.equal(formerLeader(evidence([newest]), ownUrls), null);
  });
});
