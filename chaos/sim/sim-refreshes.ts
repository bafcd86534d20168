/**
 * Simulated refreshes: the duty that presents refresh tokens to the provider, in one boot of a broker, by the product's
 * own rules (refresh-rules.ts).
 *
 * Requests and answers take simulated time, in which the process may be paused, deposed or killed.
 */
import {
  firstStep,
  isUnsent,
  type Presented,
  type StepAfterAnswer,
  stepAfterAnswer,
  stepAfterRecord,
  type UnsentIntent,
} from "../../src/auth/authenticate/provider/refresh-rules.ts";
import { openVault } from "../../src/broker/commands/vault.ts";
import type { DutyRun } from "../../src/broker/core/messages.ts";
import type { BrokerState } from "../../src/broker/state/broker-state.ts";
import type {
  Command,
  CommandId,
  CommandRequest,
  CommandResult,
  ProviderTokens,
  SessionId,
  UnixMs,
  VaultedTokens,
} from "../../src/events/index.ts";
import { vaultKey } from "../../src/replication/wire/index.ts";
import type { BrokerReporter } from "./broker-reporter.ts";
import type { SimProcess } from "./process.ts";
import type { SimLog } from "./sim-log.ts";
import type { ProviderAnswer, SimProvider } from "./sim-provider.ts";
import type { World } from "./world.ts";

export type SimRefreshesParts = Readonly<{
  world: World;
  process: SimProcess;
  log: SimLog;
  provider: SimProvider;
  secret: Uint8Array;
  ledger: () => BrokerState;
  /** Whether the run still leads, as far as the core knows. */
  leads: (run: DutyRun) => boolean;
  submit: (run: DutyRun, request: CommandRequest, answered: (result: CommandResult) => void) => void;
  /** Submits to the leading broker, as a broker. */
  submitToLeader: (request: CommandRequest, answered: (result: CommandResult | undefined) => void) => void;
  ended: (run: DutyRun, outcome: "done" | "failed") => void;
  reporter: BrokerReporter;
}>;

const graceMs = 6_000;
const deadlineMs = 8_000;
/** Time (ms) from the intent to the request: the connection setup. */
const connectMs = [0, 1_500] as const;
const wayMs = [5, 80] as const;
/** Processing time (ms) at the provider. */
const workMs = [20, 6_000] as const;
const timeoutMs = 5_000;
const olderTimeoutMs = 5_000;
/** Share of boots that act as builds without intents. The mutants of `invalid_grant` raise it. */
const olderBuilds = 0;

export class SimRefreshes {
  readonly #parts: SimRefreshesParts;
  readonly #random: ReturnType<World["random"]>;
  readonly #records: boolean;
  readonly #unsent = new Map<SessionId, UnsentIntent>();

  constructor(parts: SimRefreshesParts) {
    this.#parts = parts;
    this.#random = parts.world.random(`refreshes/${parts.process.name}`);
    this.#records = !this.#random.chance(olderBuilds);
  }

  run(run: DutyRun): void {
    const { log, secret, ended } = this.#parts;
    const sessionId = this.#anySession();
    if (sessionId === undefined) {
      ended(run, "done");
      return;
    }
    log.vault(sessionId, (answer) => {
      const entry = answer instanceof Error ? undefined : openVault(answer, [vaultKey(secret)]);
      if (entry === undefined || entry.tokens.refreshToken === null) {
        ended(run, "done");
        return;
      }
      this.#begin(new Refresh(run, sessionId, entry));
    });
  }

