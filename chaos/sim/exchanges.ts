/**
 * Exchanges: the requests of one boot of a simulated node, from the first look to the last byte.
 *
 * It decides as the product's request path does, from the core's projection and lease alone: wait for the place that the credential
 * needs, look, look again before the first byte, look at the lease on every chunk, and look again at what a change has touched.
 * To cut takes a moment, and bytes that have left us pass until it is done.
 */
import {
  type GroupId,
  groupStream,
  type Link,
  type SessionId,
  type Stream,
  sessionStream,
  type UserId,
  userStream,
} from "../../src/events/index.ts";
import type { NodeCore } from "../../src/replication/index.ts";
import type { Asking } from "./cast.ts";
import type { RoutePolicy, SimFactOf } from "./facts.ts";
import type { SimProcess, Timer } from "./process.ts";
import type { Stream as Random } from "./random.ts";
import type { World } from "./world.ts";

export type NodeConfig = Readonly<{ hash: string; deltaMs: number; routes: readonly RoutePolicy[] }>;
type Verdict = SimFactOf<"decided">["verdict"];
type Look = Readonly<{ verdict: Verdict; reason: string; overdueMs: number; user: UserId | null }>;
type Open = {
  readonly asking: Asking;
  readonly facts: readonly Stream[];
  readonly until: number;
  timer: Timer | undefined;
  cutting: boolean;
};

export type ExchangesOptions = Readonly<{
  world: World;
  process: SimProcess;
  /** Who and which boot this is, as every fact of it says. */
  here: () => Readonly<{
    at: number;
    process: string;
    node: SimFactOf<"decided">["node"];
    boot: SimFactOf<"decided">["boot"];
  }>;
  core: () => NodeCore;
  config: () => NodeConfig;
  /** Answered when the projection has reached a link, or not in time. */
  reach: (link: Link, timeoutMs: number, told: (outcome: "reached" | "behind" | "lost") => void) => void;
  random: Random;
}>;

const reachMs = 150;
const exchangesMax = 10_000;

export class Exchanges {
  readonly #options: ExchangesOptions;
  readonly #open = new Map<number, Open>();

  constructor(options: ExchangesOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#open.size;
  }

