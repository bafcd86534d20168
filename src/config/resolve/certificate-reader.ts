/**
 * Certificate reader: the library that parses revocation lists, loaded at first use.
 *
 * It is one of the largest dependencies, and few configurations have such a list. It is loaded while the configuration
 * is read, so a missing library is reported then.
 */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function certificateReader(): typeof import("@peculiar/x509") {
  return require("@peculiar/x509");
}
