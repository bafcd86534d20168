/**
 * Postgres driver: loaded when the first server is asked, since only a broker whose log is in Postgres has need of it.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function postgresDriver(): typeof import("pg") {
  return require("pg");
}
