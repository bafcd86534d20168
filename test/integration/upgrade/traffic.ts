/**
 * Traffic: people who use a cluster while it changes, through a load balancer that knows the proxies in turn and tries
 * the next one if a proxy does not reply or is not ready.
 */
import { type RequestOptions, sendRequest } from "../cluster/client.ts";
import type { Cluster, Session } from "../cluster/cluster.ts";
import type { ClusterProcess } from "../cluster/cluster-process.ts";

export type Traffic = Readonly<{
  /** Removes a proxy from the load balancer during the action; first waits 200 ms for its open requests. */
  bypass<T>(proxy: ClusterProcess, action: () => Promise<T>): Promise<T>;
  /** @returns permitted requests, descriptions of refused ones, and attempts at a second proxy */
  stop(): Promise<Readonly<{ permitted: number; refused: readonly string[]; retries: number }>>;
}>;

const everyMs = 25;
const settleMs = 200;
const stoppedMsMax = 20_000;

export function startTraffic(cluster: Cluster, sessions: readonly Session[], route = "app"): Traffic {
  const inTurn = new Set(cluster.proxies);
  const refused: string[] = [];
  let permitted = 0;
  let retries = 0;
  let running = true;
  let turn = 0;

  async function request(session: Session): Promise<void> {
    const giveUpAt = performance.now() + stoppedMsMax;
    for (;;) {
      const { failures, undecided } = await attempt(session);
      if (failures === undefined) return;
      // A proxy that its machine paused rightly permits nothing before its next grant, so the request is sent again.
      if (!undecided || performance.now() >= giveUpAt || !cluster.proxies.some((proxy) => proxy.hasReportedPause()))
        return void refused.push(`${session.user} ${new Date().toISOString()} ${failures.join(", ")}`);
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  /** @returns the failure at each proxy, and whether all were 503; `failures` is absent if a proxy permitted it */
  async function attempt(session: Session): Promise<Readonly<{ failures?: readonly string[]; undecided: boolean }>> {
    turn += 1;
    const proxies = [...inTurn];
    const candidates = proxies.map((_, n) => proxies[(turn + n) % proxies.length]);
    const failures: string[] = [];
    let undecided = true;
    for (const proxy of candidates) {
      if (proxy === undefined) continue;
      const target: RequestOptions = { port: proxy.ports.address, host: cluster.host(route), cookie: session.cookie };
      const answer = await sendRequest(target).catch((error: unknown) => String(error));
      if (typeof answer !== "string" && answer.permitted) {
        permitted += 1;
        retries += failures.length;
        return { undecided: false };
      }
      undecided &&= typeof answer !== "string" && answer.status === 503;
      failures.push(`${proxy.name}: ${typeof answer === "string" ? answer : answer.status}`);
    }
    return { failures, undecided };
  }

  async function person(session: Session): Promise<void> {
    while (running) {
      await request(session);
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }
  const people = sessions.map(person);

  return {
    async bypass(proxy, action) {
      const wasInTurn = inTurn.delete(proxy);
      if (wasInTurn) await new Promise((resolve) => setTimeout(resolve, settleMs));
      try {
        return await action();
      } finally {
        if (wasInTurn) inTurn.add(proxy);
      }
    },
    async stop() {
      running = false;
      await Promise.all(people);
      return { permitted, refused, retries };
    },
  };
}
