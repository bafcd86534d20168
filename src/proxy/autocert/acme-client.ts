/**
 * ACME client: orders one certificate from one authority with the library `acme-client`.
 *
 * The library has global HTTP settings, so a process uses one authority. It is loaded only when there is something to
 * order: it brings two more HTTP and crypto libraries, and most proxies have no authority.
 * @see RFC 8555; RFC 8737 for TLS-ALPN-01
 */

import { Agent } from "node:https";
import { getCACertificates } from "node:tls";
import type acmeClient from "acme-client";
import type { AutocertConfig, TlsFiles } from "../../config/index.ts";
import { CodedError } from "../../events/index.ts";
import type { Account } from "./autocert-folder.ts";

export type ChallengeType = "http-01" | "tls-alpn-01";

/** Publishes the answers to challenges. */
export type ChallengeBoard = Readonly<{
  offerAnswer(token: string, answer: string): void;
  offerCertificate(host: string, pair: TlsFiles): void;
  takeBack(question: Readonly<{ token: string; host: string }>): void;
}>;

const requestMsMax = 30_000;
/** About three minutes for the authority to validate, and as long to issue. */
const patience = { backoffAttempts: 40, backoffMin: 500, backoffMax: 5_000 };

type Acme = typeof acmeClient;

async function load(): Promise<Acme> {
  return (await import("acme-client")).default;
}

export async function createAccountKey(): Promise<string> {
  const acme = await load();
  return (await acme.crypto.createPrivateEcdsaKey("P-256")).toString();
}

/** The authority offers no challenge type that can be answered here. */
export class NoChallengeError extends CodedError<"ERR_PROXY_ACME_NO_CHALLENGE"> {
  override readonly code = "ERR_PROXY_ACME_NO_CHALLENGE";
  constructor(host: string, type: ChallengeType) {
    super(`the authority offers no ${type} for ${host}`);
  }
}

/** @returns the certificate with its chain and its new key, and the account URL */
export async function orderCertificate(
  settings: Pick<AutocertConfig, "directory" | "email" | "eab" | "trustedCa">,
  order: Readonly<{ host: string; account: Account; type: ChallengeType; board: ChallengeBoard }>,
): Promise<Readonly<{ pair: TlsFiles; accountUrl: string }>> {
  const { host, account, type, board } = order;
  const acme = await load();
  setUpHttp(acme, settings.trustedCa);
  const client = new acme.Client({
    directoryUrl: settings.directory.href,
    accountKey: account.key,
    ...(account.url === null ? {} : { accountUrl: account.url }),
    ...(settings.eab === null
      ? {}
      : { externalAccountBinding: { kid: settings.eab.keyId, hmacKey: settings.eab.macKey } }),
    ...patience,
  });
  if (account.url === null) {
    await client.createAccount({
      termsOfServiceAgreed: true,
      ...(settings.email === null ? {} : { contact: [`mailto:${settings.email}`] }),
    });
  }
  const placed = await client.createOrder({ identifiers: [{ type: "dns", value: host }] });
  for (const authorization of await client.getAuthorizations(placed)) {
    if (authorization.status === "valid") continue;
    const challenge = authorization.challenges.find((each) => each.type === type);
    if (challenge === undefined) throw new NoChallengeError(host, type);
    const answer = await client.getChallengeKeyAuthorization(challenge);
    try {
      if (type === "http-01") board.offerAnswer(challenge.token, answer);
      else board.offerCertificate(host, await alpnCertificate(acme, authorization, answer));
      await client.completeChallenge(challenge);
      await client.waitForValidStatus(challenge);
    } finally {
      board.takeBack({ token: challenge.token, host });
    }
  }
  const key = await acme.crypto.createPrivateEcdsaKey("P-256");
  const [, csr] = await acme.crypto.createCsr({ altNames: [host] }, key);
  const finalized = await client.finalizeOrder(placed, csr);
  const cert = await client.getCertificate(finalized);
  return { pair: { cert, key: key.toString() }, accountUrl: client.getAccountUrl() };
}

async function alpnCertificate(
  acme: Acme,
  authorization: Parameters<Acme["crypto"]["createAlpnCertificate"]>[0],
  answer: string,
): Promise<TlsFiles> {
  const [key, cert] = await acme.crypto.createAlpnCertificate(
    authorization,
    answer,
    await acme.crypto.createPrivateEcdsaKey("P-256"),
  );
  return { cert: cert.toString(), key: key.toString() };
}

function setUpHttp(acme: Acme, trustedCa: string | null): void {
  const { defaults } = acme.axios;
  defaults.timeout = requestMsMax;
  defaults.maxRedirects = 0; // an authority does not redirect; a redirect could lead into the internal network
  defaults.httpsAgent = new Agent(trustedCa === null ? {} : { ca: [...getCACertificates(), trustedCa] });
  // Retries of the library; our own follow at longer intervals.
  Object.assign((defaults as unknown as { acmeSettings: object }).acmeSettings, { retryMaxAttempts: 2 });
}
