/**
 * Link: the triple (epoch, position, hash), which names a position in one history of the log.
 *
 * The hash is that of the event at the position and covers every event before it, so equal links mean equal prefixes. A
 * link proves continuity, not origin; a signature proves that (src/replication/wire/envelope.ts).
 */
import {
  type Epoch,
  type Hash,
  type Incarnation,
  type IncarnationTag,
  noEpoch,
  noPosition,
  type Position,
  parseEpoch,
  parseHash,
  parsePosition,
  tagOf,
} from "./ids.ts";

export type Link = Readonly<{ epoch: Epoch; position: Position; hash: Hash }>;

/**
 * A link that a credential needs. It also names the incarnation of its epoch, which a copy remembers longer than its
 * hashes. Absent: not known.
 */
export type NeededLink = Link & Readonly<{ incarnation?: IncarnationTag }>;

/** The link that the answer to a command names. */
export function neededLink({
  link,
  incarnation,
}: Readonly<{ link: Link; incarnation?: Incarnation | undefined }>): NeededLink {
  return incarnation === undefined ? link : { ...link, incarnation: tagOf(incarnation) };
}

/** The link before the first event. */
export const genesis: Link = {
  epoch: noEpoch,
  position: noPosition,
  hash: "0".repeat(64) as Hash,
};

export function sameLink(a: Link, b: Link): boolean {
  return a.position === b.position && a.hash === b.hash && a.epoch === b.epoch;
}

/** The text form `epoch.position.hash`, for URLs and the command line. */
export function formatLink(link: Link): string {
  return `${link.epoch}.${link.position}.${link.hash}`;
}

/** @throws InvalidIdError if the text is not `epoch.position.hash` */
export function parseLink(text: unknown): Link {
  const [epoch, position, hash, ...rest] = typeof text === "string" ? text.split(".") : [];
  if (rest.length > 0) return { epoch: parseEpoch(Number.NaN), position: parsePosition(0), hash: parseHash(hash) };
  return {
    epoch: parseEpoch(decimal(epoch)),
    position: parsePosition(decimal(position)),
    hash: parseHash(hash),
  };
}

function decimal(text: string | undefined): number {
  return text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
}
