/**
 * Command record: an act of an operator, or a sign-in or sign-out, as the command that this process sent to the
 * databroker, and its outcome. Pure.
 *
 * - It holds typed ids and the operator's own reason. Every other part of a command stays out: secrets, profiles and
 *   sealed data are never among the parts that are copied.
 * - A command that is sent again, because its outcome was unknown, has a record for each attempt, with one command id.
 */
import type { BootId, Command, CommandRequest, CommandResult, Link, NodeId, UnixMs } from "../events/index.ts";
import type { Databroker, LocalResult } from "../replication/index.ts";

export type ActRecord = Readonly<{
  node: NodeId;
  boot: BootId;
  region: string;
  at: UnixMs;
  commandId: string;
  /** `user:ID`, `token:ID` of an operator token, or `service:NAME`. */
  actor: string;
  /** The type of the command, such as `suspendUser`. */
  command: string;
  /** The first ids that the command names, each with its type: `user:ID`, `session:ID`, `group:ID` … */
  targets: readonly string[];
  /** How many further ids it names. */
  targetsMore: number;
  /** What the operator gave as the reason, or a reason of the protocol; null: none. */
  reason: string | null;
  /**
   * `done`; `unchanged`: nothing had to change; `refused`; `unavailable`: no answer, so the outcome is unknown;
   * `region`: accepted by this region alone, because it is cut off.
   */
  outcome: "done" | "unchanged" | "refused" | "unavailable" | "region";
  /** Why it was refused or not answered; null: it was not, or there is no code. */
  code: string | null;
  /** The last event of the command, or the head at which nothing had to change; null: nothing is in the log. */
  link: Link | null;
  latencyMs: number;
  /** The address that the command, or the request, came from. Absent: it is not known, or of an older build. */
  ip?: string;
  /** How many equal requests the record stands for. Absent: one. */
  count?: number;
}>;

export type CommandKind = "operator" | "authentication";
type Act = Omit<ActRecord, "node" | "boot" | "region">;

const targetsMax = 20;
const reasonCharsMax = 256;
const idCharsMax = 200;

/** The commands that are records of the kind `authentication`. Refreshes and other upkeep are none. */
const signInCommands: ReadonlySet<Command["type"]> = new Set<Command["type"]>([
  ...(["createSession", "revokeSession", "revokeSessions", "revokeUserSessions", "recordLogout"] as const),
]);

/** The parts of commands that are ids, and their type. No other part is copied into a record. */
const idParts: Readonly<Record<string, string>> = {
  sessionId: "session",
  sessionIds: "session",
  providerSession: "provider-session",
  userId: "user",
  idpId: "provider",
  groupId: "group",
  added: "user",
  removed: "user",
  nodes: "node",
  region: "region",
  level: "level",
  client: "client",
  tokenId: "scim-token",
  replaces: "scim-token",
  heldId: "held",
  source: "source",
  directory: "directory",
};

/** A databroker that records the commands sent through it, after their answers. */
export function recordCommands(
  databroker: Databroker,
  options: Readonly<{
    kind: CommandKind;
    record: (kind: CommandKind, act: Act) => void;
    wall: () => UnixMs;
    monotonic: () => number;
    /** The address of the caller that this process is serving now; undefined: none is known. */
    callerIp?: () => string | undefined;
  }>,
): Databroker {
  const { kind, record, wall, monotonic } = options;

  async function recorded<Result extends CommandResult | LocalResult>(
    request: CommandRequest,
    send: () => Promise<Result>,
  ): Promise<Result> {
    if (kind === "authentication" && !signInCommands.has(request.command.type)) return send();
    const at = wall();
    const ip = options.callerIp?.();
    const startedAt = monotonic();
    const write = (outcome: Outcome): void =>
      record(kind, {
        ...actOf(request, at),
        ...outcome,
        ...(ip === undefined ? {} : { ip }),
        latencyMs: Math.round((monotonic() - startedAt) * 1_000) / 1_000,
      });
    let result: Result;
    try {
      result = await send();
    } catch (error) {
      write({ outcome: "unavailable", code: codeOf(error), link: null });
      throw error;
    }
    write(outcomeOf(result));
    return result;
  }

  const submit: Databroker["submit"] = (request) => recorded(request, () => databroker.submit(request));
  const revokeLocally: Databroker["revokeLocally"] = async (request) => {
    const result = await recorded(request, async () => {
      const answer = await databroker.revokeLocally?.(request);
      if (answer === undefined) throw new TypeError("this databroker has no regional broker");
      return answer;
    });
    return result;
  };
  return new Proxy(databroker, {
    get(target, key) {
      if (key === "submit") return submit;
      if (key === "revokeLocally" && target.revokeLocally !== undefined) return revokeLocally;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

type Outcome = Pick<ActRecord, "outcome" | "code" | "link">;

function actOf({ commandId, actor, command }: CommandRequest, at: UnixMs): Omit<Act, keyof Outcome | "latencyMs"> {
  const targets = targetsOf(command);
  return {
    at,
    commandId,
    actor: typedActor(actor),
    command: command.type,
    targets: targets.slice(0, targetsMax),
    targetsMore: Math.max(0, targets.length - targetsMax),
    reason: "reason" in command && typeof command.reason === "string" ? textOf(command.reason, reasonCharsMax) : null,
  };
}

/** The log names an operator's token with a name that a person chose; the record has its id alone. */
export function typedActor(actor: string): string {
  const [, operator] = /^operator:(.*)$/s.exec(actor) ?? [];
  if (operator === undefined) return textOf(actor, idCharsMax);
  const token = operator.lastIndexOf("#");
  return textOf(token < 0 ? `user:${operator}` : `token:${operator.slice(token + 1)}`, idCharsMax);
}

function targetsOf(command: Command): readonly string[] {
  return Object.entries(command).flatMap(([part, value]: readonly [string, unknown]) => {
    const type = idParts[part];
    const ids: readonly unknown[] = type === undefined ? [] : Array.isArray(value) ? value : [value];
    return ids
      .filter((id) => typeof id === "string" || typeof id === "number")
      .map((id) => textOf(`${type}:${id}`, idCharsMax));
  });
}

function outcomeOf(result: CommandResult | LocalResult): Outcome {
  switch (result.type) {
    case "done":
      return { outcome: result.changed ? "done" : "unchanged", code: null, link: result.link };
    case "local":
      return { outcome: "region", code: null, link: null };
    case "refused":
      return { outcome: "refused", code: result.code, link: null };
    case "unavailable":
      return { outcome: "unavailable", code: result.code ?? null, link: null };
  }
}

function codeOf(error: unknown): string | null {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;
}

function textOf(text: string, charsMax: number): string {
  const clean = text.slice(0, charsMax).replace(controls, "\u{fffd}").toWellFormed();
  return text.length <= charsMax ? clean : `${clean}…(+${text.length - charsMax})`;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is removed
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g;