  #anySession(): SessionId | undefined {
    const active = [...this.#parts.ledger().projection.sessions()].filter(({ status }) => status === "active");
    return active[this.#random.between(0, Math.max(0, active.length - 1))]?.sessionId;
  }

  #begin(refresh: Refresh): void {
    const { process, ended } = this.#parts;
    if (!this.#records) {
      this.#present(refresh, null);
      return;
    }
    const now = process.clock.wall() as UnixMs;
    const unsent = this.#unsent.get(refresh.sessionId);
    this.#unsent.delete(refresh.sessionId);
    if (unsent !== undefined && isUnsent(refresh.entry, unsent)) {
      this.#keep(refresh, refresh.releasedUnsent());
      return;
    }
    const step = firstStep(refresh.entry, { now, graceMs });
    if (step.type === "rest") {
      ended(refresh.run, "done");
      return;
    }
    if (step.type === "end") {
      this.#end(refresh, "grace");
      return;
    }
    const deadline = (now + deadlineMs) as UnixMs;
    const intent = this.#request(refresh.intent(deadline));
    const submittedAt = process.clock.monotonic();
    this.#parts.submit(refresh.run, intent, ({ type }) => {
      process.after(this.#random.within(...connectMs), () => {
        const waitedMs = process.clock.monotonic() - submittedAt;
        const after = stepAfterRecord(type, { leads: this.#parts.leads(refresh.run), waitedMs });
        if (after === "remember") this.#unsent.set(refresh.sessionId, refresh.unsent(deadline));
        if (after === "present") this.#present(refresh, intent.commandId);
        else if (after === "release") this.#keep(refresh, refresh.released());
        else ended(refresh.run, "done");
      });
    });
  }

  #present(refresh: Refresh, intent: CommandId | null): void {
    const { world, process, provider, reporter, ended } = this.#parts;
    const { run, sessionId, entry } = refresh;
    const token = entry.tokens.refreshToken ?? "";
    const { epoch, incarnation } = run;
    reporter.report({ type: "token-sent", ...reporter.at(), sessionId, token, epoch, incarnation, intent });
    const boot = process.boot;
    let open = true;
    const settle = (answer: ProviderAnswer | null): void => {
      if (!open || process.boot !== boot) return;
      open = false;
      this.#answered(refresh, answer);
    };
    world.after(this.#random.within(...wayMs), () => {
      world.report({ type: "token-presented", at: world.now, process: process.name, sessionId, token, intent });
      const answer = provider.present(token);
      world.after(this.#random.within(...workMs), () => process.run(() => settle(answer)));
    });
    if (!process.isUp) {
      ended(run, "done");
      return;
    }
    process.after(this.#records ? timeoutMs : olderTimeoutMs, () => settle(null));
  }

  #answered(refresh: Refresh, answer: ProviderAnswer | null): void {
    const { ended } = this.#parts;
    const { run, entry } = refresh;
    const outcome: Presented =
      answer === null
        ? { type: "unknown" }
        : answer.type === "tokens"
          ? { type: "tokens" }
          : { type: "refused", error: "invalid_grant" };
    if (!this.#records) {
      if (answer?.type !== "tokens") {
        ended(run, "done");
        return;
      }
      this.#keep(refresh, refresh.keptByOlderBuild(answer.refreshToken));
      return;
    }
    const step: StepAfterAnswer = stepAfterAnswer(outcome, entry, run.epoch);
    if (step === "keep" && answer?.type === "tokens") {
      this.#keep(refresh, refresh.kept(answer.refreshToken));
      return;
    }
    if (step === "release") {
      this.#keep(refresh, refresh.released());
      return;
    }
    if (step === "end" && answer?.type === "refused") {
      this.#end(refresh, answer.because);
      return;
    }
    ended(run, "done");
  }

  #keep({ run }: Refresh, command: Command): void {
    const { submit, submitToLeader, leads, ended } = this.#parts;
    const request = this.#request(command);
    submit(run, request, ({ type }) => {
      if (type !== "unavailable" || leads(run)) {
        ended(run, "done");
        return;
      }
      submitToLeader(this.#request(command), () => ended(run, "done"));
    });
  }

  #end({ run, sessionId, entry }: Refresh, because: "reuse" | "dismissal" | "grace"): void {
    const { submit, ended, reporter } = this.#parts;
    const token = entry.tokens.refreshToken ?? "";
    reporter.report({ type: "session-dismissed", ...reporter.at(), sessionId, token, because });
    const command = { type: "revokeSession", sessionId, reason: "refresh-refused" } as const;
    submit(run, this.#request(command), () => ended(run, "done"));
  }

  #request(command: Command): CommandRequest {
    return { commandId: this.#random.uuid() as CommandId, actor: "service:refresh", command };
  }
}

/** One refresh and its commands. */
class Refresh {
  readonly run: DutyRun;
  readonly sessionId: SessionId;
  readonly entry: VaultedTokens;

  constructor(run: DutyRun, sessionId: SessionId, entry: VaultedTokens) {
    this.run = run;
    this.sessionId = sessionId;
    this.entry = entry;
  }

  intent(deadline: UnixMs): Command {
    const { sessionId } = this;
    const { tokens, version: tokenVersion, obtainedIn } = this.entry;
    return { type: "startRefresh", sessionId, tokens, tokenVersion, obtainedIn, deadline };
  }

  unsent(deadline: UnixMs): UnsentIntent {
    return { epoch: this.run.epoch, deadline };
  }

  kept(refreshToken: string): Command {
    return this.#keep({ ...this.entry.tokens, refreshToken }, this.run.epoch);
  }

  released(): Command {
    return this.#keep(this.entry.tokens, this.entry.obtainedIn);
  }

  /** Releases the entry of an intent whose request was never sent. */
  releasedUnsent(): Command {
    const { sessionId } = this;
    const { tokens, version: tokenVersion, obtainedIn } = this.entry;
    return { type: "keepTokens", sessionId, tokens, tokenVersion, obtainedIn };
  }

  keptByOlderBuild(refreshToken: string): Command {
    const tokens = { ...this.entry.tokens, refreshToken };
    const { sessionId } = this;
    return { type: "keepTokens", sessionId, tokens, tokenVersion: this.entry.version, obtainedIn: null };
  }

  #keep(tokens: ProviderTokens, obtainedIn: VaultedTokens["obtainedIn"]): Command {
    const { sessionId } = this;
    return { type: "keepTokens", sessionId, tokens, tokenVersion: this.entry.version + 1, obtainedIn };
  }
}
