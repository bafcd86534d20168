/**
 * Entry point of the runtime: the system's clock and name lookup, jitter, and Fastify without its schema compilers.
 *
 * `Clock` and `Logger`, which every package takes, are in the package's own entry point.
 */

export { momentOf } from "./clock.ts";
export { withoutJsonSchemas } from "./fastify-without-schemas.ts";
export { upTo } from "./jitter.ts";
export { systemClock } from "./system-clock.ts";
export { createSystemLookup } from "./system-lookup.ts";
