/**
 * Exchanges: the requests of one boot of a simulated node, from the first check to the last byte, decided by the
 * product's own code.
 *
 * - The registry of open exchanges (`src/proxy/enforce/exchanges.ts`), admission (`src/proxy/request/admission.ts`),
 *   policy and the lookup of callers are the product's.
 * - This file is their shell: it waits for the position that a credential needs, checks before each byte, and performs
 *   cuts, which take up to 50 ms.
 * - For the monitors, an exchange is open until its cut is done.
 */
import {
  CallerCache,
  createIdleGate,
  decide,
  resolveCaller,
  SessionActivity,
  type SessionHandle,
} from "../../src/auth/index.ts";
import type { Link, NeededLink, Stream } from "../../src/events/index.ts";
import {
  type CutReason,
  type Exchange,
  Exchanges as Registry,
  type Settled,
} from "../../src/proxy/enforce/exchanges.ts";
import { canonicaliseRequest } from "../../src/proxy/message/canonical-request.ts";
import type { PendingCut } from "../../src/proxy/message/deliveries.ts";
import { type Admission, createAdmission } from "../../src/proxy/request/admission.ts";
import { createAuthorizer } from "../../src/proxy/request/authorize.ts";
import {
  type CredentialHolder,
  createCallerIdentifier,
  ReachedHandles,
} from "../../src/proxy/request/identify-caller.ts";
import type { AdmissionContext, Routed } from "../../src/proxy/request/request-context.ts";
import type { NodeCore, PersonKeys } from "../../src/replication/node/index.ts";
import type { IncomingRequest } from "./actors.ts";
import type { SimFactOf } from "./facts.ts";
import { type CompiledFile, hostOf, type NodeConfig } from "./node-file.ts";
import type { SimProcess, Timer } from "./process.ts";
import type { Stream as Random } from "./random.ts";
import type { World } from "./world.ts";

type Verdict = SimFactOf<"decided">["verdict"];
type CheckResult = Readonly<{ verdict: Verdict; reason: string; exchange?: Exchange }>;
type Open = {
  readonly incoming: IncomingRequest;
  readonly exchange: Exchange;
  readonly until: number;
  timer: Timer | undefined;
};

export type ExchangesOptions = Readonly<{
  world: World;
  process: SimProcess;
  /** Node and boot for every fact that this file reports. */
  here: () => Readonly<{
    at: number;
    process: string;
    node: SimFactOf<"decided">["node"];
    boot: SimFactOf<"decided">["boot"];
  }>;
  core: () => NodeCore;
  keys: PersonKeys;
  config: NodeConfig;
  file: CompiledFile;
  /** Calls `told` once the projection reaches the link, or when `timeoutMs` has passed. */
  reach: (link: NeededLink, timeoutMs: number, reached: (outcome: "reached" | "behind" | "lost") => void) => void;
  random: Random;
}>;

const reachMs = 150;
const exchangesMax = 10_000;
const sweepEveryMs = 250;
/** Longest duration (ms) of a cut in the model. */
const cutMsMax = 50;

export class Exchanges {
  readonly #options: ExchangesOptions;
  readonly #registry: Registry;
  readonly #open = new Map<number, Open>();
  readonly #cache = new CallerCache();
  #config: NodeConfig;
  #inForce: Admission<AdmissionContext>;
  #file: CompiledFile;

