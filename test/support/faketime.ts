/** libfaketime: a preloaded library that gives a process clocks that a test controls. */
import { existsSync } from "node:fs";

/** @returns the path of the library variant for programs with threads */
export function findFaketime(): string | undefined {
  return ["x86_64-linux-gnu", "aarch64-linux-gnu"]
    .map((machine) => `/usr/lib/${machine}/faketime/libfaketimeMT.so.1`)
    .find((path) => existsSync(path));
}
