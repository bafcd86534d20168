/**
 * NATS credentials in a file, read again at every connection: whoever renews them in place, as those that expire have to be, needs no
 * restart. While the file is gone or half written, those of before are shown.
 */
import { readFileSync } from "node:fs";

const isWhole = /-----BEGIN NATS USER JWT-----.+-----BEGIN USER NKEY SEED-----.+-----END USER NKEY SEED-----/s;

/** @throws the system's error when the file cannot be read now */
export function credentialsIn(file: string): () => Uint8Array {
  let newest: Uint8Array = readFileSync(file);
  return () => {
    try {
      const read = readFileSync(file);
      if (isWhole.test(read.toString("latin1"))) newest = read;
    } catch {
      // It is being replaced.
    }
    return newest;
  };
}
