/** SCIM error: a refusal in the form of RFC 7644 §3.12. Pure. */
import { CodedError } from "../../../events/index.ts";

/** The values of `scimType` that RFC 7644 §3.12 defines and this server uses. */
export type ScimType =
  | "invalidFilter"
  | "tooMany"
  | "uniqueness"
  | "mutability"
  | "invalidSyntax"
  | "invalidPath"
  | "noTarget"
  | "invalidValue"
  | "invalidVers";

export const errorSchema = "urn:ietf:params:scim:api:messages:2.0:Error";

export class ScimError extends CodedError<"ERR_AUTH_SCIM"> {
  override readonly code = "ERR_AUTH_SCIM";
  readonly status: number;
  readonly scimType: ScimType | null;
  /** For 503: when a repetition may succeed, in seconds. */
  readonly retryAfter: number;
  constructor(status: number, detail: string, scimType: ScimType | null = null, retryAfter = 1) {
    super(detail);
    this.retryAfter = retryAfter;
    this.status = status;
    this.scimType = scimType;
  }
}

/** The body; `status` is text. */
export function errorBody({ status, message, scimType }: Pick<ScimError, "status" | "message" | "scimType">): object {
  return {
    schemas: [errorSchema],
    status: String(status),
    ...(scimType === null ? {} : { scimType }),
    detail: message,
  };
}

export const badValue = (detail: string): ScimError => new ScimError(400, detail, "invalidValue");
export const notFound = (): ScimError => new ScimError(404, "there is no such resource");
