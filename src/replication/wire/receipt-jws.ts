/**
 * Receipt JWS: signed receipts that an auditor can verify with nothing but the public keys.
 *
 * - A receipt is a JWT in a compact JWS (RFC 7515, 7519), EdDSA over Ed25519 (RFC 8037). Its key is derived from the
 *   shared secret for this purpose alone; `kid` is the thumbprint of the key (RFC 7638).
 * - The public keys are published as a JWK set. While the secret is being replaced, the set also holds the previous
 *   key. A reader that must check old receipts keeps the sets of their time.
 * - Verification needs no network: it checks signature, form and cluster, and that the statement is consistent
 *   (receipt-statement.ts).
 *
 * jose does the signing. Pure.
 */
import {
  CompactSign,
  calculateJwkThumbprint,
  compactVerify,
  decodeProtectedHeader,
  errors,
  exportJWK,
  importJWK,
  type JWK,
} from "jose";
import { deriveKey, type SigningPair, signingPairFromSeed } from "./cluster-keys.ts";
import {
  type LocalReceiptStatement,
  localContradictionIn,
  localReceiptType,
  parseLocalStatement,
} from "./local-receipt-jws.ts";
import { contradictionIn, parseStatement, type ReceiptStatement } from "./receipt-statement.ts";

export const receiptType = "cardea-receipt+jwt";
export const receiptKeysPath = "/.well-known/cardea/receipts/jwks.json";

/**
 * Public keys for the receipts of one or more clusters. `cluster` is a private member: the cluster whose receipts these
 * keys sign.
 */
export type ReceiptKeys = Readonly<{ cluster?: string; keys: readonly JWK[] }>;

export type SignReceipt = (statement: ReceiptStatement) => Promise<string>;

const pairOf = (secret: Uint8Array): SigningPair => signingPairFromSeed(deriveKey(secret, "receipt signature"));

export function createReceiptSigner(secret: Uint8Array): SignReceipt {
  return signerOf(secret, receiptType);
}

/** Signs receipts of one region (local-receipt-jws.ts), with the same key. */
export function createLocalReceiptSigner(secret: Uint8Array): (statement: LocalReceiptStatement) => Promise<string> {
  return signerOf(secret, localReceiptType);
}

function signerOf<Statement extends Readonly<{ cluster: string; at: string }>>(secret: Uint8Array, typ: string) {
  const pair = pairOf(secret);
  const named = publicJwk(pair);
  return async (statement: Statement) =>
    new CompactSign(Buffer.from(JSON.stringify({ ...registeredClaims(statement), ...statement }), "utf8"))
      .setProtectedHeader({ alg: "EdDSA", typ, kid: (await named).kid ?? "" })
      .sign(pair.privateKey);
}

/** @param of.secrets the shared secret, then the previous one while it is being replaced */
export async function receiptKeys(
  of: Readonly<{ cluster: string; secrets: readonly Uint8Array[] }>,
): Promise<ReceiptKeys> {
  return { cluster: of.cluster, keys: await Promise.all(of.secrets.map((secret) => publicJwk(pairOf(secret)))) };
}

/**
 * The registered claims that any JWT reader expects (RFC 7519). A receipt states a fact of the past, so it does not
 * expire.
 */
function registeredClaims({ cluster, at }: Readonly<{ cluster: string; at: string }>): object {
  return { iss: `cardea:${cluster}`, iat: Math.floor(Date.parse(at) / 1_000) };
}

async function publicJwk({ publicKey }: SigningPair): Promise<JWK> {
  const { kty, crv, x } = await exportJWK(publicKey);
  const bare: JWK = { kty: kty ?? "OKP", ...(crv === undefined ? {} : { crv }), ...(x === undefined ? {} : { x }) };
  return { ...bare, kid: await calculateJwkThumbprint(bare), use: "sig", alg: "EdDSA" };
}

export type ReceiptRefusal =
  | "not-a-receipt"
  | "another-cluster"
  | "unknown-key"
  | "bad-signature"
  | "malformed"
  | "contradictory";
type RefusedReceipt = Readonly<{ ok: false; reason: ReceiptRefusal; detail: string }>;
export type CheckedReceipt = Readonly<{ ok: true; statement: ReceiptStatement; kid: string }> | RefusedReceipt;
/** A genuine receipt of one region, or why it is refused. */
export type CheckedLocalReceipt = Readonly<{ ok: true; local: LocalReceiptStatement; kid: string }> | RefusedReceipt;

/** Upper bound of a receipt; larger than one with 20,000 nodes. */
const bytesMax = 16 * 1024 * 1024;

/** What the two types of receipts differ in. */
type Form<Statement> = Readonly<{
  typ: string;
  statementIn: (jws: string) => Statement | undefined;
  contradictionIn: (statement: Statement) => string | undefined;
}>;

const clusterForm: Form<ReceiptStatement> = { typ: receiptType, statementIn, contradictionIn };
const localForm: Form<LocalReceiptStatement> = {
  typ: localReceiptType,
  statementIn: localStatementIn,
  contradictionIn: localContradictionIn,
};

