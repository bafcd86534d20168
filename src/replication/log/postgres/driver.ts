/**
 * Postgres driver: loaded at the first connection, because only a broker with its log in Postgres needs it.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function postgresDriver(): typeof import("pg") {
  return require("pg");
}
