/**
 * Check reply: a decision in the form that Envoy reads over gRPC. Pure.
 *
 * Envoy enforces every reply, so a node that cannot decide also sends a reply. After a failed call, Envoy with
 * `failure_mode_allow` would permit the request. The body and headers of a denial are those of the HTTP form.
 */
import { grpcStatus } from "../reply/local-reply.ts";
import { type ApiDecision, statusOf } from "./api-decision.ts";
import { upstreamChanges } from "./ext-authz-headers.ts";
import type { CheckResponse, HeaderValueOption, Struct } from "./ext-authz-messages.ts";
import { type ExternalAuthReplyParts, externalAuthReplyOf } from "./external-auth-reply.ts";

export type CheckReplyParts = Pick<ExternalAuthReplyParts, "requestId" | "now" | "deps"> &
  Readonly<{
    /** Dynamic metadata for Envoy's own log (`envoy.filters.http.ext_authz`). */
    metadata: Readonly<Record<string, string>>;
  }>;

export function checkReplyOf(verdict: ApiDecision, parts: CheckReplyParts): CheckResponse {
  const dynamicMetadata = structOf(parts.metadata);
  if (verdict.type === "permit") {
    const { set, removed, removedParameters } = upstreamChanges(verdict, parts.deps.config);
    return {
      status: { code: 0, message: "" },
      okResponse: {
        headers: set.map(([name, value]) => replaced(name, oneLine(value))),
        headersToRemove: removed,
        queryParametersToRemove: removedParameters,
      },
      dynamicMetadata,
    };
  }
  const { status, headers, body } = externalAuthReplyOf(verdict, { ...parts, form: "ext-authz", redirects: true });
  return {
    status: { code: grpcStatus(statusOf(verdict)), message: verdict.type },
    deniedResponse: {
      status: { code: status },
      headers: headers.map(([name, value]) => replaced(name, Buffer.from(value, "latin1").toString("utf8"))),
      body,
    },
    dynamicMetadata,
  };
}

/** Replaces a header. Every Envoy with this interface supports `append`; without it some would add a second line. */
function replaced(key: string, value: string): HeaderValueOption {
  return { header: { key, value }, append: { value: false } };
}

/** Replaces control characters. Envoy sends the text as UTF-8. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced
  return text.replace(/[\u0000-\u001f\u007f]/g, " ");
}

function structOf(values: Readonly<Record<string, string>>): Struct {
  return { fields: Object.entries(values).map(([key, stringValue]) => ({ key, value: { stringValue } })) };
}
