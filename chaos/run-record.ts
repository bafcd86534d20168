/** Run record of a chaos run: the type that drills use too, so that one page renders both. */
export type {
  NodeSample,
  NodeSeries,
  ProcessKind,
  Quantity,
  ReceiptMeasure,
  ReceiptNodeMeasure,
  RevocationMeasure,
  RunFault,
  RunRecord,
  Topology,
  TrafficSecond,
  TrafficSeries,
  Verdict,
} from "../src/cli/drill/run-record.ts";
