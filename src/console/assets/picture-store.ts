/**
 * Picture store: the logos that the configuration names, fetched by this node and served from its own hosts.
 *
 * - Browsers ask no other host for them, so no host learns who opens which application.
 * - A picture is fetched on its first request, and again after a day; at most `fetchesMax` at a time. After a failure
 *   the next attempt is a minute later; until then the page shows initials.
 * - Bounded: `bytesMax` in all, `pictureBytesMax` each. The least recently requested pictures leave first.
 * - Only configured URLs are fetched. A redirect is not followed: it could lead to another host of the network.
 */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { assetPrefix } from "../pages/layout.ts";

export type Picture = Readonly<{ type: string; body: Buffer }>;

/** @throws if there is no such picture */
export type FetchPicture = (url: string) => Promise<Picture>;

export type PictureStore = Readonly<{
  /** Where this node serves the picture of a URL; `data:` as it is; null: no picture. */
  pathOf: (url: string) => string | null;
  /** @param id the part of the path after `picture.`; undefined: not configured, or not to be had now */
  find: (id: string) => Promise<Picture | undefined>;
}>;

export const pictureBytesMax = 256 * 1_024;
const bytesMax = 16 * 1_024 * 1_024;
const picturesMax = 10_000;
const keptMs = 24 * 3_600_000;
const failedMs = 60_000;
const fetchesMax = 8;

export function createPictureStore(
  urls: Iterable<string>,
  parts: Readonly<{
    fetchPicture: FetchPicture;
    /** Monotonic milliseconds. */
    now: () => number;
    onFailed: (url: string, error: unknown) => void;
  }>,
): PictureStore {
  const byId = new Map<string, string>();
  for (const url of urls) if (/^https?:/i.test(url)) byId.set(idOf(url), url);
  const kept = new LRUCache<string, Picture & Readonly<{ at: number }>>({
    maxSize: bytesMax,
    // At least an equal share bounds the number too: with `max` the whole table would be allocated now.
    sizeCalculation: ({ body }) => Math.max(body.length + 200, Math.ceil(bytesMax / picturesMax)),
  });
  const failedAt = new Map<string, number>();
  const running = new Map<string, Promise<Picture | undefined>>();

  const load = async (id: string, url: string): Promise<Picture | undefined> => {
    try {
      const picture = await parts.fetchPicture(url);
      kept.set(id, { ...picture, at: parts.now() });
      failedAt.delete(id);
      return picture;
    } catch (error) {
      failedAt.set(id, parts.now()); // at most one per configured URL
      parts.onFailed(url, error);
      return kept.get(id);
    } finally {
      running.delete(id);
    }
  };

  return {
    pathOf(url) {
      if (url === "") return null;
      if (!/^https?:/i.test(url)) return url;
      return `${assetPrefix}picture.${idOf(url)}`;
    },
    async find(id) {
      const url = byId.get(id);
      if (url === undefined) return undefined;
      const known = kept.get(id);
      if (known !== undefined && parts.now() - known.at < keptMs) return known;
      const already = running.get(id);
      if (already !== undefined) return already;
      const failed = failedAt.get(id);
      if (failed !== undefined && parts.now() - failed < failedMs) return known;
      if (running.size >= fetchesMax) return known;
      const loading = load(id, url);
      running.set(id, loading);
      return loading;
    },
  };
}

function idOf(url: string): string {
  return hash("sha256", url, "base64url").slice(0, 22);
}
