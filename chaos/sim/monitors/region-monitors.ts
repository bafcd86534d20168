/** Regions: a lease by age is no younger than the regional broker's own lease, on which it rests (docs/adr/0013). */
import type { ProcessName, SimFactOf } from "../facts.ts";
import type { LeaseBook } from "./lease-book.ts";
import type { Monitor } from "./monitor.ts";
import type { Scene } from "./scene.ts";
import { seconds } from "./violation.ts";

/** What the digits of a clock may hide. */
const roundedMs = 0.5;

/** Judged at the node: how old it takes its lease to be, in true time, when a grant by age has moved it. */
export function watchLeasesByAge(scene: Scene, book: LeaseBook): Monitor {
  const { findings, looks } = scene;
  const clocks = new Map<ProcessName, SimFactOf<"clock-set">>();

  function judge(fact: SimFactOf<"grant-received">): void {
    const restsOn = book.restsOn(fact);
    const clock = clocks.get(fact.process);
    if (restsOn === undefined || clock === undefined || fact.anchorAgeMs === undefined) return;
    if (clock.at > restsOn) return; // its clock has changed meanwhile: what it has measured is no single rate
    looks.add("age-judged");
    const ageMs = fact.anchorAgeMs / clock.rate;
    const trueMs = fact.at - restsOn;
    if (ageMs >= trueMs - roundedMs) return;
    const what = `${fact.process} counts its lease from ${seconds(ageMs)} ago, and the renew that it rests on left ${seconds(trueMs)} ago`;
    findings.add("lease-by-age", what, [fact]);
  }

  return {
    invariants: ["lease-by-age"],
    before: {
      "clock-set": (fact) => {
        clocks.set(fact.process, fact);
      },
      "grant-received": judge,
    },
  };
}
