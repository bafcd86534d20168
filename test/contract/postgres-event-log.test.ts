/** The contract of an EventLog, for the Postgres log on local binaries. */
import { startPostgres } from "../support/postgres.ts";
import { describePostgresEventLog } from "./postgres-event-log.ts";

describePostgresEventLog("Postgres", startPostgres);
