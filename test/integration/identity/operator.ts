/** Test support: revokes sessions of a test installation through the operator API, with an operator token. */
import { randomUUID } from "node:crypto";
import { mintOperatorToken, operatorApiPrefix } from "../../../src/console/index.ts";
import type { Installation } from "./installation.ts";

/** Revokes a session, and waits until every node has applied it. */
export async function revokeSession(at: Installation, sessionId: string): Promise<void> {
  const config = at.services.config();
  const token = await mintOperatorToken({
    ...{ secret: config.sharedSecret, cluster: config.broker.clusterName, name: "test", tokenId: randomUUID() },
    ...{ nowS: Math.floor(Date.now() / 1_000), ttlS: 60 },
  });
  const answer = await at
    .visitor()
    .request(at.url("authenticate", `${operatorApiPrefix}/sessions/${sessionId}/revoke`), {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ wait: "all" }),
    });
  if (answer.status !== 200) throw new Error(`the operator API answered ${answer.status}: ${answer.body}`);
}
