/**
 * Connection problem: a sentence for the operator on why a server could not be reached, with address, cause and remedy.
 *
 * Pure. Decides by error codes alone. For an unknown code it shows the messages of the whole chain of causes.
 */
type Remedies = Readonly<{
  /** How to name the authority to trust. */
  authority: string;
  /** Where the address came from. */
  address: string;
}>;

const operatorRemedies: Remedies = {
  authority: "name the authority in certificate_authority_file of the configuration, or in CERTIFICATE_AUTHORITY_FILE",
  address: "check CARDEA_URL, --url, or authenticate_service_url of the configuration",
};

const untrusted: ReadonlySet<string> = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);
const timedOut: ReadonlySet<string> = new Set([
  "ETIMEDOUT",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
]);
const closedEarly: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"]);
const unroutable: ReadonlySet<string> = new Set(["EHOSTUNREACH", "ENETUNREACH"]);
/** With one of these codes, the connection or its TLS handshake failed before a request could leave. */
const unconnected: ReadonlySet<string> = new Set([
  ...untrusted,
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
]);
const causesMax = 8;

export function describeConnectionProblem(url: URL, error: unknown, remedies = operatorRemedies): string {
  const causes = causesOf(error);
  const code = causes.map(codeOf).find((one) => one !== "") ?? "";
  const at = addressOf(causes) ?? url.host;
  return `cannot reach ${url.origin}: ${sentenceOf(code, { causes, at, url, remedies })}`;
}

/** False: no connection was made, so the server has received nothing. An error that is not known to say so does not. */
export function mayHaveBeenSent(error: unknown): boolean {
  return !causesOf(error).some((cause) => unconnected.has(codeOf(cause)) || isUnconnectedCall(cause));
}

/** `EHOSTUNREACH` and `ETIMEDOUT` also end open connections, so the call counts and not the code. */
function isUnconnectedCall(error: Error): boolean {
  return "syscall" in error && (error.syscall === "connect" || error.syscall === "getaddrinfo");
}

function sentenceOf(
  code: string,
  { causes, at, url, remedies }: Readonly<{ causes: readonly Error[]; at: string; url: URL; remedies: Remedies }>,
): string {
  const named = `(${code})`;
  if (code === "ECONNREFUSED")
    return `nothing listens at ${at} ${named}; check that Cardea runs there, and ${remedies.address}`;
  if (code === "ENOTFOUND" || code === "EAI_AGAIN")
    return `the name ${url.hostname} has no address in DNS ${named}; ${remedies.address}, or add it to host_aliases`;
  if (unroutable.has(code)) return `there is no route to ${at} ${named}; check the network and its firewalls`;
  if (timedOut.has(code) || causes.some(({ name }) => name === "TimeoutError"))
    return `${at} did not answer in time; check the network and its firewalls, and whether the server is overloaded`;
  if (untrusted.has(code))
    return `this machine does not trust the authority that signed the certificate of ${at} ${named}; ${remedies.authority}`;
  if (code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID")
    return `the certificate of ${at} is ${code === "CERT_HAS_EXPIRED" ? "expired" : "not valid yet"} ${named}; renew it, or correct the clock of this machine`;
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return `the certificate of ${at} is for other names ${named}: ${messagesOf(causes)}; ${remedies.address}`;
  if (code === "EPROTO" || code.startsWith("ERR_SSL_"))
    return `${at} does not speak TLS as expected ${named}; check the port, and whether the address starts with http or https`;
  if (closedEarly.has(code))
    return `${at} closed the connection before it answered ${named}; check the port, and the log of the server`;
  return `${messagesOf(causes)}${code === "" ? "" : ` ${named}`}`;
}

/** The error and its causes, outermost first. An AggregateError counts with its first error. */
function causesOf(error: unknown): readonly Error[] {
  const causes: Error[] = [];
  for (let at = error; at instanceof Error && causes.length < causesMax; ) {
    causes.push(at);
    at = at instanceof AggregateError ? at.errors[0] : at.cause;
  }
  return causes;
}

function messagesOf(causes: readonly Error[]): string {
  const messages = causes
    .map(({ message }) => message)
    .filter((message) => message !== "" && message !== "fetch failed");
  return messages.length === 0 ? "the request failed without a reason" : [...new Set(messages)].join(": ");
}

function codeOf(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : "";
}

function addressOf(causes: readonly Error[]): string | undefined {
  for (const cause of causes) {
    if ("address" in cause && "port" in cause && typeof cause.address === "string")
      return cause.address.includes(":") ? `[${cause.address}]:${cause.port}` : `${cause.address}:${cause.port}`;
  }
  return undefined;
}
