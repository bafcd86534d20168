/**
 * Certificate reader: the library that reads revocation lists, loaded when there is the first to be read. Few configurations have one,
 * and it is among the largest that we use. It is read when the configuration is, so that what is missing is told then.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function certificateReader(): typeof import("@peculiar/x509") {
  return require("@peculiar/x509");
}
