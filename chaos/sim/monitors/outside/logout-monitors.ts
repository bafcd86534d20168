/**
 * Logout monitors: what an acknowledged logout ends, and keeps from beginning.
 *
 * - At its answer's position no session that began in the provider's session is live, and none is created later.
 * - Of a person: no session is live there, and none is created later by a sign-in that had begun before.
 */
import type { Command } from "../../../../src/events/index.ts";
import type { SimFactOf } from "../../facts.ts";
import type { LogPoint } from "../chains.ts";
import type { GroundTruth } from "../ground-truth.ts";
import { formatLink } from "../log-monitors.ts";
import type { Monitor } from "../monitor.ts";
import { WrittenCommands } from "./written-commands.ts";

type Logout = Readonly<{ point: LogPoint; fact: SimFactOf<"command-answered"> }>;
type Created = Readonly<{
  sessionId: string;
  user: string;
  /** What its authenticate node had applied when the sign-in began; undefined: not stated. */
  begun: LogPoint | undefined;
  point: LogPoint;
}>;

export function watchLogouts(truth: GroundTruth): Monitor {
  const { chains, findings, observations } = truth;
  const written = new WrittenCommands(truth);
  /** By what has ended: the provider's session, or the person. */
  const ended = new Map<string, Logout[]>();
  const created = new Map<string, Created[]>();

  function noteCreated(session: Created, of: string, fact: SimFactOf<"wrote">): void {
    listIn(created, of).push(session);
    for (const logout of ended.get(of) ?? []) checkPair(session, logout, fact);
  }

  /** Two points of one history: the logout's answer, and the creation of the session. */
  function checkPair(session: Created, { point, fact }: Logout, at: SimFactOf<"wrote" | "command-answered">): void {
    const command = written.commandOf(fact.commandId);
    if (command?.type !== "recordLogout") return;
    if (chains.contains(point, session.point)) {
      observations.add("logout-checked");
      if (truth.rights.denialOf(session.sessionId, point) !== null) return;
      const what = `session ${session.sessionId} is live at ${formatLink(point.link)}, where its logout is answered`;
      findings.add("logged-out", what, [fact]);
      return;
    }
    if (!chains.contains(session.point, point)) return;
    if (command.providerSession === null && !isBegunBefore(session, point)) return;
    observations.add("logout-checked");
    const what = `session ${session.sessionId} is created at ${formatLink(session.point.link)}, after its logout was answered with ${formatLink(point.link)}`;
    findings.add("logged-out", what, at === fact ? [fact] : [fact, at]);
  }

  /**
   * Whether the sign-in began before the logout, or in a history that lacks it. The logout itself may be older than its
   * answer's position: the answer of a repetition.
   */
  function isBegunBefore({ begun }: Created, point: LogPoint): boolean {
    return point.recorded?.event.type === "LogoutRecorded" && begun !== undefined && !chains.contains(begun, point);
  }

  function subjectOf({ providerSession, userId }: Extract<Command, { type: "recordLogout" }>): string {
    return providerSession ?? `person ${userId}`;
  }

  const { before, after } = written.handlers(({ command, points }, fact) => {
    if (command?.type !== "createSession") return;
    const point = points.find(({ recorded }) => recorded?.event.type === "SessionCreated");
    if (point === undefined) return;
    const { sessionId, userId: user, providerSession, begunLink } = command;
    const session = { sessionId, user, begun: begunLink && truth.find(begunLink), point };
    if (providerSession !== undefined) noteCreated(session, providerSession, fact);
    noteCreated(session, `person ${user}`, fact);
  });

  return {
    invariants: ["logged-out"],
    before: {
      ...before,
      "command-answered": (fact) => {
        const command = written.commandOf(fact.commandId);
        if (command?.type !== "recordLogout" || fact.result.type !== "done") return;
        const point = truth.find(fact.result.link);
        if (point === undefined) return;
        const of = subjectOf(command);
        const logout = { point, fact };
        listIn(ended, of).push(logout);
        for (const session of created.get(of) ?? []) checkPair(session, logout, fact);
      },
    },
    after,
  };
}

export function listIn<Item>(map: Map<string, Item[]>, key: string): Item[] {
  const list = map.get(key) ?? [];
  map.set(key, list);
  return list;
}
