/**
 * Signal enforcement: ends the sessions that records of signals deny. The log has the record, so what fails here is
 * tried again, by this node and by every other that serves sign-ins, also after a restart.
 *
 * - A push is acknowledged as accepted only after its sessions have ended. The transmitter sends it again otherwise.
 * - What could not be ended is counted, and operators see for how many people.
 */
import { type CommandId, type Link, transmitterOf, type UserId } from "../../../events/index.ts";
import type { AuthDeps } from "../context.ts";
import { addTo } from "../people/people-index.ts";
import { submitWithRetry } from "../sign-in/begin-session.ts";
import { signalActor } from "./signal-receiver.ts";
import type { DeniedSessions } from "./signal-subjects.ts";

const retryMs = 1_000;
const retryMsMax = 60_000;

export type EnforcementResult = "ended" | "unavailable" | "refused";

export type EnforcementReports = Readonly<{
  onEnforced: (transmitter: string, result: EnforcementResult) => void;
  /** People whose denied sessions could not be ended yet, by transmitter. */
  onWaiting: (people: ReadonlyMap<string, number>) => void;
}>;

/** `complete`: nothing is left to end. `link`: of the newest change; undefined: nothing was ended now. */
export type Enforced = Readonly<{ complete: boolean; link: Link | undefined }>;

export class SignalEnforcement {
  readonly #auth: AuthDeps;
  readonly #reports: EnforcementReports;
  /** By record and person: several records may deny sessions of one person, each of them others. */
  readonly #waiting = new Map<string, DeniedSessions>();
  /** What could not be ended at the last attempt. */
  readonly #failed = new Map<string, DeniedSessions>();
  #isRunning = false;
  #isClosed = false;

  constructor(auth: AuthDeps, reports: EnforcementReports) {
    this.#auth = auth;
    this.#reports = reports;
  }

  add(denied: DeniedSessions): void {
    if (this.#isClosed) return;
    this.#waiting.set(keyOf(denied), denied);
    if (!this.#isRunning) void this.#run();
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting.clear();
    this.#failed.clear();
    this.#report();
  }

  async end(denied: readonly DeniedSessions[]): Promise<Enforced> {
    let link: Link | undefined;
    let complete = true;
    for (const one of denied) {
      const result = await this.#revoke(one);
      if (result === "failed") {
        complete = false;
        this.add(one);
      } else if (result !== undefined && (link === undefined || result.position > link.position)) link = result;
    }
    return { complete, link };
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    let pauseMs = retryMs;
    while (this.#waiting.size > 0 && !this.#isClosed) {
      const some = [...this.#waiting.values()];
      this.#waiting.clear();
      let failed = 0;
      for (const denied of some) {
        if (this.#isClosed || (await this.#revoke(denied)) !== "failed") continue;
        failed += 1;
        if (!this.#waiting.has(keyOf(denied))) this.#waiting.set(keyOf(denied), denied);
      }
      pauseMs = failed === some.length ? Math.min(retryMsMax, pauseMs * 2) : retryMs;
      if (this.#waiting.size > 0 && !this.#isClosed) await this.#auth.sleep(failed === 0 ? 0 : pauseMs);
    }
    this.#isRunning = false;
  }

  async #revoke(denied: DeniedSessions): Promise<Link | "failed" | undefined> {
    const { recordId, sessionIds } = denied;
    const { projection } = this.#auth.replica;
    const live = sessionIds.filter((id) => projection.sessionStatus(id).status === "active");
    const transmitter = transmitterOf(recordId) ?? "";
    const result = live.length === 0 ? undefined : await this.#submit({ ...denied, sessionIds: live }, transmitter);
    if (result === "unavailable" || result === "refused") this.#failed.set(keyOf(denied), denied);
    else this.#failed.delete(keyOf(denied));
    this.#report();
    if (result === undefined) return undefined;
    this.#reports.onEnforced(transmitter, typeof result === "string" ? result : "ended");
    return typeof result === "string" ? "failed" : result;
  }

  async #submit(
    { userId, sessionIds }: DeniedSessions,
    transmitter: string,
  ): Promise<Link | "unavailable" | "refused" | undefined> {
    const { databroker, clock, sleep, random, log } = this.#auth;
    const command = { type: "revokeSessions", sessionIds, reason: "identity-provider" } as const;
    const commandId = random.uuid() as CommandId;
    const fields = { transmitter, userId, sessions: sessionIds.length };
    try {
      const result = await submitWithRetry(
        { databroker, clock, sleep },
        { commandId, actor: signalActor(transmitter), command },
      );
      if (result.type === "unavailable") return "unavailable";
      if (result.type === "refused") {
        if (result.code === "not-found") return undefined; // they have expired meanwhile
        log.warn(
          { ...fields, message: result.message },
          "could not end the sessions that a signal denies; trying again",
        );
        return "refused";
      }
      log.info({ ...fields, position: result.link.position }, "a signal ended sessions");
      return result.link;
    } catch (err) {
      log.warn({ ...fields, err }, "could not end the sessions that a signal denies; trying again");
      return "unavailable";
    }
  }

  #report(): void {
    const people = new Map<string, Set<UserId>>();
    for (const { recordId, userId } of this.#failed.values()) addTo(people, transmitterOf(recordId) ?? "", userId);
    this.#reports.onWaiting(new Map([...people].map(([transmitter, users]) => [transmitter, users.size])));
  }
}

const keyOf = ({ recordId, userId }: DeniedSessions): string => `${recordId} ${userId}`;
