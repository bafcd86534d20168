/** Exchange kind: what a request is, or becomes by an upgrade. Pure. */

import type { ExchangeKind } from "../enforce/exchanges.ts";
import type { Downstream, UpgradeKind } from "./downstream-request.ts";

const kinds: Readonly<Record<UpgradeKind, ExchangeKind>> = {
  websocket: "websocket",
  other: "websocket", // counted together: connections that were handed over
  connect: "tcp",
  "connect-udp": "udp",
};

export function kindOf({ upgrade }: Pick<Downstream, "upgrade">): ExchangeKind {
  return upgrade === null ? "http" : kinds[upgrade];
}
