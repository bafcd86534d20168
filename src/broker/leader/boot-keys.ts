/**
 * Boot keys: the first key that used a boot id which commits to none.
 *
 * Builds before key-bound boot ids (replication's node-key.ts) drew boot ids at random. For them a broker remembers the
 * first key that speaks for a (node, boot), over all epochs that it leads, and refuses every other one. A boot id that
 * commits to a key needs no memory: the envelope opener has checked it. Pure, and bounded: the oldest pin goes first.
 */
import { commitsToKey } from "../../replication/wire/index.ts";
import type { NodeSender } from "../core/messages.ts";

const pinsMax = 40_000;

export class BootKeys {
  readonly #pins = new Map<string, string>();

  get size(): number {
    return this.#pins.size;
  }

  /** @returns false: another key has spoken for this boot */
  admit({ name, boot, publicKey }: NodeSender): boolean {
    if (commitsToKey(boot)) return true;
    const key = Buffer.from(publicKey).toString("base64");
    const bootKey = JSON.stringify([name, boot]);
    const pinned = this.#pins.get(bootKey);
    if (pinned !== undefined) return pinned === key;
    this.#pins.set(bootKey, key);
    if (this.#pins.size > pinsMax) this.#pins.delete(this.#pins.keys().next().value ?? "");
    return true;
  }
}
