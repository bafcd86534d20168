/**
 * Recorded question: the request of a decision as far as its record shows it. Only types; the proxy, which reads
 * requests, also reads records (src/proxy/request/recorded-request-reader.ts).
 */
import type { DecisionRecord, DecisionRequest } from "../../auth/index.ts";
import type { RouteConfig } from "../../config/index.ts";

export type RecordedQuestion = Readonly<
  | {
      type: "read";
      /** The route that the request belongs to; null: none. */
      routeId: string | null;
      /** Without headers and query, which a record does not have whole. */
      request: DecisionRequest;
      /** False: the record does not have the whole path. The route is then that of the record. */
      isPathWhole: boolean;
    }
  | { type: "unread"; why: string }
>;

/** Reads the records of decisions by one configuration. */
export type ReadRecord = (record: DecisionRecord) => RecordedQuestion;
export type RecordReaderOf = (routes: readonly RouteConfig[]) => ReadRecord;
