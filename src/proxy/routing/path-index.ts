/**
 * Path index: the routes of one host by their paths, so that finding one costs by the length of the path and not by the number of
 * routes.
 *
 * Pure. A radix tree over the text that every path of a route begins with: a prefix or a path as a whole, a regular expression
 * up to where it stops being literal. Of all that fit, the lowest rank wins, which is the order of the configuration.
 */
import type { RouteConfig } from "../../config/index.ts";

export type Candidate = Readonly<{
  route: RouteConfig;
  /** Lower is asked first. */
  rank: number;
  /** What every path that `matches` begins with. */
  begins: string;
  matches: (path: string) => boolean;
}>;

type Node = { text: string; children: Map<number, Node>; candidates: Candidate[] };

export class PathIndex {
  readonly #root: Node = { text: "", children: new Map(), candidates: [] };
  readonly #firsts = new Map<string, Candidate>();

  /** Of all scheme and port that there are, the candidate of lowest rank: a few, however many routes a host has. */
  get firsts(): Iterable<Candidate> {
    return this.#firsts.values();
  }

  add(candidate: Candidate): void {
    const { from, port } = candidate.route;
    const entrance = `${from.protocol}${port}`;
    const first = this.#firsts.get(entrance);
    if (first === undefined || candidate.rank < first.rank) this.#firsts.set(entrance, candidate);
    const { candidates } = this.#nodeOf(candidate.begins);
    const at = candidates.findIndex(({ rank }) => rank > candidate.rank);
    candidates.splice(at < 0 ? candidates.length : at, 0, candidate);
  }

  /** @returns the candidate of lowest rank that fits; undefined when none of a rank below `below` does */
  find(path: string, fits: (route: RouteConfig) => boolean, below = Infinity): Candidate | undefined {
    let best: Candidate | undefined;
    let limit = below;
    let node: Node | undefined = this.#root;
    for (let at = 0; node !== undefined; ) {
      for (const candidate of node.candidates) {
        if (candidate.rank >= limit) break;
        if (!fits(candidate.route) || !candidate.matches(path)) continue;
        best = candidate;
        limit = candidate.rank;
        break;
      }
      const next: Node | undefined = node.children.get(path.charCodeAt(at));
      if (next === undefined || !path.startsWith(next.text, at)) break;
      at += next.text.length;
      node = next;
    }
    return best;
  }

  #nodeOf(text: string): Node {
    let node = this.#root;
    let rest = text;
    while (rest !== "") {
      const next = node.children.get(rest.charCodeAt(0));
      if (next === undefined) {
        const leaf: Node = { text: rest, children: new Map(), candidates: [] };
        node.children.set(rest.charCodeAt(0), leaf);
        return leaf;
      }
      const shared = sharedLength(next.text, rest);
      if (shared < next.text.length) {
        const upper: Node = { text: next.text.slice(0, shared), children: new Map(), candidates: [] };
        next.text = next.text.slice(shared);
        upper.children.set(next.text.charCodeAt(0), next);
        node.children.set(rest.charCodeAt(0), upper);
        node = upper;
      } else node = next;
      rest = rest.slice(shared);
    }
    return node;
  }
}

function sharedLength(a: string, b: string): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}
