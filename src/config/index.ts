/** The configuration: its type, how it is read, and where every mistake in it stands. Neighbours import through this door. */

export { canonicalAddress, readSubjectNames, type SubjectNames, servedNames } from "./certificate-names.ts";
export { certificateReader } from "./certificate-reader.ts";
export type {
  AutocertConfig,
  BearerConfig,
  Config,
  DataSource,
  DecisionApiConfig,
  DownstreamMtls,
  HostPort,
  OnStale,
  Place,
  Places,
  PolicySource,
  Problem,
  RouteConfig,
  Service,
  SubjectNamePattern,
  SubjectNameType,
  SubPolicyConfig,
  TlsFiles,
  TokenIssuerConfig,
  TracingConfig,
  TunnelConfig,
  Upstream,
} from "./config.ts";
export { type LoadOptions, type LoadResult, loadConfig, readKeyFile } from "./config-loader.ts";
export type {
  BalancingConfig,
  BreakerConfig,
  HealthCheckConfig,
  OutlierConfig,
  Probe,
  StatusRange,
} from "./config-upstreams.ts";
export { canonicalConfig, canonicalJson } from "./hash.ts";
export { type HeaderPart, type HeaderTemplate, parseHeaderTemplate } from "./header-template.ts";
export type { RequestTemplate, ResourceWords, TemplatePart } from "./kinds-decisions.ts";
export { asksForHttp2, formatDuration, isLoopback, parseDuration, parseHostPort } from "./kinds-network.ts";
export { everyService } from "./kinds-process.ts";
export type { AccessLogField, AuthorizeLogField } from "./log-fields.ts";
export { exampleSecret, type FileContent, type ReadFile } from "./material.ts";
export type { Environment, Overrides } from "./overrides.ts";
export { type ParseOptions, type ParseResult, parseConfig, type WrittenPolicy } from "./parse-config.ts";
export { formatPath, formatProblem, type Path, placeIn, placeOf } from "./places.ts";
export { type Reload, reloadConfig } from "./reload.ts";
export type { GeneratedSecrets } from "./resolve-secrets.ts";
export { suggest } from "./suggest.ts";
export { windowLimits } from "./window-limits.ts";
export { readYaml, type YamlDocument } from "./yaml-document.ts";