/** Verifies a receipt of the cluster offline. @param sets the trusted key sets */
export async function checkReceipt(text: string, sets: readonly ReceiptKeys[]): Promise<CheckedReceipt> {
  return check(text, sets, clusterForm);
}

/** Verifies a receipt of one region offline. @param sets the trusted key sets */
export async function checkLocalReceipt(text: string, sets: readonly ReceiptKeys[]): Promise<CheckedLocalReceipt> {
  const checked = await check(text, sets, localForm);
  return checked.ok ? { ok: true, local: checked.statement, kid: checked.kid } : checked;
}

/** Whether the text calls itself a receipt of one region; nothing is verified. */
export function isLocalReceipt(text: string): boolean {
  return headerOf(text.trim())?.typ === localReceiptType;
}

async function check<Statement extends Readonly<{ cluster: string }>>(
  text: string,
  sets: readonly ReceiptKeys[],
  form: Form<Statement>,
): Promise<Readonly<{ ok: true; statement: Statement; kid: string }> | RefusedReceipt> {
  const jws = text.trim();
  const header = headerOf(jws);
  if (header === undefined || header.typ !== form.typ)
    return refused("not-a-receipt", `this is not a signed receipt (a compact JWS of type ${form.typ})`);
  if (header.alg !== "EdDSA")
    return refused("not-a-receipt", `receipts are signed with EdDSA, and this one names ${header.alg}`);
  const { kid } = header;
  const said = form.statementIn(jws);
  const known = sets.flatMap(({ keys, cluster }) => keys.map((key) => ({ key, cluster })));
  const matching = known.filter(({ key }) => key.kid === kid && key.kty === "OKP" && key.crv === "Ed25519");
  if (kid === undefined || matching.length === 0) return unknownKey(kid, said, sets);
  for (const { key, cluster } of matching) {
    const verified = await verifies(jws, key);
    if (!verified) continue;
    if (said === undefined)
      return refused("malformed", "it is signed by this cluster, but has a form that this version does not know");
    if (cluster !== undefined && cluster !== said.cluster) return ofAnother(said.cluster, cluster);
    const contradiction = form.contradictionIn(said);
    return contradiction === undefined
      ? { ok: true, statement: said, kid }
      : refused("contradictory", `it contradicts itself: ${contradiction}`);
  }
  return refused("bad-signature", "the signature does not match: the receipt was altered or forged");
}

function unknownKey(
  kid: string | undefined,
  said: Readonly<{ cluster: string }> | undefined,
  sets: readonly ReceiptKeys[],
): RefusedReceipt {
  const ours = sets.flatMap(({ cluster }) => cluster ?? []);
  if (said !== undefined && ours.length > 0 && !ours.includes(said.cluster))
    return ofAnother(said.cluster, ours.join(", "));
  return refused(
    "unknown-key",
    `it names the key ${kid ?? "(none)"}, which is not among those given: a change of shared_secret has retired it (give the key set of its time too), or it never belonged to this cluster`,
  );
}

function ofAnother(theirs: string, ours: string): RefusedReceipt {
  return refused(
    "another-cluster",
    `it is a receipt of cluster ${JSON.stringify(theirs)}, and the keys belong to ${ours}`,
  );
}

async function verifies(jws: string, key: JWK): Promise<boolean> {
  try {
    await compactVerify(jws, await importJWK(key, "EdDSA"), { algorithms: ["EdDSA"] });
    return true;
  } catch (error) {
    if (error instanceof errors.JOSEError || error instanceof TypeError || error instanceof DOMException) return false;
    throw error;
  }
}

function headerOf(jws: string): Readonly<{ alg?: string; typ?: string; kid?: string }> | undefined {
  if (jws.length > bytesMax || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(jws)) return undefined;
  try {
    return decodeProtectedHeader(jws);
  } catch {
    return undefined;
  }
}

/** Reads the statement without verifying the signature, for a caller that got the receipt from the cluster itself. */
export function statementIn(jws: string): ReceiptStatement | undefined {
  return parseStatement(claimsIn(jws));
}

/** As `statementIn`, for a receipt of one region. */
export function localStatementIn(jws: string): LocalReceiptStatement | undefined {
  return parseLocalStatement(claimsIn(jws));
}

function claimsIn(jws: string): unknown {
  try {
    return JSON.parse(Buffer.from(jws.split(".")[1] ?? "", "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
}

function refused(reason: ReceiptRefusal, detail: string): RefusedReceipt {
  return { ok: false, reason, detail };
}

/** @returns undefined when the value is not a JWK set */
export function parseReceiptKeys(value: unknown): ReceiptKeys | undefined {
  if (typeof value !== "object" || value === null || !("keys" in value) || !Array.isArray(value.keys)) return undefined;
  const keys = value.keys.filter((key): key is JWK => typeof key === "object" && key !== null && !Array.isArray(key));
  const cluster = "cluster" in value && typeof value.cluster === "string" ? value.cluster : undefined;
  return { keys, ...(cluster === undefined ? {} : { cluster }) };
}
