/** Tests that run on services in containers; they need a Docker engine. */
import { describe, test } from "node:test";
import { describePostgresEventLog } from "../../contract/postgres-event-log.ts";
import { startNatsContainers, startPostgresContainer, whyNoEngine } from "../../support/containers.ts";
import { describeNatsFanout } from "../nats-fanout.ts";
import { describeServices } from "../service-suite.ts";

const reason = await whyNoEngine();
if (reason === undefined) {
  describeServices("services in containers", { startPostgres: startPostgresContainer, startNats: startNatsContainers });
  describePostgresEventLog("the log on Postgres in a container", startPostgresContainer);
  describeNatsFanout("the fan-out on NATS in containers", startNatsContainers);
} else if (process.env["CI_CONTAINERS"] === "1") {
  test("CI_CONTAINERS=1 promises a Docker engine", () => {
    throw new Error(`no Docker engine answers: ${reason}`);
  });
} else {
  describe("services in containers", { skip: `no Docker engine answers: ${reason}` }, () => {});
}
