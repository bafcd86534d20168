/** Outside situations: the sometimes checks (sometimes.ts) of news that arrives from outside. */
import type { ProcessName, SimFact } from "../facts.ts";

export const outsideSituations = {
  "logged-out-before": { within: 50, what: "a sign-in was refused, because its session at the provider had ended" },
  "name-taken-meanwhile": {
    within: 200,
    what: "a user name was refused that another node might have given to another person",
  },
  "change-held": { within: 50, what: "a change that took a group from too many people was held" },
  "drop-not-seen": { within: 200, what: "an operator decided about a held change that another one had changed" },
  "directory-run-cut": {
    within: 100,
    what: "a run of a directory ended with its leader, and the next one began another",
  },
  "directory-in-part": { within: 100, what: "a run of a directory read only a part" },
  "decided-meanwhile": { within: 100, what: "an approver decided about a request that another one had decided" },
  "own-request-refused": { within: 200, what: "a person decided about their own request, and was refused" },
  "signal-repeated": { within: 50, what: "a receiver got one signal twice" },
} as const;

export type OutsideSituation = keyof typeof outsideSituations;

export class OutsideSituations {
  readonly #reach: (situation: OutsideSituation) => void;
  readonly #accepted = new Set<string>();
  /** The process whose run has not read its last page. */
  #reading: ProcessName | null = null;

  constructor(reach: (situation: OutsideSituation) => void) {
    this.#reach = reach;
  }

  report(fact: SimFact): void {
    switch (fact.type) {
      case "command-answered":
        if (fact.result.type === "refused") this.#refused(fact.result);
        return;
      case "directory-run":
        if (this.#reading !== null && this.#reading !== fact.process) this.#reach("directory-run-cut");
        this.#reading = fact.process;
        return;
      case "directory-page":
        if (fact.what === "partial") this.#reach("directory-in-part");
        if (fact.what === "last" && this.#reading === fact.process) this.#reading = null;
        return;
      case "signal-accepted":
        if (this.#accepted.has(fact.jti)) this.#reach("signal-repeated");
        this.#accepted.add(fact.jti);
        return;
      default:
    }
  }

  #refused({ code, message }: Readonly<{ code: string; message: string }>): void {
    if (code === "logged-out") this.#reach("logged-out-before");
    if (code === "held") this.#reach("change-held");
    if (/user name may have been given/.test(message)) this.#reach("name-taken-meanwhile");
    if (/request is no longer pending/.test(message)) this.#reach("decided-meanwhile");
    if (/decide about your own request/.test(message)) this.#reach("own-request-refused");
    if (/has changed since you looked/.test(message)) this.#reach("drop-not-seen");
  }
}
