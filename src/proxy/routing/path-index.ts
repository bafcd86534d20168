/**
 * Path index: finds a route of one host by its path, at a cost that grows with the path and not with the number of
 * routes.
 *
 * Pure. A radix tree over the literal text that all paths of a route begin with: a whole prefix or path, or a regular
 * expression up to its first non-literal. Of several candidates the lowest rank wins, which is configuration order.
 */
import type { RouteConfig } from "../../config/index.ts";

export type Candidate = Readonly<{
  route: RouteConfig;
  /** The lowest rank wins. */
  rank: number;
  /** The literal text that every matching path begins with. */
  begins: string;
  matches: (path: string) => boolean;
}>;

type Node = { text: string; children: Map<number, Node>; candidates: Candidate[] };

export class PathIndex {
  readonly #root: Node = { text: "", children: new Map(), candidates: [] };
  readonly #firsts = new Map<string, Candidate>();

  /** The candidate of lowest rank for each scheme and port. */
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

  /** @returns the fitting candidate of lowest rank; undefined: none has a rank under `below` */
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
