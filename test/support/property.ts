/**
 * Property: fast-check with a fixed seed, so that a run says the same today and tomorrow, on every machine.
 *
 * `SEED=… npm test -- test/…` draws other cases. A failure prints its seed and its path; `SEED` with that seed draws
 * the same ones again.
 */
import fc from "fast-check";

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(process.env["SEED"] ?? 5) });

export { fc };
