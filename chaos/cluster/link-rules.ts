/**
 * Link rules: which links of the network are broken, and how. Pure.
 *
 * - A link leads from the process that dials (`near`) to a server (`far`). Each side has tags: names, kinds, regions.
 * - A rule breaks all links between two sets of tags, in whichever direction they are dialled. Rules overlap: a link is
 *   whole only when no rule that matches it is in force.
 */
import type { Fact } from "../../src/events/index.ts";

export type Link = Readonly<{
  port: number;
  to: number;
  near: readonly string[];
  far: readonly string[];
  /** Delay (ms) of every byte in each direction. */
  delayMs: number;
}>;

/**
 * - `cut`: no byte passes.
 * - `one-way`: bytes from a to b pass, and no byte from b to a.
 * - `slow`: every byte is late by `ms` more.
 * - `trickle`: each direction carries a few bytes at a time.
 * - `half-open`: connections that are open now carry nothing ever again, without notice. New ones work.
 */
export type Effect = Fact<"cut" | "one-way" | "trickle" | "half-open", object> | Fact<"slow", { ms: number }>;

/** Between all links of which one side has every tag of `a` and the other side every tag of `b`. */
export type Rule = Readonly<{ a: readonly string[]; b: readonly string[]; effect: Effect }>;

export type LaneState = Readonly<{ open: boolean; lateMs: number; trickles: boolean }>;
/** `out`: from the side that dials. */
export type LinkState = Readonly<{ out: LaneState; back: LaneState }>;

/** How a rule lies on a link. */
export function directionOf({ a, b }: Rule, { near, far }: Link): "forward" | "backward" | null {
  const has = (tags: readonly string[], all: readonly string[]): boolean => all.every((tag) => tags.includes(tag));
  if (has(near, a) && has(far, b)) return "forward";
  return has(near, b) && has(far, a) ? "backward" : null;
}

export function stateOf(link: Link, rules: readonly Rule[]): LinkState {
  let [outOpen, backOpen, lateMs, trickles] = [true, true, link.delayMs, false];
  for (const rule of rules) {
    const direction = directionOf(rule, link);
    const { effect } = rule;
    if (direction === null) continue;
    if (effect.type === "slow") lateMs += effect.ms;
    if (effect.type === "trickle") trickles = true;
    if (effect.type === "cut" || (effect.type === "one-way" && direction === "backward")) outOpen = false;
    if (effect.type === "cut" || (effect.type === "one-way" && direction === "forward")) backOpen = false;
  }
  return { out: { open: outOpen, lateMs, trickles }, back: { open: backOpen, lateMs, trickles } };
}
