/**
 * Schema of the decision API, which serves decisions to other proxies and services. In the order of the documentation.
 */
import * as z from "zod";
import { resourceTemplates } from "../values/decision-values.ts";
import { hostPort } from "../values/network-values.ts";
import { filePath, secretString, stringList, stringMap, stringValue } from "../values/value-type.ts";
import { cardea } from "./keys.ts";

export const decisionKeys = {
  decision_api: cardea(
    z.strictObject({
      address: cardea(
        hostPort().optional(),
        "The address that serves forward-auth, Envoy's `ext_authz` over HTTP, and AuthZEN (docs/decisions.md). Absent: none.",
        { reload: "restart", inConfig: "value" },
      ),
      grpc_address: cardea(
        hostPort().optional(),
        "The address that serves Envoy's `ext_authz` over gRPC, with the same certificate. Absent: none.",
        { reload: "restart", inConfig: "value" },
      ),
      certificate: cardea(
        stringValue().optional(),
        "The certificate for TLS: PEM, or base64 of it. Needed unless the addresses are on loopback.",
        { reload: "restart", configPaths: ["decisionApi.tls"] },
      ),
      certificate_file: cardea(filePath().optional(), "The same, from a file."),
      certificate_key: cardea(secretString().optional(), "The key of `decision_api.certificate`.", {
        secret: "decisionApi.tls.key",
        reload: "restart",
        configPaths: ["decisionApi.tls"],
      }),
      certificate_key_file: cardea(filePath().optional(), "The same, from a file."),
      client_ca: cardea(
        stringValue().optional(),
        "An authority that issues certificates to your proxies alone: PEM, or base64 of it. A caller with such a certificate is a trusted proxy, from any address; over gRPC no caller can connect without one.",
        { reload: "restart" },
      ),
      client_ca_file: cardea(filePath().optional(), "The same, from a file."),
      trusted_proxies: cardea(
        stringList("IP or CIDR").prefault([]),
        "Proxies that may use forward-auth and `ext_authz`, and that are trusted to state method, host, path and caller. Other callers are refused; by default, all are.",
        { inConfig: "value" },
      ),
      keys: cardea(
        stringMap("name to key").prefault({}),
        "Services that may use AuthZEN, and proxies that may use gRPC: a name, for the log, and the key that they send as a bearer token, 32 characters or more.",
        { secret: "decisionApi.keys.*", inConfig: "value" },
      ),
      lists_people: cardea(
        stringList("name of a key").prefault([]),
        "Which of `decision_api.keys` may list who may use a route (AuthZEN's subject search). By default none, since the answer is a list of people.",
        { inConfig: "value" },
      ),
      subject_issuer: cardea(
        stringValue().optional(),
        "The issuer (`iss`) whose subjects the ids of AuthZEN's `user` and `identity` are, where a request does not name one in `properties.issuer`. Absent: the ids of `user` are Cardea's own.",
        { inConfig: "value" },
      ),
      resources: cardea(
        resourceTemplates().prefault({}),
        "How resources and actions of AuthZEN map to HTTP requests: `todo: {can_update: PUT https://app.example.com/todos/{id}}` (docs/authzen.md).",
        { inConfig: "value" },
      ),
    }),
    "Decisions for other proxies and services, from this node's own projection.",
  ),
};
