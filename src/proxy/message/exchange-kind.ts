/** Exchange kind: what a request is, or becomes by an upgrade. Pure. */
import type { Downstream, UpgradeKind } from "./downstream-request.ts";

/** tcp and udp are tunnels: bytes and datagrams that the proxy does not parse as HTTP. */
export type ExchangeKind = "http" | "websocket" | "tcp" | "udp";

const kinds: Readonly<Record<UpgradeKind, ExchangeKind>> = {
  websocket: "websocket",
  other: "websocket", // counted together: connections that were handed over
  connect: "tcp",
  "connect-udp": "udp",
};

export function kindOf({ upgrade }: Pick<Downstream, "upgrade">): ExchangeKind {
  return upgrade === null ? "http" : kinds[upgrade];
}
