/**
 * Traffic: people who go on using a cluster while it is changed underneath, through a balancer that knows which proxies
 * are in turn and, as balancers do, asks the next one when one does not answer or is not ready.
 */
import { type RequestOptions, sendRequest } from "../cluster/client.ts";
import type { Cluster, Session } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";

export type Traffic = Readonly<{
  /** Takes a proxy out of turn while something is done to it, and waits for what it is serving. */
  bypass<T>(proxy: ClusterProcess, done: () => Promise<T>): Promise<T>;
  /** @returns what nobody permitted, and how often a second proxy had to be asked */
  stop(): Promise<Readonly<{ permitted: number; refused: readonly string[]; askedAgain: number }>>;
}>;

const everyMs = 25;
const settleMs = 200;
const stoppedMsMax = 20_000;

export function startTraffic(cluster: Cluster, sessions: readonly Session[], route = "app"): Traffic {
  const inTurn = new Set(cluster.proxies);
  const refused: string[] = [];
  let permitted = 0;
  let askedAgain = 0;
  let running = true;
  let turn = 0;

  async function request(session: Session): Promise<void> {
    const giveUpAt = performance.now() + stoppedMsMax;
    for (;;) {
      const { answers, undecided } = await attempt(session);
      if (answers === undefined) return;
      // A proxy whose machine stopped it for a moment rightly permits nobody before its next grant: whoever it tells so
      // asks again.
      if (!undecided || performance.now() >= giveUpAt || !cluster.proxies.some((proxy) => proxy.hasReportedPause()))
        return void refused.push(`${session.user} ${new Date().toISOString()} ${answers.join(", ")}`);
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  /** @returns what each proxy in turn answered, and whether all that was 503; no answers: one has permitted it */
  async function attempt(session: Session): Promise<Readonly<{ answers?: readonly string[]; undecided: boolean }>> {
    turn += 1;
    const proxies = [...inTurn];
    const tries = proxies.map((_, n) => proxies[(turn + n) % proxies.length]);
    const answers: string[] = [];
    let undecided = true;
    for (const proxy of tries) {
      if (proxy === undefined) continue;
      const target: RequestOptions = { port: proxy.ports.address, host: cluster.host(route), cookie: session.cookie };
      const answer = await sendRequest(target).catch((error: unknown) => String(error));
      if (typeof answer !== "string" && answer.permitted) {
        permitted += 1;
        askedAgain += answers.length;
        return { undecided: false };
      }
      undecided &&= typeof answer !== "string" && answer.status === 503;
      answers.push(`${proxy.name}: ${typeof answer === "string" ? answer : answer.status}`);
    }
    return { answers, undecided };
  }

  async function person(session: Session): Promise<void> {
    while (running) {
      await request(session);
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }
  const people = sessions.map(person);

  return {
    async bypass(proxy, done) {
      const was = inTurn.delete(proxy);
      if (was) await new Promise((resolve) => setTimeout(resolve, settleMs));
      try {
        return await done();
      } finally {
        if (was) inTurn.add(proxy);
      }
    },
    async stop() {
      running = false;
      await Promise.all(people);
      return { permitted, refused, askedAgain };
    },
  };
}