  constructor(options: ExchangesOptions) {
    const { process, core } = options;
    this.#options = options;
    this.#config = options.config;
    this.#file = options.file;
    this.#registry = new Registry({
      clock: process.clock,
      freshness: { overdueMs: (monotonic, wall = process.clock.wall()) => core().overdueMs({ monotonic, wall }) },
      onCut: () => {},
      onRedecisionFailed(error) {
        throw error; // no fault of the world makes the pure decision throw
      },
    });
    this.#inForce = this.#admissionOf(options.file);
    this.#sweepPeriodically();
  }

  get size(): number {
    return this.#open.size;
  }

  request(incoming: IncomingRequest, decided: (verdict: Verdict) => void): void {
    this.#options.reach(incoming.token, reachMs, (outcome) => {
      const result = outcome === "reached" ? this.#admit(incoming) : notReached(outcome);
      this.#report(incoming, result);
      decided(result.verdict);
      const { exchange } = result;
      if (exchange !== undefined)
        this.#options.process.after(this.#options.random.within(0.1, 8), () => this.#begin(incoming, exchange));
    });
  }

  /** Handles a folded change. Calls `done` once everything that the change denies is destroyed. */
  changed(
    { link, touched, rebuilt }: Readonly<{ link: Link; touched: readonly (readonly Stream[])[]; rebuilt: boolean }>,
    done: () => void,
  ): void {
    const facts = this.#registry.counts.http === 0 ? new Set<Stream>() : new Set(touched.flat());
    this.#registry.onChange({ link, touched: facts, rebuilt }, settledBy(done));
  }

  /** Activates another configuration and re-decides all open exchanges by it in the same turn. */
  configure(config: NodeConfig, file: CompiledFile): void {
    this.#config = config;
    this.#file = file;
    this.#inForce = this.#admissionOf(file);
    this.#registry.redecideAll(settledBy(() => {}));
  }

  /** Drains: cuts every exchange. Calls `done` once no exchange carries bytes. */
  drain(done: () => void): void {
    this.#registry.cutAll("draining", settledBy(done));
  }

  // --- the product's parts

  #admissionOf({ config, policies, plans }: CompiledFile): Admission<AdmissionContext> {
    const { core, keys, process } = this.#options;
    const never = (): never => {
      throw new Error("credentials are not read in this world");
    };
    const { resolve } = createCallerIdentifier(
      {
        ...{ config, signInOf: () => ({ idpIds: ["idp"], allows: new Set(["idp"]), bearerIdpId: "idp" }) },
        replica: {
          isDeniedLocally: (stream) => core().isDeniedLocally(stream),
          isDeniedByRegion: (stream) => core().isDeniedByRegion(stream),
          ...{ projection: core().projection, applied: core().applied, onChange: never },
        },
        ...{ credentials: { read: never, verify: never }, bearerTokens: { identify: never, accepts: never } },
        catchUp: never,
        resolveCaller: (handle, asked) =>
          resolveCaller(core().projection, handle, { ...asked, open: keys.open, cache: this.#cache }),
      },
      new ReachedHandles(),
    );
    const idle = createIdleGate(null, new SessionActivity({ useOf: () => undefined, isFresh: () => false }));
    const authorizer = createAuthorizer(
      {
        idle,
        freshness: this.#registry.freshness,
        annotateDecision: () => ({}),
        decide: (question) => decide({ policies, ...question }),
      },
      resolve,
    );
    return createAdmission<AdmissionContext>({
      authorizer,
      clock: process.clock,
      lifetimeMsMax: config.timeouts.writeMs,
      plans,
      exchanges: this.#registry,
      idle,
      current: () => this.#inForce,
      record: () => {},
    });
  }

  /** The first check: route, lease, caller, policy. A permit includes its registered exchange. */
  #admit(incoming: IncomingRequest): CheckResult {
    const { process } = this.#options;
    const { plans } = this.#file;
    const request = requestFor(incoming.route);
    const route = plans.routes.match(request);
    if (route === undefined) return { verdict: "deny", reason: "no-route" };
    const context: AdmissionContext = { ...anywhere, asOf: process.moment() };
    const routed: Routed<AdmissionContext> = { context, plan: plans.compiledRouteOf(route), request };
    if (this.#inForce.isStale(routed)) return { verdict: "unavailable", reason: "stale" };
    const admitted = this.#inForce.admit(routed, holderOf(incoming));
    switch (admitted.type) {
      case "behind":
        return { verdict: "unavailable", reason: "behind" };
      case "refused": {
        const { type, reasons } = admitted.decision;
        return { verdict: "deny", reason: type === "signin" ? "sign-in" : reasons.join(" ") };
      }
      default:
        return { verdict: "permit", reason: "", exchange: admitted.exchange };
    }
  }

  // --- bytes

  #begin(incoming: IncomingRequest, exchange: Exchange): void {
    const { world, process, here } = this.#options;
    const { request, route, session, kind } = incoming;
    if (this.#open.size >= exchangesMax) exchange.cut("draining");
    if (!exchange.mayCarry()) {
      exchange.close();
      world.report({ type: "exchange-ended", ...here(), request, how: "cut", reason: exchange.cutReason ?? "" });
      return;
    }
    world.report({ type: "exchange-opened", ...here(), request, route, session, kind });
    const until = process.clock.monotonic() + incoming.forMs;
    const open: Open = { incoming, exchange, until, timer: undefined };
    this.#open.set(request, open);
    exchange.attach((reason) => this.#cut(open, reason));
    this.#relay(open);
  }

  #relay(open: Open): void {
    const { world, process, here, random } = this.#options;
    const { request, kind } = open.incoming;
    if (!open.exchange.mayCarry()) return; // it is being cut
    world.report({ type: "relayed", ...here(), request });
    const left = open.until - process.clock.monotonic();
    if (left <= 0) {
      this.#end(open, "finished", "");
      return;
    }
    const next = kind === "stream" ? random.within(120, 500) : random.within(1, 20);
    open.timer = process.after(Math.min(left, next), () => this.#relay(open));
  }

  /** Ends the exchange at once, or after a delay that models the sending of the close frame. */
  #cut(open: Open, reason: CutReason): PendingCut | undefined {
    const { process, random } = this.#options;
    open.timer?.cancel();
    if (random.chance(0.6)) {
      this.#end(open, "cut", reason);
      return undefined;
    }
    let finished = (): void => {};
    process.after(random.within(1, cutMsMax), () => {
      this.#end(open, "cut", reason);
      finished();
    });
    return {
      // biome-ignore lint/suspicious/noThenProperty: stands for a promise, in a world without any.
      then(done) {
        finished = done;
      },
    };
  }

  #end(open: Open, how: "finished" | "cut", reason: string): void {
    const { request } = open.incoming;
    if (!this.#open.delete(request)) return;
    open.timer?.cancel();
    open.exchange.close();
    this.#options.world.report({ type: "exchange-ended", ...this.#options.here(), request, how, reason });
  }

  #sweepPeriodically(): void {
    this.#options.process.after(sweepEveryMs, () => {
      this.#registry.sweep();
      this.#sweepPeriodically();
    });
  }

  #report({ request, route, session }: IncomingRequest, { verdict, reason }: CheckResult): void {
    const { world, here, core, process } = this.#options;
    const { hash: configHash } = this.#config;
    const overdueMs = core().overdueMs(process.moment());
    const link = core().applied;
    world.report({
      ...{ type: "decided", ...here(), request, route, session, verdict, reason, link, configHash, overdueMs },
    });
  }
}

