/**
 * List cursor: the place after which a list continues, as text. It is encrypted, because the place in a list of people
 * is a name, and cursors appear in addresses and logs. Pure.
 */
import { createCipheriv, createDecipheriv, hash } from "node:crypto";
import * as z from "zod";
import { deriveKey } from "../../../replication/wire/index.ts";

const placeSchema = z.tuple([z.string(), z.union([z.number(), z.string()]), z.string()]);
const nonceBytes = 12;
const tagBytes = 16;

export type CursorPlace = Readonly<{ key: number | string; id: string }>;
export type ListCursors = Readonly<{
  /** @param list the list with its order and filters: the cursor continues no other list */
  write(list: string, place: CursorPlace): string;
  /** Undefined: it is no cursor of this list. */
  read(list: string, cursor: string): CursorPlace | undefined;
}>;

/** @param secrets the shared secret, then the previous one while it is being replaced */
export function createListCursors(secrets: readonly Uint8Array[], random: (bytes: number) => Uint8Array): ListCursors {
  const keys = secrets.map((secret) => deriveKey(secret, "list cursors"));
  const [current] = keys;
  if (current === undefined) throw new TypeError("list cursors need a secret");
  return {
    write(list, { key, id }) {
      const nonce = random(nonceBytes);
      const cipher = createCipheriv("aes-256-gcm", current, nonce);
      const text = JSON.stringify([digestOf(list), key, id]);
      const sealed = Buffer.concat([nonce, cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]);
      return sealed.toString("base64url");
    },
    read(list, cursor) {
      for (const key of keys) {
        const place = placeSchema.safeParse(opened(key, Buffer.from(cursor, "base64url")));
        if (place.success && place.data[0] === digestOf(list)) return { key: place.data[1], id: place.data[2] };
      }
      return undefined;
    },
  };
}

const digestOf = (list: string): string => hash("sha256", list, "base64url").slice(0, 16);

function opened(key: Uint8Array, sealed: Buffer): unknown {
  if (sealed.length < nonceBytes + tagBytes) return undefined;
  try {
    const cipher = createDecipheriv("aes-256-gcm", key, sealed.subarray(0, nonceBytes), { authTagLength: tagBytes });
    cipher.setAuthTag(sealed.subarray(-tagBytes));
    const text = Buffer.concat([cipher.update(sealed.subarray(nonceBytes, -tagBytes)), cipher.final()]);
    return JSON.parse(text.toString("utf8"));
  } catch {
    return undefined; // of another key, or altered
  }
}
