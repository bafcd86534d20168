/** Provider tokens on a node: fetched once for each state of a session, kept sealed, and dropped with the session. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import {
  type ActiveSession,
  type Link,
  type ProviderTokens,
  type SessionId,
  type Stream,
  sessionStream,
  userStream,
} from "../../../src/events/index.ts";
import { createProviderTokenSource, ProviderTokensBusyError } from "../../../src/proxy/headers/provider-tokens.ts";
import { sessionId, userId } from "../../events/support.ts";

const session = (n: number, refreshedAt = 0): ActiveSession =>
  ({ status: "active", sessionId: sessionId(n), userId: userId(n), refreshedAt }) as unknown as ActiveSession;
const touched = (...streams: Stream[]) => ({ link: {} as Link, touched: new Set(streams), rebuilt: false });

function start(options: { keptMax?: number; keptBytesMax?: number; askedMax?: number } = {}) {
  const fetches: SessionId[] = [];
  const waiting: (() => void)[] = [];
  const state = { held: false, fails: false };
  const tokens = createProviderTokenSource({
    ...options,
    randomBytes,
    async fetch(id): Promise<ProviderTokens | undefined> {
      fetches.push(id);
      if (state.held) await new Promise<void>((resolve) => waiting.push(resolve));
      if (state.fails) throw new Error("no broker");
      return { idToken: `id of ${id}`, accessToken: `access of ${id}`, refreshToken: "r", accessTokenExpiresAt: null };
    },
  });
  return { tokens, fetches, state, release: () => waiting.splice(0).map((resolve) => resolve()) };
}

test("tokens are fetched once, then cached, and fetched again after a refresh", async () => {
  const { tokens, fetches } = start();
  const first = tokens.of(session(1));
  assert.ok(first instanceof Promise);
  assert.equal(tokens.of(session(1)), first, "concurrent calls wait for the same result");
  const expected = { idToken: `id of ${sessionId(1)}`, accessToken: `access of ${sessionId(1)}` };
  assert.deepEqual(await first, expected);
  assert.deepEqual(tokens.of(session(1)), expected);
  assert.equal(fetches.length, 1);
  assert.deepEqual(await tokens.of(session(1, 5)), expected);
  assert.equal(fetches.length, 2);
});

test("the cache is bounded in bytes", async () => {
  const { tokens, fetches } = start({ keptBytesMax: 2_000 });
  for (const n of [1, 2, 3, 4, 5, 6]) await tokens.of(session(n));
  assert.ok(!(tokens.of(session(6)) instanceof Promise));
  await tokens.of(session(1));
  assert.equal(fetches.length, 7, "the oldest entry was dropped");
});

test("cached tokens are dropped with the session, with its user, and when the projection is rebuilt", async () => {
  const { tokens, fetches } = start();
  const ways = [touched(sessionStream(sessionId(1))), touched(userStream(userId(1))), { ...touched(), rebuilt: true }];
  for (const [i, change] of ways.entries()) {
    await tokens.of(session(1));
    tokens.onChange(change);
    assert.ok(tokens.of(session(1)) instanceof Promise);
    assert.equal(fetches.length, i + 2);
    await tokens.of(session(1));
  }
  tokens.onChange(touched(sessionStream(sessionId(2)), userStream(userId(2))));
  assert.ok(!(tokens.of(session(1)) instanceof Promise), "a change of another user drops nothing");
});

test("tokens that were fetched while the session changed are not cached", async () => {
  const { tokens, fetches, state, release } = start();
  state.held = true;
  const early = tokens.of(session(1));
  tokens.onChange(touched(sessionStream(sessionId(1))));
  release();
  await early;
  state.held = false;
  await tokens.of(session(1));
  assert.equal(fetches.length, 2);
});

test("the cache and the concurrent fetches are bounded, and a failure is not cached", async () => {
  const bounded = start({ keptMax: 2 });
  for (const n of [1, 2, 3]) await bounded.tokens.of(session(n));
  assert.ok(bounded.tokens.of(session(1)) instanceof Promise);

  const asking = start({ askedMax: 1 });
  asking.state.held = true;
  const first = asking.tokens.of(session(1));
  assert.throws(() => asking.tokens.of(session(2)), ProviderTokensBusyError);
  asking.release();
  await first;

  const failing = start();
  failing.state.fails = true;
  await assert.rejects(async () => failing.tokens.of(session(1)), /no broker/);
  failing.state.fails = false;
  assert.equal((await failing.tokens.of(session(1)))?.idToken, `id of ${sessionId(1)}`);
});
