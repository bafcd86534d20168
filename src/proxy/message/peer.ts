import type { PresentedCertificate } from "../tls/presented-certificate.ts";

/** Caller: who is at the other end of a connection, as far as the connection itself tells. */
export type ConnectionPeer = Readonly<{
  /** Without port; IPv4 as IPv4. */
  address: string;
  /** Bytes of the socket that came before what the caller itself says. */
  skippedBytes: number;
  /** What it showed in its handshake. */
  certificate: PresentedCertificate | null;
}>;
