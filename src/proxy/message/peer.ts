/** Connection peer: the address and the client certificate of the other end of a connection. Only types. */
import type { X509Certificate } from "node:crypto";
import type { SubjectNames } from "../../config/index.ts";

/** The client certificate of a handshake (tls/presented-certificate.ts). */
export type PresentedCertificate = Readonly<{
  leaf: X509Certificate;
  leafPem: string;
  /** The rest of the presented chain; each certificate issued the one before it. */
  above: readonly X509Certificate[];
  /** It chains to an authority of the listener and permits client authentication. */
  verified: boolean;
  names: SubjectNames;
  /** SHA-256 fingerprint, 64 lowercase hexadecimal digits. */
  fingerprint: string;
}>;

/** What the connection itself says about the caller. */
export type ConnectionPeer = Readonly<{
  /** Without port; IPv4 as IPv4. */
  address: string;
  /** Bytes at the start of the socket that are not the caller's (PROXY protocol). */
  skippedBytes: number;
  /** The client certificate of its handshake; null: none. */
  certificate: PresentedCertificate | null;
}>;
