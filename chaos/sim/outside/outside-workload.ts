/** Outside workload: performs the planned news from outside. */
import { parseCommandId, unreachable } from "../../../src/events/index.ts";
import type { PlannedAction } from "../workload-plan.ts";
import { AccessRequests } from "./access-requests.ts";
import { Correlator } from "./correlator.ts";
import { Logouts } from "./logouts.ts";
import { MassChanges } from "./mass-changes.ts";
import type { OutsideParts } from "./outside-parts.ts";
import type { OutsideKind } from "./outside-plan.ts";
import { directoryName } from "./provisioned-people.ts";
import { Provisioning } from "./provisioning.ts";
import { createStream } from "./signal-streams.ts";

const calmMs = 4_000;

export class OutsideWorkload {
  readonly #logouts: Logouts;
  readonly #provisioning: Provisioning;
  readonly #massChanges: MassChanges;
  readonly #accessRequests: AccessRequests;
  readonly #parts: OutsideParts;
  /** Operators ask for whole runs. Without these, one that missed something is never made up for. */
  readonly #requestsRuns: boolean;

  constructor(parts: OutsideParts) {
    this.#logouts = new Logouts(parts);
    this.#provisioning = new Provisioning(parts);
    this.#massChanges = new MassChanges(parts);
    this.#accessRequests = new AccessRequests(parts);
    this.#parts = parts;
    this.#requestsRuns = parts.random.chance(0.5);
    new Correlator(parts).start();
    this.#calmDirectory();
    if (parts.actors.signals !== null) createStream(parts);
  }

  /** Once the faults are over the directory is quiet, too, and an operator may ask for a whole run. */
  #calmDirectory(): void {
    const { actors, options } = this.#parts;
    const { world, directory, signals } = actors;
    if (signals !== null) world.at(options.faultsUntilMs + calmMs, () => signals.calm());
    if (directory === null) return;
    world.at(options.faultsUntilMs + calmMs, () => directory.calm());
    world.at(options.faultsUntilMs + 2 * calmMs, () => this.#requestRun());
  }

  #requestRun(): void {
    if (!this.#requestsRuns) return;
    const { random, client, submit } = this.#parts;
    const about = { directory: directoryName, requestId: random.uuid(), removals: false };
    const command = { type: "requestDirectorySync", ...about } as const;
    submit(
      { commandId: parseCommandId(random.uuid()), actor: "operator:sim", command },
      client(random.next()),
      () => {},
    );
  }

  perform(action: PlannedAction, kind: OutsideKind): void {
    switch (kind) {
      case "logout":
        this.#logouts.session(action);
        return;
      case "logout-person":
        this.#logouts.person(action);
        return;
      case "provision-user":
        this.#provisioning.write(action);
        return;
      case "deactivate-user":
        this.#provisioning.end(action, "deactivated");
        return;
      case "delete-user":
        this.#provisioning.end(action, "deleted");
        return;
      case "provision-group":
        this.#provisioning.group(action);
        return;
      case "directory-change":
        this.#parts.actors.directory?.change({ by: action.who, group: action.other, how: action.much });
        return;
      case "directory-request":
        this.#requestRun();
        return;
      case "signal": {
        const { actors, people } = this.#parts;
        actors.signals?.issue(people.user(action.who), action.much);
        return;
      }
      case "mass-removal":
        this.#massChanges.remove(action);
        return;
      case "decide-held":
        this.#massChanges.decide(action);
        return;
      case "request-access":
        this.#accessRequests.request(action);
        return;
      case "decide-request":
        this.#accessRequests.decide(action);
        return;
      case "end-request":
        this.#accessRequests.end(action);
        return;
      default:
        unreachable(kind);
    }
  }
}
