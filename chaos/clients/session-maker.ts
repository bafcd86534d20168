/** Session maker: creates sessions by command, as the authenticate service does at a sign-in, and their cookies. */
import { randomBytes, randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { createHandleCodec } from "../../src/auth/index.ts";
import { authKeys } from "../../src/cli/build/auth-keys.ts";
import { type Config, signInClientsOf } from "../../src/config/index.ts";
import {
  type CommandId,
  type Link,
  neededLink,
  parseGroupId,
  parseSessionId,
  parseUnixMs,
  type UserId,
  userIdOf,
} from "../../src/events/index.ts";
import { systemClock } from "../../src/replication/runtime/index.ts";
import { createBrokerClient } from "../../src/replication/wire/index.ts";
import { type CommandEntry, type Ns, nsPerMs } from "../judge/history.ts";
import type { HistoryFile } from "../judge/history-file.ts";
import type { RunClock } from "../judge/run-clock.ts";
import { emailOf, type Person, routes } from "../world.ts";

export type Made = Readonly<{ session: string; cookie: string; link: Link; expiresAt: Ns | null }>;
export type SessionMaker = Readonly<{
  /** @returns undefined when it is unknown whether the session exists; it is not used then */
  make(person: Person, life: "long" | "short"): Promise<Made | undefined>;
  userId(person: Person): UserId;
  close(): Promise<void>;
}>;

const lifeMs = { long: 3_600_000, short: 25_000 };
const patienceMs = 40_000;
const sessionsMax = 10_000;
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

export function createSessionMaker(options: {
  /** The first part of the names of its operations. */
  name: string;
  config: Config;
  issuer: string;
  now: RunClock;
  history: HistoryFile;
  stopping: () => boolean;
}): SessionMaker {
  const { config, issuer, now, history } = options;
  const client = createBrokerClient({
    urls: config.broker.urls,
    cluster: config.broker.clusterName,
    role: "authenticate",
    name: "chaos-sessions",
    secret: config.sharedSecret,
    clock: systemClock,
    randomBytes,
    logger: quiet,
  });
  const idpId = signInClientsOf(config).defaults.bearerIdpId;
  const handles = createHandleCodec({
    issuer: config.authenticateServiceUrl.hostname,
    keys: authKeys(config).handles,
    nowS: () => Math.floor(Date.now() / 1_000),
  });
  const userId = (person: Person): UserId => userIdOf(issuer, person.name);
  let made = 0;

  async function make(person: Person, life: "long" | "short"): Promise<Made | undefined> {
    made += 1;
    const op = `${options.name}-session-${made}`;
    const sessionId = parseSessionId(randomUUID());
    const commandId = randomUUID() as string as CommandId;
    const profile = {
      issuer,
      subject: person.name,
      email: emailOf(person.name),
      emailVerified: true,
      name: person.name,
      claims: { sub: [person.name], groups: [...person.groups] },
    };
    const at = Date.now();
    const expiresAt = now() + lifeMs[life] * nsPerMs; // read after the wall clock, so at most slightly late
    const giveUpAt = performance.now() + patienceMs;
    while (performance.now() < giveUpAt && !options.stopping()) {
      const begin = now();
      const result = await client
        .submit({
          commandId,
          actor: "service:authenticate",
          command: {
            type: "createSession",
            ...{ sessionId, userId: userId(person), idpId, profile },
            issuedAt: parseUnixMs(at),
            expiresAt: parseUnixMs(at + lifeMs[life]),
            tokens: { accessToken: null, refreshToken: null, idToken: null, accessTokenExpiresAt: null },
            groupIds: person.groups.map(parseGroupId),
            maxSessionsPerUser: sessionsMax,
          },
        })
        .catch((error: unknown) => ({ type: "unavailable" as const, message: String(error) }));
      const end = now();
      const entry: CommandEntry = {
        type: "command",
        op,
        intent: { type: "create-session", session: sessionId, user: person.name },
        region: config.region,
        commandId,
        begin,
        end,
        outcome: result.type === "unavailable" ? "unknown" : result.type,
        link: result.type === "done" ? result.link : null,
        changed: result.type === "done" && result.changed,
        problem: result.type === "done" ? "" : result.message,
      };
      history.write(entry);
      if (result.type === "refused") return undefined;
      if (result.type === "done") {
        const audience = routes.map((route) => route.host);
        const handle = { sessionId, userId: userId(person), idpId, needs: neededLink(result), audience };
        const cookie = `${config.cookie.name}=${await handles.issue(handle)}`;
        return { session: sessionId, cookie, link: result.link, expiresAt: life === "short" ? expiresAt : null };
      }
      await delay(100);
    }
    return undefined;
  }

  return { make, userId, close: () => client.close() };
}
