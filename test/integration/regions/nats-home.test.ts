/**
 * NATS when the home region moves: three regions, each a leaf of the ones before it. The replay buffer is made in the
 * domain of the new home, the mirrors of the others follow it, and streams of former parts are removed.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import {
  connectNatsFanout,
  type Fanout,
  findReplayBuffer,
  mirrorName,
  originName,
} from "../../../src/replication/fanout/index.ts";
import { freePorts } from "../../support/free-port.ts";
import { findNatsServer, startNats } from "../../support/nats.ts";
import type { NatsCluster } from "../../support/service.ts";
import { waitFor } from "../../support/wait-for.ts";
import { leafConfig, type RegionName, regionNames } from "./leaf-chain.ts";

const skip = findNatsServer() === undefined ? "leaf nodes need the local nats-server" : false;
const cluster = `test-${randomBytes(4).toString("hex")}`;
const servers = new Map<RegionName, NatsCluster>();
const fanouts = new Map<RegionName, Fanout>();
let home: RegionName = "east";

const natsOf = (region: RegionName): NatsCluster => servers.get(region) ?? assert.fail();

before(
  async () => {
    if (skip !== false) return;
    const ports = await freePorts(regionNames.length);
    for (const region of regionNames)
      servers.set(region, await startNats({ name: region, domain: region, config: leafConfig(region, ports) }));
    for (const region of regionNames) await play(region);
  },
  { timeout: 120_000 },
);
after(async () => {
  for (const fanout of fanouts.values()) await fanout.close();
  for (const server of servers.values()) await server.stop();
});

/** The part of a region's broker: it keeps the replay buffer at home, and a mirror elsewhere. */
async function play(region: RegionName): Promise<void> {
  await fanouts.get(region)?.close();
  const isHome = region === home;
  const fanout = connectNatsFanout({
    ...{ servers: natsOf(region).urls, cluster, name: region, secrets: [randomBytes(32)], keepReplayBuffer: true },
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    randomBytes: (size) => randomBytes(size),
    ...(isHome ? {} : { mirror: { region, homeDomain: () => home, placementCluster: null } }),
    retiredStreams: () => [isHome ? mirrorName(originName(cluster), region) : originName(cluster)],
  });
  fanouts.set(region, fanout);
}

const seenFrom = async (region: RegionName, domain: RegionName) =>
  (await findReplayBuffer({ servers: natsOf(region).urls, cluster }, domain)).type;
const mirrors = (region: RegionName) =>
  waitFor(`the mirror of ${region} to follow ${home}`, () => fanouts.get(region)?.status().mirrorLag === 0, {
    withinMs: 60_000,
  });

test("every region mirrors the home region, also over another leaf", { skip, timeout: 180_000 }, async () => {
  for (const region of regionNames)
    await waitFor(`${region} to see the replay buffer`, async () => (await seenFrom(region, "east")) === "there", {
      withinMs: 60_000,
    });
  for (const region of ["us", "ap"] as const) await mirrors(region);
});

test("the replay buffer moves with the home region, and the mirrors follow", { skip, timeout: 180_000 }, async () => {
  home = "us";
  await play("us");
  await play("east");
  for (const region of regionNames)
    await waitFor(`${region} to see the replay buffer`, async () => (await seenFrom(region, "us")) === "there", {
      withinMs: 60_000,
    });
  for (const region of ["east", "ap"] as const) await mirrors(region);
  await waitFor("the former one to be removed", async () => (await seenFrom("east", "east")) === "absent", {
    withinMs: 60_000,
  });
});

test("when the first region is lost, the next is the hub, and the last still mirrors the home region", {
  skip,
  timeout: 180_000,
}, async () => {
  await natsOf("east").kill();
  await waitFor("the ap to see the replay buffer of the us", async () => (await seenFrom("ap", "us")) === "there", {
    withinMs: 60_000,
  });
  await mirrors("ap");
  await natsOf("east").start();
  await mirrors("east");
});
