/**
 * Trace text: W3C trace context carried through the redirects of a sign-in, so that one sign-in is one trace
 * (docs/pomerium-behaviour.md §7.3).
 *
 * A browser does not carry the header across redirects, so URL parameters and the provider's `state` do. It identifies
 * no person and affects no decision. Pure.
 */
import { parameter } from "../sign-in/signed-url.ts";
import { isProviderCallback } from "./provider-callback.ts";

/** `traceparent` and `tracestate` as in the headers of W3C Trace Context; the state may be empty. */
export type TraceText = Readonly<{ parent: string; state: string }>;

const parentPattern = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/;
/** Longer values are dropped, because they would not fit into an address. */
const statePattern = /^[\x21-\x7e\t ]{0,256}$/;

export function traceText(parent: string | null | undefined, state: string | null | undefined): TraceText | null {
  if (parent === null || parent === undefined || !parentPattern.test(parent)) return null;
  return { parent, state: statePattern.test(state ?? "") ? (state ?? "") : "" };
}

export function traceOf(url: URL): TraceText | null {
  const { searchParams } = url;
  return traceText(searchParams.get(parameter.traceparent), searchParams.get(parameter.tracestate));
}

export function addTrace(url: URL, trace: TraceText | null): void {
  if (trace === null) return;
  url.searchParams.set(parameter.traceparent, trace.parent);
  if (trace.state !== "") url.searchParams.set(parameter.tracestate, trace.state);
}

/**
 * An OAuth state with the trace in plain text next to the sealed part: the callback reads it before it opens the state.
 */
export const stateWithTrace = (sealed: string, trace: TraceText | null): string =>
  trace === null ? sealed : `${sealed}~${trace.parent}`;

export function splitState(state: string): Readonly<{ sealed: string; trace: TraceText | null }> {
  const at = state.indexOf("~");
  return at < 0
    ? { sealed: state, trace: null }
    : { sealed: state.slice(0, at), trace: traceText(state.slice(at + 1), null) };
}

/** The trace context in the query of a request to a reserved path. */
export function traceInTarget(path: string, search: string): TraceText | null {
  if (!search.includes("traceparent") && !search.includes("state=")) return null;
  const parameters = new URLSearchParams(search);
  if (isProviderCallback(path)) return splitState(parameters.get("state") ?? "").trace;
  return traceText(parameters.get(parameter.traceparent), parameters.get(parameter.tracestate));
}
