/**
 * Document source: a directory that is one document, read whole and paged from memory.
 *
 * A delta is offered only in its simplest form: the document has not changed. A change needs a full run.
 */
import { DirectoryError } from "../../directory-error.ts";
import { type DirectorySource, emptyPage } from "../../source.ts";
import { type Document, documentPage } from "./document.ts";

export const pageSize = 4_000;

/** The document, and a text that differs for each content; null: it still has the version that was named. */
export type Loaded = Readonly<{ version: string; parse: () => Promise<Document> }> | null;

export function createDocumentSource(
  parts: Readonly<{
    /** @throws DirectoryError */
    load: (unless: string | null, signal: AbortSignal) => Promise<Loaded>;
    watch?: (onChange: () => void) => () => void;
    close?: () => Promise<void>;
    /** Entries of a page; default `pageSize`. */
    size?: number;
  }>,
): DirectorySource {
  const size = parts.size ?? pageSize;
  /** The document of the present run. `isNew`: a delta has just loaded it. */
  let held: Readonly<{ version: string; document: Document; isNew: boolean }> | null = null;

  async function loadNew(unless: string | null, signal: AbortSignal): Promise<"same" | "loaded"> {
    signal.throwIfAborted();
    const loaded = await parts.load(unless, signal);
    if (loaded === null || loaded.version === unless) return "same";
    held = { version: loaded.version, document: await loaded.parse(), isNew: true };
    return "loaded";
  }

  return {
    async read({ since, cursor, signal }) {
      if (since !== null) {
        if ((await loadNew(since, signal)) === "same") return { ...emptyPage, delta: since };
        throw new DirectoryError("the document has changed; it is read whole", { kind: "deltaExpired" });
      }
      signal.throwIfAborted();
      const [number, version] = cursor === null ? [0, null] : parseCursor(cursor);
      const isHeld = held !== null && (version === null ? held.isNew : held.version === version);
      if (!isHeld) await loadNew(null, signal);
      if (held === null || (version !== null && held.version !== version))
        throw new DirectoryError("the document has changed during the run; it is read again", { kind: "deltaExpired" });
      held = { ...held, isNew: false };
      const { page, isLast } = documentPage(held.document, { number, size });
      if (!isLast) return { ...page, next: `${number + 1} ${held.version}` };
      const { version: delta } = held;
      held = null;
      return { ...page, delta };
    },
    ...(parts.watch === undefined ? {} : { watch: parts.watch }),
    async close() {
      held = null;
      await parts.close?.();
    },
  };
}

function parseCursor(cursor: string): readonly [number: number, version: string] {
  const found = /^(\d{1,9}) (.{1,1000})$/.exec(cursor);
  if (found === null) throw new DirectoryError("the cursor is of another version", { kind: "deltaExpired" });
  return [Number(found[1]), found[2] ?? ""];
}
