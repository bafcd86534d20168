/** Entry point of the wire: messages, envelopes, keys, signatures, and the HTTP client of the databroker API. */

export {
  type AuditSeal,
  auditSealBytesMax,
  checkAuditSeal,
  codeBlockBytes,
  codeBlocksMax,
  codeLeavesMax,
  encodeAuditSeal,
  leafMarksMax,
  lostRangesMax,
  markBytes,
  marksMax,
  type OfflineSeal,
  openAuditSeal,
  readAuditSeal,
  type SealedRange,
  sealSignersOpener,
} from "./audit-seal.ts";
export {
  type BrokerClient,
  type BrokerClientOptions,
  createBrokerClient,
  headerIn,
  type LastGood,
  statusPath,
} from "./broker-client.ts";
export { AnswerNotBelievedError, BrokerRefusedError, InsecureBrokerUrlError } from "./broker-errors.ts";
export {
  believeGrant,
  believeGrantByAge,
  createBrokerOpener,
  type EnvelopeOpener,
  openGrant,
  type Refusal,
  type RefusedEnvelope,
} from "./broker-opener.ts";
export { BrokerUnavailableError, type UnansweredReason } from "./broker-unavailable-error.ts";
export { parseClusterStatus, parseCommandResult, parseReceipt, parseSnapshotAsked } from "./broker-wire.ts";
export {
  auditCheckpointPair,
  deriveKey,
  enrolmentRoot,
  hmacKey,
  personKeyWrap,
  publicKeyFromRaw,
  type Role,
  rawPublicKey,
  type SigningPair,
  sealingKey,
  serviceTokenKey,
  signingPairFromSeed,
  vaultKey,
} from "./cluster-keys.ts";
export {
  type Certificate,
  createEnvelopeOpener,
  enrolKey,
  type MessageKind,
  type Opened,
  type RefusedMessage,
  type Signer,
  sealEnvelope,
} from "./envelope.ts";
export { signatureBytes } from "./envelope-shape.ts";
export { openHs256 } from "./hs256.ts";
export { formatLeaseRefusal, type LeaseRefusalBody, parseLeaseRefusal } from "./lease-refusal-body.ts";
export {
  type LocalReceiptStatement,
  localPromiseOf,
  localReceiptType,
  stateLocalReceipt,
} from "./local-receipt-jws.ts";
export {
  deniedStreams,
  encodeRevocation,
  isSameChange,
  type LocalCommand,
  type LocalCommandType,
  type LocalRevocation,
  localCommands,
  mergeIdsOf,
  openRevocation,
  revocationIdsMax,
  revocationIn,
  revocationKey,
  type SealedRevocation,
} from "./local-revocation.ts";
export {
  addressCharsMax,
  addressesMax,
  type Batch,
  type Confirm,
  encodeMessage,
  type Goodbye,
  type Grant,
  MalformedMessageError,
  parseAddresses,
  parseBatch,
  parseConfirm,
  parseGoodbye,
  parseGrant,
  parseLinkMap,
  parseRenew,
  parseStorePosition,
  parseWrappedKey,
  type Renew,
  type SolePathClaim,
  type StorePosition,
  storesMax,
} from "./messages.ts";
export {
  bootIdOf,
  commitsToKey,
  mayUseBoot,
  type NodeIdentity,
  type NodeKey,
  type NodeRole,
  nodeKeyFrom,
  provesReplacement,
  signReplacement,
} from "./node-key.ts";
export {
  type CheckedLocalReceipt,
  type CheckedReceipt,
  checkLocalReceipt,
  checkReceipt,
  createLocalReceiptSigner,
  createReceiptSigner,
  isLocalReceipt,
  localStatementIn,
  parseReceiptKeys,
  type ReceiptKeys,
  type ReceiptRefusal,
  receiptKeys,
  receiptKeysPath,
  type SignReceipt,
  statementIn,
} from "./receipt-jws.ts";
export {
  changesIn,
  contradictionIn,
  digestOfIds,
  durabilityWords,
  promiseOf,
  type ReceiptStatement,
  type RecordedChange,
  type StatedChange,
  type StatedNode,
  stateReceipt,
} from "./receipt-statement.ts";
export {
  bodyDigest,
  callText,
  createCallSigner,
  homeHeader,
  type ServiceCall,
  type SignedCall,
  serviceTokenSeconds,
} from "./service-call.ts";
export {
  type AnswerRefusal,
  answererOf,
  answerHeader,
  type GivenAnswer,
  mustBeSealed,
  refuseAnswer,
  sealAnswer,
} from "./signed-answer.ts";
export {
  formatUnavailable,
  homeRetryAfterMs,
  notHomeBody,
  parseUnavailable,
  type UnavailableBody,
} from "./unavailable-body.ts";
