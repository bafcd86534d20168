/**
 * Provisioning monitors: user names have one holder, and what a SCIM client or a directory denies stays denied.
 *
 * - No two people of a client have one user name at any point of the log; the case of letters does not count.
 * - No person signs in while one of their provisioned people is not active.
 * - Where the end of a person's access is answered, no session from before it is live.
 */
import { type Command, parseProvisioned } from "../../../../src/events/index.ts";
import type { SimFactOf } from "../../facts.ts";
import type { LogPoint } from "../chains.ts";
import type { GroundTruth } from "../ground-truth.ts";
import { formatLink } from "../log-monitors.ts";
import type { Monitor } from "../monitor.ts";
import { listIn } from "./logout-monitors.ts";
import { WrittenCommands } from "./written-commands.ts";

type Write = Extract<Command, { type: "writeProvisionedUser" | "endProvisionedUser" }>;
type Named = Readonly<{ point: LogPoint; name: string | null }>;

export function watchProvisioning(truth: GroundTruth): Monitor {
  const { chains, findings, observations, rights } = truth;
  const written = new WrittenCommands(truth);
  /** By provisioned user: its names, in the order of their writing. */
  const names = new Map<string, Named[]>();

  function nameAt(user: string, point: LogPoint): string | null {
    return names.get(user)?.findLast((named) => chains.contains(point, named.point))?.name ?? null;
  }

  function checkName({ userId, profile, client }: Write, point: LogPoint, fact: SimFactOf<"wrote">): void {
    const text = parseProvisioned(profile)?.record.resource?.["userName"];
    const name = typeof text === "string" ? `${client}/${text.toLowerCase()}` : null;
    listIn(names, userId).push({ point, name });
    if (name === null) return;
    for (const other of names.keys()) {
      if (other === userId) continue;
      observations.add("name-checked");
      if (nameAt(other, point) !== name) continue;
      findings.add("one-name", `${userId} and ${other} both have the name ${name} at ${formatLink(point.link)}`, [
        fact,
      ]);
    }
  }

  function checkSignIn(
    { sessionId, provisioned = [] }: Extract<Command, { type: "createSession" }>,
    point: LogPoint,
    fact: SimFactOf<"wrote">,
  ): void {
    for (const user of provisioned) {
      observations.add("provisioned-sign-in");
      const denial = rights.userDenial(user, point);
      if (denial === null) continue;
      const what = `session ${sessionId} is created at ${formatLink(point.link)}, though ${denial.why}`;
      findings.add("deactivated", what, [fact]);
    }
  }

  const { before, after } = written.handlers(({ command, points, last }, fact) => {
    if (command?.type === "writeProvisionedUser" || command?.type === "endProvisionedUser")
      checkName(command, last, fact);
    else if (command?.type === "createSession") {
      const point = points.find(({ recorded }) => recorded?.event.type === "SessionCreated");
      if (point !== undefined) checkSignIn(command, point, fact);
    }
  });

  return {
    invariants: ["one-name", "deactivated"],
    before: {
      ...before,
      "deactivation-answered": (fact) => {
        const [ended, point] = [truth.find(fact.ended), truth.find(fact.link)];
        if (ended === undefined || point === undefined || !chains.contains(point, ended)) return;
        for (const session of rights.sessionsOf(fact.person, ended)) {
          observations.add("deactivation-checked");
          if (rights.denialOf(session, point) !== null) continue;
          const what = `session ${session} of ${fact.person} is live at ${formatLink(fact.link)}, where the end of access is answered`;
          findings.add("deactivated", what, [fact]);
        }
      },
    },
    after,
  };
}
