/**
 * Local revocations: how long a region that is cut off takes to revoke by itself, for bench/regions.ts.
 *
 * The region decides for some seconds after a cut, so each cut gives a few figures.
 */
import { measureName } from "../../src/cli/process/measure-gauges.ts";
import type { LocalChangeAnswer } from "../../src/console/index.ts";
import { type LiveSocket, openSocket } from "../../test/integration/cluster/client.ts";
import type { Session } from "../../test/integration/cluster/cluster.ts";
import { waitFor } from "../../test/support/wait-for.ts";
import type { Region } from "./three-regions.ts";

/** How many revocations each cut times, after a first one that waits until the region no longer expects the leader. */
const timedPerCut = 6;

export type DurationRecorder = (what: string, ms: number) => void;

/** @param host of the route with the open streams */
export async function localRevocations(
  region: Region,
  { rounds, host, note }: Readonly<{ rounds: number; host: string; note: DurationRecorder }>,
): Promise<void> {
  const { name } = region;
  for (let done = 0, cuts = 1; done < rounds && cuts <= rounds; cuts += 1) {
    const people = await Promise.all(
      Array.from({ length: timedPerCut + 1 }, async (_, n) =>
        openFor(region, { user: `cut-${name}-${cuts}-${n}`, host }),
      ),
    );
    for (const link of region.links) link.cut();
    const [first, ...others] = people;
    if (first === undefined) throw new Error("no one is there");
    const from = performance.now();
    await waitFor(`${name} to revoke by itself`, () => revoke(region, first.session, "none"), { everyMs: 50 });
    note(`${name} is cut off → it revokes by itself`, performance.now() - from);
    for (const [n, { session, socket }] of others.entries()) {
      const wait = n % 2 === 0 ? "none" : "region";
      const sentAt = performance.now();
      const enforced = socket.closed.then(() => performance.now() - sentAt);
      const answer = await revoke(region, session, wait);
      if (answer === undefined) break; // its lease has ended
      const what = wait === "none" ? "answered `local`" : `complete receipt of ${name} alone`;
      if (wait === "none" || answer.receipt?.complete === true)
        note(`cut off: revoke in ${name} → ${what}`, performance.now() - sentAt);
      note(`cut off: revoke in ${name} → enforced on the last node of ${name}`, await enforced);
      done += 1;
    }
    for (const link of region.links) link.heal();
    for (const { socket } of people) socket.close();
    await waitFor(
      `the log to have what ${name} revoked`,
      async () =>
        (await region.broker.metric(`cardea_broker_${measureName("localRevocations")}`)) === 0 &&
        (await region.client.status()).leader !== null,
      { withinMs: 60_000, everyMs: 100 },
    );
  }
}

type Person = Readonly<{ session: Session; socket: LiveSocket }>;

async function openFor(region: Region, { user, host }: Readonly<{ user: string; host: string }>): Promise<Person> {
  const session = await region.session(user);
  return { session, socket: await openSocket({ port: region.proxy.ports.address, host, cookie: session.cookie }) };
}

/** @returns undefined if the region did not accept it by itself */
async function revoke(
  { operator }: Region,
  session: Session,
  wait: "none" | "region",
): Promise<LocalChangeAnswer | undefined> {
  const { status, body } = await operator.post(`/sessions/${session.id}/revoke`, { wait, timeoutMs: 10_000 });
  return status === 202 ? (JSON.parse(body) as LocalChangeAnswer) : undefined;
}
