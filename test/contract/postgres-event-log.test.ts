import { startPostgres } from "../support/postgres.ts";
import { describePostgresEventLog } from "./postgres-event-log.ts";

describePostgresEventLog("Postgres", startPostgres);
