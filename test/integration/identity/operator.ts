/** Test support: the operator API of a test installation, with an operator token. */
import { randomUUID } from "node:crypto";
import { mintOperatorToken, operatorApiPrefix } from "../../../src/console/index.ts";
import type { Installation } from "./installation.ts";

async function authorizationOf(at: Installation): Promise<string> {
  const config = at.services.config();
  const token = await mintOperatorToken({
    ...{ secret: config.sharedSecret, cluster: config.broker.clusterName, name: "test", tokenId: randomUUID() },
    ...{ nowS: Math.floor(Date.now() / 1_000), ttlS: 60 },
  });
  return `Bearer ${token}`;
}

/** @param path below the operator API */
export async function readOperatorApi<Answer>(at: Installation, path: string): Promise<Answer> {
  const headers = { authorization: await authorizationOf(at), accept: "application/json" };
  const answer = await at.visitor().request(at.url("authenticate", `${operatorApiPrefix}${path}`), { headers });
  if (answer.status !== 200) throw new Error(`the operator API answered ${answer.status}: ${answer.body}`);
  return JSON.parse(answer.body) as Answer;
}

/** Revokes a session, and waits until every node has applied it. */
export async function revokeSession(at: Installation, sessionId: string): Promise<void> {
  const answer = await at
    .visitor()
    .request(at.url("authenticate", `${operatorApiPrefix}/sessions/${sessionId}/revoke`), {
      method: "POST",
      headers: { authorization: await authorizationOf(at), "content-type": "application/json" },
      body: JSON.stringify({ wait: "all" }),
    });
  if (answer.status !== 200) throw new Error(`the operator API answered ${answer.status}: ${answer.body}`);
}
