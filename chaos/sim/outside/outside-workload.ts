/** Outside workload: performs the planned news from outside. */
import { unreachable } from "../../../src/events/index.ts";
import type { PlannedAction } from "../workload-plan.ts";
import { Logouts } from "./logouts.ts";
import { MassChanges } from "./mass-changes.ts";
import type { OutsideParts } from "./outside-parts.ts";
import type { OutsideKind } from "./outside-plan.ts";
import { Provisioning } from "./provisioning.ts";

export class OutsideWorkload {
  readonly #logouts: Logouts;
  readonly #provisioning: Provisioning;
  readonly #massChanges: MassChanges;

  constructor(parts: OutsideParts) {
    this.#logouts = new Logouts(parts);
    this.#provisioning = new Provisioning(parts);
    this.#massChanges = new MassChanges(parts);
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
      case "mass-removal":
        this.#massChanges.remove(action);
        return;
      case "decide-held":
        this.#massChanges.decide(action);
        return;
      default:
        unreachable(kind);
    }
  }
}
