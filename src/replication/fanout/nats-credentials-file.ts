/**
 * NATS credentials file: credentials that are read again at every connection, so that renewing them in place needs no
 * restart. While the file is absent or half written, the previous credentials are used.
 */
import { readKeyFile } from "../../config/index.ts";

const isWhole = /-----BEGIN NATS USER JWT-----.+-----BEGIN USER NKEY SEED-----.+-----END USER NKEY SEED-----/s;

/** @throws when the file cannot be read now, or is not a regular file */
export function credentialsIn(file: string): () => Uint8Array {
  const first = readKeyFile(file);
  if (!first.ok) throw new Error(`the NATS credentials file ${file} cannot be read: ${first.reason}`);
  let newest: Uint8Array = Buffer.from(first.text);
  return () => {
    const read = readKeyFile(file); // it is unreadable, or half written, while it is replaced
    if (read.ok && isWhole.test(read.text)) newest = Buffer.from(read.text);
    return newest;
  };
}
