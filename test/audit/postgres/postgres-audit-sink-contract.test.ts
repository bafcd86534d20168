/** The Postgres sink keeps the sink contract. */
import { after, before } from "node:test";
import { parseLine } from "../../../src/audit/index.ts";
import { startPostgres } from "../../support/postgres.ts";
import type { PostgresServer } from "../../support/service.ts";
import { checkSink } from "../sink-contract.ts";
import { newAuditDatabase } from "./audit-database.ts";

let server: PostgresServer;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

checkSink("Postgres", async () => {
  const database = await newAuditDatabase(server);
  return {
    open: async () => database.sink(),
    records: async () => (await database.lines()).flatMap((line) => parseLine(line) ?? []),
    breakDown: () => server.kill(),
    repair: () => server.start(),
  };
});
