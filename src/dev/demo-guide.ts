/**
 * Demo guide: the first minute with `cardea dev`, as steps that tick themselves off.
 *
 * - Pure. What it knows is what the demo app has seen: which steps were opened, and the clocks of the guided person.
 * - It remembers two times and a counter, whatever happens.
 */
import type { UnixMs } from "../events/index.ts";

/** Where the steps lead. */
export const guideTargets = ["app", "console", "portal", "refused"] as const;
export type GuideTarget = (typeof guideTargets)[number];

export type DemoGuideOptions = Readonly<{
  /** The host name of the start page: `start.localhost`. */
  host: string;
  /** The email of the person whose session is revoked. */
  email: string;
  /** The address behind a step, which signs the right person in; it is short-lived, so each click asks for one. */
  urlOf: (target: GuideTarget) => URL;
  /** The same as the last step, in a shell. */
  command: string;
}>;

export type GuideProgress = Readonly<{
  /** Clocks of the person that run now. */
  running: number;
  /** When one of them was cut, and not closed by its browser; null: none was, since the last one began. */
  cutAt: UnixMs | null;
  consoleOpened: boolean;
}>;

/** What a browser sends when its page is closed or left (RFC 6455 §7.4.1). */
const closedByVisitor: ReadonlySet<number> = new Set([1000, 1001, 1005]);

export class GuideTracker {
  #running = 0;
  #cutAt: UnixMs | null = null;
  #consoleOpened = false;
  readonly #email: string;

  constructor(email: string) {
    this.#email = email;
  }

  opened(target: GuideTarget): void {
    if (target === "app") this.#consoleOpened = false; // the guide begins again
    if (target === "console") this.#consoleOpened = true;
  }

  /** @returns what to call when the clock has ended, with its close code */
  clockStarted(user: unknown, now: () => UnixMs): (code: number) => void {
    if (user !== this.#email) return () => {};
    this.#running += 1;
    this.#cutAt = null;
    return (code) => {
      this.#running -= 1;
      if (!closedByVisitor.has(code)) this.#cutAt = now();
    };
  }

  progress(): GuideProgress {
    return { running: this.#running, cutAt: this.#cutAt, consoleOpened: this.#consoleOpened };
  }
}
