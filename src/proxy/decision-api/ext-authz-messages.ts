/**
 * Messages of Envoy's external authorization over gRPC: the parts that this server reads and writes.
 *
 * - Names and numbers are those of Envoy's public interface (package envoy.service.auth.v3 and its imports, published
 *   under the Apache License 2.0), of google.rpc.Status, google.protobuf.Struct and grpc.health.v1.
 * - Fields that are not listed are skipped on input.
 * - Maps are declared as repeated entries, their form on the wire, so that a duplicate key is detected.
 * - The parsed values are not validated by their types: proto3 has no missing text, only empty text, and a missing
 *   message is null.
 */
import protobuf from "protobufjs/light.js";

export type HeaderValue = Readonly<{ key: string; value: string; rawValue: Uint8Array }>;
export type CheckedHttpRequest = Readonly<{
  method: string;
  headers: readonly Readonly<{ key: string; value: string }>[];
  headerMap: Readonly<{ headers: readonly HeaderValue[] }> | null;
  path: string;
  host: string;
  scheme: string;
  query: string;
  fragment: string;
}>;
export type CheckRequest = Readonly<{
  attributes: Readonly<{
    source: Readonly<{
      address: Readonly<{ socketAddress: Readonly<{ address: string }> | null }> | null;
      /** PEM, percent-encoded. */
      certificate: string;
    }> | null;
    request: Readonly<{ http: CheckedHttpRequest | null }> | null;
  }> | null;
}>;

export type HeaderValueOption = Readonly<{
  header: Readonly<{ key: string; value: string }>;
  append: Readonly<{ value: boolean }>;
}>;
/** A struct, by field name. */
export type Struct = Readonly<{
  fields: readonly Readonly<{ key: string; value: Readonly<{ stringValue: string }> }>[];
}>;
export type CheckResponse = Readonly<{
  status: Readonly<{ code: number; message: string }>;
  okResponse?: Readonly<{
    headers: readonly HeaderValueOption[];
    headersToRemove: readonly string[];
    queryParametersToRemove: readonly string[];
  }>;
  deniedResponse?: Readonly<{
    status: Readonly<{ code: number }>;
    headers: readonly HeaderValueOption[];
    body: string;
  }>;
  dynamicMetadata: Struct;
}>;

type Fields = Readonly<Record<string, readonly [id: number, type: string, rule?: "repeated"]>>;

function message(fields: Fields): protobuf.IType {
  const written = Object.entries(fields).map(([name, [id, type, rule]]) => [name, { id, type, ...(rule && { rule }) }]);
  return { fields: Object.fromEntries(written) };
}

const messages: Readonly<Record<string, Fields>> = {
  CheckRequest: { attributes: [1, "AttributeContext"] },
  AttributeContext: { source: [1, "Peer"], request: [4, "Request"] },
  Peer: { address: [1, "Address"], certificate: [5, "string"] },
  Address: { socketAddress: [1, "SocketAddress"] },
  SocketAddress: { address: [2, "string"] },
  Request: { http: [2, "HttpRequest"] },
  HttpRequest: {
    method: [2, "string"],
    headers: [3, "TextEntry", "repeated"],
    path: [4, "string"],
    host: [5, "string"],
    scheme: [6, "string"],
    query: [7, "string"],
    fragment: [8, "string"],
    headerMap: [13, "HeaderMap"],
  },
  TextEntry: { key: [1, "string"], value: [2, "string"] },
  HeaderMap: { headers: [1, "HeaderValue", "repeated"] },
  HeaderValue: { key: [1, "string"], value: [2, "string"], rawValue: [3, "bytes"] },

  CheckResponse: {
    status: [1, "Status"],
    deniedResponse: [2, "DeniedHttpResponse"],
    okResponse: [3, "OkHttpResponse"],
    dynamicMetadata: [4, "Struct"],
  },
  Status: { code: [1, "int32"], message: [2, "string"] },
  DeniedHttpResponse: {
    status: [1, "HttpStatus"],
    headers: [2, "HeaderValueOption", "repeated"],
    body: [3, "string"],
  },
  HttpStatus: { code: [1, "int32"] },
  OkHttpResponse: {
    headers: [2, "HeaderValueOption", "repeated"],
    headersToRemove: [5, "string", "repeated"],
    queryParametersToRemove: [8, "string", "repeated"],
  },
  HeaderValueOption: { header: [1, "HeaderValue"], append: [2, "BoolValue"] },
  BoolValue: { value: [1, "bool"] },
  Struct: { fields: [1, "StructEntry", "repeated"] },
  StructEntry: { key: [1, "string"], value: [2, "Value"] },
  Value: { stringValue: [3, "string"] },

  HealthCheckRequest: { service: [1, "string"] },
  HealthCheckResponse: { status: [1, "int32"] },
};

const root = protobuf.Root.fromJSON({
  nested: Object.fromEntries(Object.entries(messages).map(([name, fields]) => [name, message(fields)])),
});

/** Serializer and deserializer, as gRPC expects them. */
export type Form<T> = Readonly<{ serialize(value: T): Buffer; deserialize(bytes: Uint8Array): T }>;

function form<T>(name: string): Form<T> {
  const type = root.lookupType(name);
  return {
    serialize: (value) => Buffer.from(type.encode(type.fromObject(value as object)).finish()),
    deserialize: (bytes) => type.decode(bytes) as unknown as T,
  };
}

export const checkRequestForm = form<CheckRequest>("CheckRequest");
export const checkResponseForm = form<CheckResponse>("CheckResponse");
export const healthRequestForm = form<Readonly<{ service: string }>>("HealthCheckRequest");
export const healthResponseForm = form<Readonly<{ status: number }>>("HealthCheckResponse");