  request(asking: Asking, decided: (verdict: Verdict) => void): void {
    this.#options.reach(asking.token, reachMs, (outcome) => {
      const look =
        outcome === "reached" ? this.#look(asking.session, asking.route) : notReached(outcome, this.#overdueMs());
      this.#report(asking, look);
      decided(look.verdict);
      if (look.verdict === "permit")
        this.#options.process.after(this.#options.random.within(0.1, 8), () => this.#begin(asking));
    });
  }

  /** A change has been folded in. `done` when everything that it denies is destroyed. */
  changed(touched: readonly (readonly Stream[])[], rebuilt: boolean, done: () => void): void {
    let cutting = 1;
    const settle = (): void => {
      cutting -= 1;
      if (cutting === 0) done();
    };
    const facts = this.#open.size === 0 || rebuilt ? new Set<Stream>() : new Set(touched.flat());
    for (const [request, open] of this.#open) {
      if (!rebuilt && !open.facts.some((fact) => facts.has(fact))) continue;
      const denied = this.#denial(open.asking.session, open.asking.route);
      if (denied === null) continue;
      cutting += 1;
      this.#cut(request, open, denied, settle);
    }
    settle();
  }

  /** An orderly end: what is open is finished. */
  finish(): void {
    for (const request of [...this.#open.keys()]) this.#end(request, "finished", "draining");
  }

  #begin(asking: Asking): void {
    const { world, process, here } = this.#options;
    const { request, route, session, kind } = asking;
    const look = this.#look(session, route);
    if (look.verdict !== "permit" || look.user === null || this.#open.size >= exchangesMax) {
      world.report({ type: "exchange-ended", ...here(), request, how: "cut", reason: look.reason });
      return;
    }
    world.report({ type: "exchange-opened", ...here(), request, route, session, kind });
    const group = this.#route(route)?.group ?? null;
    const facts = [
      sessionStream(session),
      userStream(look.user),
      ...(group === null ? [] : [groupStream(group as GroupId)]),
    ];
    const until = process.clock.monotonic() + asking.forMs;
    const open: Open = { asking, facts, until, timer: undefined, cutting: false };
    this.#open.set(request, open);
    this.#relay(open);
  }

  #relay(open: Open): void {
    const { world, process, here, random } = this.#options;
    const { request, route, session, kind } = open.asking;
    const { verdict } = this.#lease(route);
    if (verdict !== "permit") {
      this.#end(request, "cut", "stale");
      return;
    }
    if (this.#isExpired(session)) {
      this.#end(request, "cut", "expired");
      return;
    }
    world.report({ type: "relayed", ...here(), request });
    const left = open.until - process.clock.monotonic();
    if (left <= 0) {
      this.#end(request, "finished", "");
      return;
    }
    const next = kind === "stream" ? random.within(120, 500) : random.within(1, 20);
    open.timer = process.after(Math.min(left, next), () => this.#relay(open));
  }

  #cut(request: number, open: Open, reason: string, done: () => void): void {
    const { process, random } = this.#options;
    if (random.chance(0.6)) {
      this.#end(request, "cut", reason);
      done();
      return;
    }
    // The close frame is on its way; somebody may have cut it already, or it ends by itself meanwhile.
    open.cutting = true;
    process.after(random.within(1, 50), () => {
      this.#end(request, "cut", reason);
      done();
    });
  }

  #end(request: number, how: "finished" | "cut", reason: string): void {
    const open = this.#open.get(request);
    if (open === undefined) return;
    open.timer?.cancel();
    this.#open.delete(request);
    this.#options.world.report({ type: "exchange-ended", ...this.#options.here(), request, how, reason });
  }

  // --- looks

  #look(session: SessionId, route: string): Look {
    const lease = this.#lease(route);
    if (lease.verdict !== "permit") return { ...lease, user: null };
    const denied = this.#denial(session, route);
    const user = this.#options.core().projection.session(session)?.userId ?? null;
    return denied === null ? { ...lease, user } : { verdict: "deny", reason: denied, overdueMs: lease.overdueMs, user };
  }

  /** Whether the node may decide at all now, by this route's own word. */
  #lease(route: string): Readonly<{ verdict: Verdict; reason: string; overdueMs: number }> {
    const overdueMs = this.#overdueMs();
    const policy = this.#route(route);
    const graceMs = policy?.onStale === "serve" ? policy.staleGraceMs : 0;
    return policy !== undefined && overdueMs <= graceMs
      ? { verdict: "permit", reason: "", overdueMs }
      : { verdict: "unavailable", reason: policy === undefined ? "no-route" : "stale", overdueMs };
  }

  /** Why the session may not use the route, by the projection; null: it may. */
  #denial(session: SessionId, route: string): string | null {
    const core = this.#options.core();
    const { projection } = core;
    const standing = projection.standing(session);
    if (standing.standing !== "active") return standing.standing === "unknown" ? "sign-in" : standing.reason;
    const { userId } = standing.session;
    if (core.stickilyDenied(sessionStream(session)) || core.stickilyDenied(userStream(userId))) return "kept-denied";
    if (this.#isExpired(session)) return "expired";
    const group = this.#route(route)?.group ?? null;
    return group === null || projection.groupsOf(userId).has(group as GroupId) ? null : "no-right";
  }

  #isExpired(session: SessionId): boolean {
    const expiresAt = this.#options.core().projection.session(session)?.expiresAt ?? null;
    return expiresAt !== null && expiresAt <= this.#options.process.clock.wall();
  }

  #overdueMs(): number {
    return this.#options.core().overdueMs(this.#options.process.moment());
  }

  #route(route: string): RoutePolicy | undefined {
    return this.#options.config().routes.find((each) => each.route === route);
  }

  #report({ request, route, session }: Asking, { verdict, reason, overdueMs }: Look): void {
    const { world, here, core, config } = this.#options;
    const place = core().applied;
    const configHash = config().hash;
    world.report({
      type: "decided",
      ...here(),
      request,
      route,
      session,
      verdict,
      reason,
      place,
      configHash,
      overdueMs,
    });
  }
}

function notReached(outcome: "behind" | "lost", overdueMs: number): Look {
  return outcome === "behind"
    ? { verdict: "unavailable", reason: "behind", overdueMs, user: null }
    : { verdict: "deny", reason: "sign-in", overdueMs, user: null };
}
