/**
 * Property: fast-check with a fixed seed, so that a run has the same result every time, on every machine.
 *
 * `SEED=… npm test -- test/…` draws other cases. A failure prints its seed and path. `SEED` with that seed draws the
 * same cases again.
 */
import fc from "fast-check";

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env["SEED"] ?? 5) });

export { fc };