const anywhere = {
  ip: "192.0.2.1",
  requestId: "",
  tunnel: null,
  downstream: { certificate: null, upgrade: null },
} as const;
const requests = new Map<string, ReturnType<typeof canonicalRequest>>();

function requestFor(route: string): ReturnType<typeof canonicalRequest> {
  const known = requests.get(route) ?? canonicalRequest(route);
  requests.set(route, known);
  return known;
}

function canonicalRequest(route: string) {
  const read = canonicaliseRequest({
    method: "GET",
    url: "/",
    httpVersion: "1.1",
    rawHeaders: ["Host", hostOf(route)],
  });
  if (read.type === "refused") throw new Error(`the simulated request is refused: ${read.reason}`);
  return read.request;
}

function holderOf({ session: sessionId, user: userId }: IncomingRequest): CredentialHolder {
  const handle: SessionHandle = { sessionId, userId, idpId: "idp", needs: null, audience: [] };
  return { handle, credentialInHeader: false };
}

function settledBy(done: () => void): Settled {
  return (failure) => {
    if (failure !== null) throw failure;
    done();
  };
}

function notReached(outcome: "behind" | "lost"): CheckResult {
  return outcome === "behind" ? { verdict: "unavailable", reason: "behind" } : { verdict: "deny", reason: "sign-in" };
}
