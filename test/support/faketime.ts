/** libfaketime: a library that, loaded before others, gives a process clocks of a test's own making. */
import { existsSync } from "node:fs";

/** @returns its path, in the form for programs with threads */
export function findFaketime(): string | undefined {
  return ["x86_64-linux-gnu", "aarch64-linux-gnu"]
    .map((machine) => `/usr/lib/${machine}/faketime/libfaketimeMT.so.1`)
    .find((path) => existsSync(path));
}
