/** Revocation view: a local revocation as facts name it. Pure. */
import { mergeIdsOf, revocationKey, type SealedRevocation } from "../../src/replication/wire/index.ts";
import type { RevocationView } from "./revocation-facts.ts";

export function viewOf(sealed: SealedRevocation): RevocationView {
  const { revocation } = sealed;
  const { commandId, region, sessionIds, userId, command } = revocation;
  return {
    key: revocationKey(revocation),
    commandId,
    mergeIds: mergeIdsOf(sealed),
    region,
    sessions: sessionIds,
    suspended: command === "suspendUser" ? userId : null,
  };
}
