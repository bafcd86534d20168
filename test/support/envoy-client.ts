/**
 * Envoy client: a gRPC client that sends check requests as Envoy does.
 *
 * The interface is written here a second time, as a proto file. So tests check the server against an independent
 * reading of Envoy's documentation.
 */
import {
  type CallOptions,
  type ChannelCredentials,
  Client,
  type ClientUnaryCall,
  Metadata,
  type ServiceError,
} from "@grpc/grpc-js";
import protobuf from "protobufjs";

const interfaces = `
syntax = "proto3";
message CheckRequest { AttributeContext attributes = 1; }
message AttributeContext {
  message Peer {
    Address address = 1; string service = 2; map<string, string> labels = 3; string principal = 4; string certificate = 5;
  }
  message Request { Timestamp time = 1; HttpRequest http = 2; }
  message HttpRequest {
    string id = 1; string method = 2; map<string, string> headers = 3; string path = 4; string host = 5; string scheme = 6;
    string query = 7; string fragment = 8; int64 size = 9; string protocol = 10; string body = 11; bytes raw_body = 12;
    HeaderMap header_map = 13;
  }
  message TlsSession { string sni = 1; }
  Peer source = 1; Peer destination = 2; Request request = 4; map<string, string> context_extensions = 10; TlsSession tls_session = 12;
}
message Timestamp { int64 seconds = 1; int32 nanos = 2; }
message Address { oneof address { SocketAddress socket_address = 1; Pipe pipe = 2; } }
message Pipe { string path = 1; uint32 mode = 2; }
message SocketAddress { int32 protocol = 1; string address = 2; uint32 port_value = 3; }
message HeaderMap { repeated HeaderValue headers = 1; }
message HeaderValue { string key = 1; string value = 2; bytes raw_value = 3; }

message CheckResponse {
  Status status = 1;
  oneof http_response { DeniedHttpResponse denied_response = 2; OkHttpResponse ok_response = 3; }
  Struct dynamic_metadata = 4;
}
message Status { int32 code = 1; string message = 2; }
message HttpStatus { int32 code = 1; }
message DeniedHttpResponse { HttpStatus status = 1; repeated HeaderValueOption headers = 2; string body = 3; }
message OkHttpResponse {
  repeated HeaderValueOption headers = 2; repeated string headers_to_remove = 5;
  repeated HeaderValueOption response_headers_to_add = 6; repeated string query_parameters_to_remove = 8;
}
message HeaderValueOption { HeaderValue header = 1; BoolValue append = 2; int32 append_action = 3; bool keep_empty_value = 4; }
message BoolValue { bool value = 1; }
message Struct { map<string, Value> fields = 1; }
message Value { oneof kind { int32 null_value = 1; double number_value = 2; string string_value = 3; bool bool_value = 4; } }
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { int32 status = 1; }
`;
const { root } = protobuf.parse(interfaces, { keepCase: false });

export type HttpRequest = Partial<{
  method: string;
  headers: Readonly<Record<string, string>>;
  headerMap: Readonly<{ headers: readonly Readonly<{ key: string; value?: string; rawValue?: Uint8Array }>[] }>;
  path: string;
  host: string;
  scheme: string;
  query: string;
  fragment: string;
  body: string;
}>;
export type Attributes = Readonly<{
  source?: Readonly<{ address?: unknown; certificate?: string }>;
  request?: Readonly<{ http?: HttpRequest }>;
}>;
type Written = Readonly<{
  header: Readonly<{ key: string; value: string }>;
  append: Readonly<{ value: boolean }> | null;
}>;
export type Checked = Readonly<{
  status: Readonly<{ code: number; message: string }>;
  okResponse?: Readonly<{ headers?: Written[]; headersToRemove?: string[]; queryParametersToRemove?: string[] }>;
  deniedResponse?: Readonly<{ status: Readonly<{ code: number }>; headers?: Written[]; body: string }>;
  dynamicMetadata?: Readonly<{ fields: Readonly<Record<string, Readonly<{ stringValue: string }>>> }>;
}>;

export class EnvoyClient {
  readonly #client: Client;
  constructor(port: number, credentials: ChannelCredentials) {
    const named = credentials._isSecure() ? { "grpc.ssl_target_name_override": "localhost" } : {};
    this.#client = new Client(`127.0.0.1:${port}`, credentials, named);
  }

  check(
    attributes: Attributes | null,
    how: Readonly<{
      metadata?: Readonly<Record<string, string>>;
      options?: CallOptions;
      called?: (call: ClientUnaryCall) => void;
    }> = {},
  ): Promise<Checked> {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(how.metadata ?? {})) metadata.add(name, value);
    const call = {
      path: "/envoy.service.auth.v3.Authorization/Check",
      requestType: "CheckRequest",
      responseType: "CheckResponse",
    };
    return this.#call(call, attributes === null ? {} : { attributes }, { ...how, metadata }) as Promise<Checked>;
  }

  /** @returns 1: serving; 2: not serving */
  async health(): Promise<number> {
    const call = {
      path: "/grpc.health.v1.Health/Check",
      requestType: "HealthCheckRequest",
      responseType: "HealthCheckResponse",
    };
    const { status } = (await this.#call(call, { service: "" }, { metadata: new Metadata() })) as { status: number };
    return status;
  }

  #call(
    { path, requestType, responseType }: Readonly<{ path: string; requestType: string; responseType: string }>,
    body: object,
    {
      metadata,
      options,
      called,
    }: Readonly<{ metadata: Metadata; options?: CallOptions; called?: (call: ClientUnaryCall) => void }>,
  ): Promise<unknown> {
    const [request, response] = [root.lookupType(requestType), root.lookupType(responseType)];
    return new Promise((resolve, reject) => {
      const call = this.#client.makeUnaryRequest(
        path,
        (value: object) => Buffer.from(request.encode(request.fromObject(value)).finish()),
        (bytes: Buffer) => response.toObject(response.decode(bytes), { defaults: false, arrays: true }),
        body,
        metadata,
        options ?? {},
        (error: ServiceError | null, value?: unknown) => (error === null ? resolve(value) : reject(error)),
      );
      called?.(call);
    });
  }

  close(): void {
    this.#client.close();
  }
}

/**
 * The headers that Envoy would send to the upstream or the caller, by name.
 * @throws when a name occurs twice, or a header would be appended
 */
export function written(headers: readonly Written[] | undefined): Readonly<Record<string, string>> {
  const all: Record<string, string> = {};
  for (const { header, append } of headers ?? []) {
    if (append?.value !== false) throw new Error(`${header.key} would be added to what stands there`);
    if (header.key in all) throw new Error(`${header.key} is set twice`);
    all[header.key] = header.value;
  }
  return all;
}
